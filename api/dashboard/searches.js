/** The list of searches, newest first. */

import * as api from "./api.js";
import { fill, h, keepingFocus } from "./element.js";
import * as format from "./format.js";
import { complain } from "./notices.js";
import { ProgressBar } from "./progress.js";
import { searchHref } from "./router.js";
import { objectiveLabel, shortLabel } from "./search-log.js";
import { stateChip } from "./state-chip.js";

const REFRESH_MS = 2000;
const FIGURES = ["Hypervolume", "Front"];

export class SearchesPage {
  title = "Searches";
  #timer = null;
  #closed = false;
  #older = [];
  #cursor = null;
  #paged = false;

  constructor() {
    this.body = h("div", {}, h("p", { class: "empty" }, "Loading…"));
    this.more = h(
      "button",
      { type: "button", hidden: true, onclick: () => this.#loadOlder() },
      "Show older searches",
    );
    this.element = h(
      "div",
      { class: "page" },
      h(
        "div",
        { class: "page-head" },
        h("h1", { tabindex: "-1" }, "Searches"),
        h("a", { class: "button primary", href: "#/new" }, "New search"),
      ),
      this.body,
      this.more,
    );
    this.#refresh();
  }

  update() {}

  redraw() {}

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  async #refresh() {
    try {
      const page = document.hidden && this.newest ? null : await api.searches();
      if (this.#closed) return;
      if (page) this.#show(page);
    } catch (error) {
      if (this.#closed) return;
      fill(this.body, h("p", { class: "empty" }, error.message));
    }
    this.#timer = setTimeout(() => this.#refresh(), REFRESH_MS);
  }

  #show(page) {
    if (!this.#paged) this.#cursor = page.next;
    this.newest = page.items;
    this.#render();
  }

  async #loadOlder() {
    try {
      const page = await api.searches(this.#cursor);
      [this.#paged, this.#cursor] = [true, page.next];
      this.#older.push(...page.items);
      this.#render();
    } catch (error) {
      complain(error);
    }
  }

  #render() {
    const fresh = new Set(this.newest.map((search) => search.id));
    const rows = [...this.newest, ...this.#older.filter((search) => !fresh.has(search.id))];
    this.more.hidden = this.#cursor === null;
    keepingFocus(this.body, () => fill(this.body, rows.length ? table(rows) : welcome()));
  }
}

function table(rows) {
  const columns = ["Name", "State", "Progress", "Best trade-off, task by task", ...FIGURES];
  return h(
    "div",
    { class: "card scroll" },
    h(
      "table",
      { class: "list" },
      h("caption", { class: "visually-hidden" }, "Searches, newest first"),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          columns.map((column) =>
            h(
              "th",
              { scope: "col", class: FIGURES.includes(column) ? "number extra" : null },
              column,
            ),
          ),
        ),
      ),
      h("tbody", {}, rows.map(row)),
    ),
  );
}

function row(search) {
  const progress = new ProgressBar(`Progress of ${search.name}`);
  progress.update(search.progress, search.state);
  return h(
    "tr",
    {},
    h(
      "th",
      { scope: "row" },
      h("a", { href: searchHref(search.id), "data-key": search.id }, search.name),
      h(
        "div",
        { class: "muted" },
        `${search.method} · ${search.optimizer} · ${format.moment(search.created_at)}`,
      ),
    ),
    h("td", {}, stateChip(search.state)),
    h("td", { class: "wide" }, progress.element),
    h("td", {}, best(search)),
    h("td", { class: "number extra" }, format.significant(search.hypervolume)),
    h("td", { class: "number extra" }, search.front_size),
  );
}

function best(search) {
  if (search.best === null)
    return h("span", { class: "muted" }, search.problems[0]?.message ?? format.NONE);
  return h(
    "ul",
    { class: "scores" },
    search.objectives.map((objective) =>
      h(
        "li",
        {},
        h(
          "span",
          { class: "muted", title: objectiveLabel(objective) },
          shortLabel(objective, search.objectives),
        ),
        h("b", {}, format.score(search.best.scores[objective.key]?.value)),
      ),
    ),
  );
}

function welcome() {
  return h(
    "div",
    { class: "card welcome" },
    h("h2", {}, "Nothing is being searched yet"),
    h(
      "p",
      {},
      "Give nichemerge a base model and its fine-tuned descendants; " +
        "it looks for the merges that keep the strengths of all.",
    ),
    h("a", { class: "button primary", href: "#/new" }, "Start the first search"),
  );
}
