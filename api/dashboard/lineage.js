/** Where a candidate comes from: its move, its parents, and theirs, some generations up. */

import { fill, h } from "./element.js";
import * as format from "./format.js";
import { hrefWith } from "./router.js";
import { meanScore, moveOf } from "./search-log.js";

const GENERATIONS = 3;

export class Lineage {
  #turn = 0;

  /** @param {Function} find resolves an ordinal to its candidate. */
  constructor(log, find) {
    [this.log, this.find] = [log, find];
    this.body = h("div");
    this.element = h(
      "section",
      { class: "card panel-lineage", "aria-labelledby": "lineage-title" },
      h("h2", { id: "lineage-title" }, "Lineage"),
      this.body,
    );
  }

  async draw(candidate) {
    const turn = ++this.#turn;
    const shown = new Set();
    const tree = h("ul", { class: "lineage" }, await this.#entry(candidate, GENERATIONS, shown));
    if (turn === this.#turn) fill(this.body, tree);
  }

  async #entry(candidate, generations, shown) {
    const before = shown.has(candidate.ordinal);
    shown.add(candidate.ordinal);
    const { parents } = candidate.origin;
    const item = h("li", {}, this.#line(candidate));
    if (parents.length === 0) return item;
    if (before || generations === 0) {
      item.append(
        h(
          "span",
          { class: "muted" },
          before
            ? " (its parents are shown above)"
            : ` from ${parents.map((ordinal) => `#${ordinal}`).join(" and ")}`,
        ),
      );
      return item;
    }
    const list = h("ul");
    for (const ordinal of parents) list.append(await this.#parent(ordinal, generations - 1, shown));
    item.append(list);
    return item;
  }

  async #parent(ordinal, generations, shown) {
    const candidate = await this.find(ordinal).catch(() => null);
    return candidate ? this.#entry(candidate, generations, shown) : h("li", {}, `#${ordinal}`);
  }

  #line(candidate) {
    const mean = meanScore(candidate, this.log.objectives);
    const detail = Object.entries(candidate.origin.detail ?? {})
      .filter(([name]) => name !== "name" && name !== "status")
      .map(([name, value]) => `${name} ${format.coefficient(value)}`);
    return h(
      "span",
      { class: "ancestor" },
      h("a", { href: hrefWith({ candidate: candidate.ordinal }) }, candidate.label),
      h("span", { class: "move" }, moveOf(candidate.origin)),
      mean !== null ? h("span", { class: "muted" }, `mean ${format.score(mean)}`) : null,
      detail.length ? h("span", { class: "muted" }, detail.join(", ")) : null,
    );
  }
}
