/** The best of each objective so far, against the best of the parents. */

import { fill, h } from "./element.js";
import * as format from "./format.js";
import { hrefWith } from "./router.js";
import { objectiveLabel } from "./search-log.js";

export class Tiles {
  constructor(log) {
    this.log = log;
    this.element = h("ul", { class: "tiles", "aria-label": "Best of each objective" });
  }

  draw() {
    fill(this.element, this.log.objectives.map((objective) => this.#tile(objective)), this.#frontTile());
  }

  #tile(objective) {
    const best = this.log.bestAt(objective);
    const rival = this.log.bestAt(objective, this.log.baselines);
    const label = `${objectiveLabel(objective)}${objective.higher_is_better ? "" : " ↓"}`;
    if (best === null) return tile(label, format.NONE, "not scored yet");
    const value = best.scores[objective.key].value;
    const gain = rival === null ? 0 : value - rival.scores[objective.key].value;
    const link = h("a", { href: hrefWith({ candidate: best.ordinal }), "data-key": objective.key }, best.label);
    const note = best === rival || gain === 0 ? [link, ", the best given model"] : [link, `, ${format.difference(gain)} on ${rival?.label ?? "the best given model"}`];
    return tile(label, format.score(value), note);
  }

  #frontTile() {
    const size = this.log.front.ordinals.length;
    return tile("Front of all objectives", String(size), size === 1 ? "candidate that nothing beats" : "candidates that nothing beats");
  }
}

function tile(label, value, note) {
  return h("li", { class: "tile" }, h("span", { class: "tile-label" }, label), h("span", { class: "tile-value" }, value), h("span", { class: "tile-note" }, note));
}
