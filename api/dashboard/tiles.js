/** The figures that matter most: the best trade-off so far, beside the best of the given models. */

import { fill, h, keepingFocus } from "./element.js";
import * as format from "./format.js";
import { hrefWith } from "./router.js";
import { averaged, meanScore, objectiveLabel, shortLabel } from "./search-log.js";

export class Tiles {
  constructor(log) {
    this.log = log;
    this.element = h("ul", { class: "tiles", "aria-label": "The best trade-off so far" });
  }

  draw() {
    const best = this.log.best;
    keepingFocus(this.element, () =>
      fill(
        this.element,
        this.#headline(best),
        this.log.objectives.map((objective) => this.#tile(objective, best)),
        this.#frontTile(),
      ),
    );
  }

  #headline(best) {
    if (best === null) return tile("Best trade-off", format.NONE, "nothing is scored yet");
    const { objectives } = this.log;
    const link = h(
      "a",
      { href: hrefWith({ candidate: best.ordinal }), "data-key": "best" },
      best.label,
    );
    const mean = meanScore(best, objectives);
    const means = this.log.baselines
      .map((candidate) => [meanScore(candidate, objectives), candidate])
      .filter(([value]) => value !== null);
    if (averaged(objectives).length < 2 || means.length === 0)
      return tile("Best trade-off", link, "by the objectives' weights", "headline");
    const [rival, given] = means.reduce((a, b) => (b[0] > a[0] ? b : a));
    const kind =
      averaged(objectives).length === objectives.length
        ? "mean score"
        : `mean of ${averaged(objectives).length} scores`;
    const note =
      given === best
        ? "the best given model"
        : `${format.difference(mean - rival)} on ${given.label}`;
    return tile(["Best trade-off ", link], format.score(mean), `${kind}, ${note}`, "headline");
  }

  /** Beside each score stands the best of base, parents and average. */
  #tile(objective, best) {
    const label = h(
      "span",
      { title: objectiveLabel(objective) },
      shortLabel(objective, this.log.objectives),
    );
    if (best === null) return tile(label, format.NONE, "");
    const given = this.log.bestAt(objective, this.log.baselines);
    const note = given
      ? `${given.label} has ${format.score(given.scores[objective.key].value)}`
      : "";
    return tile(label, format.score(best.scores[objective.key].value), note);
  }

  #frontTile() {
    const size = this.log.front.ordinals.length;
    return tile(
      "Front",
      String(size),
      size === 1 ? "nondominated candidate" : "nondominated candidates",
    );
  }
}

function tile(label, value, note, kind = "") {
  return h(
    "li",
    { class: `tile ${kind}` },
    h("span", { class: "tile-label" }, label),
    h("span", { class: "tile-value" }, value),
    h("span", { class: "tile-note" }, note),
  );
}
