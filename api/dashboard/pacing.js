/** How forward passes are made, as the survey timed them. */

import { fill, h } from "./element.js";
import * as format from "./format.js";

export class Pacing {
  #drawn = "null";

  constructor() {
    this.chosen = h("p", { class: "muted" });
    this.list = h("ul");
    this.element = h(
      "details",
      { class: "spec", hidden: true },
      h("summary", {}, "Forward passes"),
      this.chosen,
      this.list,
    );
  }

  /** @param {Object|null} pacing null before the survey. */
  draw(pacing) {
    const state = JSON.stringify(pacing);
    if (state === this.#drawn) return;
    this.#drawn = state;
    this.element.hidden = pacing === null;
    if (pacing === null) return;
    fill(
      this.chosen,
      `${way(pacing)}, on every worker. `,
      pacing.tried.length
        ? "The same requests of this search took, when it started:"
        : "So little is asked that nothing was to be gained by another way.",
    );
    fill(
      this.list,
      pacing.tried.map((tried) => h("li", {}, `${way(tried)}: ${milliseconds(tried.seconds)}`)),
    );
  }
}

const way = ({ tokens, threads }) =>
  `Up to ${format.count(tokens, "token")} on ${format.count(threads, "thread")}`;

const milliseconds = (seconds) => `${format.significant(1000 * seconds)} ms`;
