/** What a search has come to: scores on examples that it never saw, and how sure they are. */

import { fill, h } from "./element.js";
import * as format from "./format.js";
import { objectiveLabel, shortLabel } from "./search-log.js";

export class ResultPanel {
  constructor(log) {
    this.log = log;
    this.element = h("section", {
      class: "card panel-result",
      "aria-labelledby": "result-title",
      hidden: true,
    });
  }

  draw() {
    const { result } = this.log;
    this.element.hidden = !result;
    if (!result || result === this.drawn) return;
    this.drawn = result;
    fill(
      this.element,
      h("h2", { id: "result-title" }, `Result: ${result.winner.label} on the report split`),
      h(
        "div",
        { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of the result" },
        h(
          "table",
          {},
          h("thead", {}, this.#head()),
          h("tbody", {}, this.#winner(result), result.comparisons.map((other) => this.#row(other))),
        ),
      ),
      h(
        "p",
        { class: "hint" },
        `Chosen on the select split among ${format.count(result.finalists.length, "finalist")} ` +
          "and the given models, the better half of them on ever more examples. In brackets 95 % intervals; differences are paired over examples, " +
          "positive where the winner is better. Overall is the weighted mean of the objectives, " +
          "each in spans of the given models.",
      ),
    );
  }

  #head() {
    return h(
      "tr",
      {},
      h("th", { scope: "col" }, ""),
      h("th", { scope: "col", class: "number" }, "Overall"),
      this.log.objectives.map((objective) =>
        h(
          "th",
          { scope: "col", class: "number", title: objectiveLabel(objective) },
          shortLabel(objective, this.log.objectives),
        ),
      ),
    );
  }

  #winner({ winner }) {
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, winner.label),
      h("td", { class: "number" }, ""),
      this.log.objectives.map(({ key }) =>
        h("td", { class: "number" }, format.within(winner.reported[key])),
      ),
    );
  }

  #row({ name, is_best_parent, overall, gains }) {
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, `ahead of ${name}${is_best_parent ? " (best parent)" : ""}`),
      h("td", { class: "number" }, format.ahead(overall)),
      this.log.objectives.map(({ key }) =>
        h("td", { class: "number" }, format.ahead(gains[key])),
      ),
    );
  }
}
