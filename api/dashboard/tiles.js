/** The figures that matter most: the best trade-off so far, beside the best of the given models. */

import { boundsText, holds } from "./constraints.js";
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
    const { best, given } = this.#standing();
    keepingFocus(this.element, () =>
      fill(
        this.element,
        this.#headline(best, given),
        this.log.objectives.map((objective) => this.#tile(objective, best, given)),
        this.#frontTile(),
        this.#splitsTile(),
      ),
    );
  }

  /** The best and the given models, on the report split once there is a result. */
  #standing() {
    const { result, baselines, best } = this.log;
    if (!result) return { best, given: baselines };
    const given = this.log.detail.baselines.map(onReport).filter((candidate) => candidate !== null);
    return { best: onReport(result.winner) ?? best, given };
  }

  #headline(best, models) {
    if (best === null) return tile("Best trade-off", format.NONE, "nothing is scored yet");
    const { objectives } = this.log;
    const link = h(
      "a",
      { href: hrefWith({ candidate: best.ordinal }), "data-key": "best" },
      best.label,
    );
    const mean = meanScore(best, objectives);
    const means = models
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
      given.ordinal === best.ordinal
        ? "the best given model"
        : `${format.difference(mean - rival)} on ${given.label}`;
    const where = this.log.result ? ", on examples never searched" : "";
    return tile(
      ["Best trade-off ", link],
      format.score(mean),
      `${kind}${where}, ${note}`,
      "headline",
    );
  }

  /** Beside each score stands the best of base, parents and average. */
  #tile(objective, best, models) {
    const label = h(
      "span",
      { title: objectiveLabel(objective) },
      shortLabel(objective, this.log.objectives),
    );
    if (best === null) return tile(label, format.NONE, "");
    const given = this.log.bestAt(objective, models);
    const value = best.scores[objective.key].value;
    const bounds = this.log.boundsOf(objective);
    const notes = [
      given ? `${given.label} has ${format.score(given.scores[objective.key].value)}` : "",
      (holds(value, bounds) ? "" : "violates: ") + boundsText(bounds, format.score),
    ];
    return tile(label, format.score(value), notes.filter(Boolean).join("; "));
  }

  /** How many examples are for what. */
  #splitsTile() {
    const splits = this.log.detail.splits ?? [];
    if (splits.length === 0) return null;
    const count = (name) =>
      splits.filter(({ split }) => split === name).reduce((sum, part) => sum + part.count, 0);
    const counts = ["search", "select", "report"].map((name) => count(name).toLocaleString("en"));
    return tile("Examples", counts.join(" / "), "to search, to select, to report");
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

/** A candidate with its scores on the report split in the place of those of the search. */
const onReport = (candidate) =>
  Object.keys(candidate.reported ?? {}).length
    ? { ...candidate, scores: candidate.reported }
    : null;

function tile(label, value, note, kind = "") {
  return h(
    "li",
    { class: `tile ${kind}` },
    h("span", { class: "tile-label" }, label),
    h("span", { class: "tile-value" }, value),
    h("span", { class: "tile-note" }, note),
  );
}
