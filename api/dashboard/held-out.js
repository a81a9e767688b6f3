/** A candidate's scores on examples that the search never saw, beside those that it was found by. */

import { fill, h } from "./element.js";
import * as format from "./format.js";
import { objectiveLabel } from "./search-log.js";
import { SPLITS, isScoredOn, scoresOn } from "./splits.js";

export class HeldOut {
  constructor(log) {
    this.log = log;
    this.element = h("section", { class: "held-out", hidden: true });
  }

  draw(candidate) {
    const splits = SPLITS.filter(([split]) => isScoredOn(candidate, split));
    this.element.hidden = splits.every(([split]) => split === "search");
    if (this.element.hidden) return;
    fill(
      this.element,
      h("h3", {}, "On examples that the search never saw"),
      h(
        "div",
        { class: "scroll", tabindex: "0", role: "region", "aria-label": "Held-out scores" },
        h("table", {}, h("thead", {}, head(splits)), h("tbody", {}, this.#rows(candidate, splits))),
      ),
      h(
        "p",
        { class: "hint" },
        "In brackets 95 % intervals. The winner was chosen on the select examples; only the report " +
          "examples were never chosen by.",
      ),
    );
  }

  #rows(candidate, splits) {
    return this.log.objectives.map((objective) =>
      h(
        "tr",
        {},
        h("th", { scope: "row" }, objectiveLabel(objective)),
        splits.map(([split]) =>
          h(
            "td",
            { class: "number" },
            format.within(scoresOn(candidate, split)[objective.key]),
          ),
        ),
      ),
    );
  }
}

const head = (splits) =>
  h(
    "tr",
    {},
    h("th", { scope: "col" }, ""),
    splits.map(([, name]) => h("th", { scope: "col", class: "number" }, name)),
  );
