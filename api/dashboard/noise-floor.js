/** How much of a score is the order in which numbers were added up, as the survey measured it. */

import { fill, h } from "./element.js";
import * as format from "./format.js";
import { objectiveLabel } from "./search-log.js";

export class NoiseFloor {
  #drawn = "";

  constructor(objectives) {
    this.objectives = objectives;
    this.list = h("ul");
    this.element = h(
      "details",
      { class: "spec", hidden: true },
      h("summary", {}, "Noise floor"),
      h(
        "p",
        { class: "muted" },
        "The base, scored on some search examples in batches and one by one. " +
          "A difference between two candidates that is no larger says nothing.",
      ),
      this.list,
    );
  }

  /** @param {Object} noise by objective; empty before the survey. */
  draw(noise) {
    const known = this.objectives.filter((objective) => noise[objective.key]);
    const state = JSON.stringify(noise);
    if (state === this.#drawn) return;
    this.#drawn = state;
    this.element.hidden = known.length === 0;
    fill(
      this.list,
      known.map((objective) => {
        const { count, largest, flips } = noise[objective.key];
        const most = largest === 0 ? "no score differs" : `up to ${format.significant(largest)}`;
        const flipped = flips ? `, ${format.count(flips, "answer")} flipped` : "";
        return h(
          "li",
          {},
          `${objectiveLabel(objective)}: ${most} on ${format.count(count, "example")}${flipped}`,
        );
      }),
    );
  }
}
