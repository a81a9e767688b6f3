/** All candidates of a search: sorted, filtered, a page at a time. */

import { boundsText, holds } from "./constraints.js";
import { fill, h, keepingFocus, setText } from "./element.js";
import * as format from "./format.js";
import { hrefWith } from "./router.js";
import { isBaseline, moveOf, objectiveLabel, shortLabel } from "./search-log.js";

const PAGE = 20;
const FILTERS = {
  all: ["All", () => true],
  front: ["Front", (candidate, log) => log.front.has(candidate.ordinal)],
  baselines: ["Base, parents, average", (candidate) => isBaseline(candidate)],
  infeasible: ["Infeasible", (candidate) => candidate.state === "infeasible"],
};

export class CandidatesTable {
  #page = 0;
  #sort = { key: "ordinal", descending: true };
  #filter = "all";

  constructor(log) {
    this.log = log;
    this.columns = columnsOf(log);
    this.head = h("tr");
    this.body = h("tbody");
    this.place = h("span", { class: "muted", "aria-live": "polite" });
    this.back = h("button", { type: "button", onclick: () => this.#turn(-1) }, "Previous");
    this.onward = h("button", { type: "button", onclick: () => this.#turn(1) }, "Next");
    this.note = h("p", { class: "hint", hidden: true });
    this.element = h(
      "section",
      { class: "card table-card", "aria-labelledby": "candidates-title" },
      h(
        "div",
        { class: "card-head" },
        h("h2", { id: "candidates-title" }, "Candidates"),
        this.#filters(),
      ),
      this.note,
      h(
        "div",
        { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of candidates" },
        h("table", { class: "candidates" }, h("thead", {}, this.head), this.body),
      ),
      h("div", { class: "pager" }, this.back, this.onward, this.place),
    );
  }

  draw(selected) {
    this.selected = selected;
    const rows = this.#rows();
    const last = Math.max(0, Math.ceil(rows.length / PAGE) - 1);
    this.#page = Math.min(this.#page, last);
    const first = this.#page * PAGE;
    const shown = rows.slice(first, first + PAGE);
    keepingFocus(this.head, () =>
      fill(
        this.head,
        this.columns.map((column) => this.#heading(column)),
      ),
    );
    keepingFocus(this.body, () =>
      fill(this.body, shown.length ? shown.map((row) => this.#row(row)) : this.#nothing()),
    );
    [this.back.disabled, this.onward.disabled] = [this.#page === 0, this.#page === last];
    setText(
      this.place,
      rows.length
        ? `${first + 1} to ${first + shown.length} of ${rows.length.toLocaleString("en")}`
        : "",
    );
    this.note.hidden = !this.log.partial;
    if (this.log.partial)
      setText(
        this.note,
        `This page holds ${format.count(this.log.candidates.size, "candidate")}: ` +
          "the newest, the front and the baselines; the API has all of them.",
      );
  }

  #filters() {
    const select = h(
      "select",
      { onchange: () => this.#change({ filter: select.value }) },
      Object.entries(FILTERS).map(([value, [text]]) => h("option", { value }, text)),
    );
    return h("label", {}, "Show ", select);
  }

  #rows() {
    const { key, descending } = this.#sort;
    const { value } = this.columns.find((column) => column.key === key);
    const keep = FILTERS[this.#filter][1];
    const rows = [...this.log.candidates.values()].filter((candidate) => keep(candidate, this.log));
    return rows.sort((a, b) => compare(value(a), value(b), descending) || b.ordinal - a.ordinal);
  }

  #heading({ key, label, number, title }) {
    const sorted =
      this.#sort.key === key ? (this.#sort.descending ? "descending" : "ascending") : null;
    const sign = sorted === null ? "" : sorted === "descending" ? " ↓" : " ↑";
    return h(
      "th",
      { scope: "col", "aria-sort": sorted, class: number ? "number" : null, title },
      h(
        "button",
        {
          type: "button",
          class: "sort",
          "data-key": `sort ${key}`,
          onclick: () => this.#sortBy(key),
        },
        label,
        h("span", { "aria-hidden": "true" }, sign),
      ),
    );
  }

  #row(candidate) {
    const selected = candidate.ordinal === this.selected;
    const open = (event) => {
      if (!event.target.closest("a")) location.hash = hrefWith({ candidate: candidate.ordinal });
    };
    return h(
      "tr",
      {
        class: `${candidate.state}${selected ? " selected" : ""}`,
        onclick: open,
        "aria-current": selected ? "true" : null,
      },
      h("td", { class: "number" }, candidate.ordinal),
      h(
        "th",
        { scope: "row" },
        h(
          "a",
          {
            href: hrefWith({ candidate: candidate.ordinal }),
            "data-key": `row ${candidate.ordinal}`,
          },
          candidate.label,
        ),
        h("span", { class: "muted" }, ` ${moveOf(candidate.origin)}`),
      ),
      candidate.state === "scored" ? this.#scores(candidate) : this.#excuse(candidate),
    );
  }

  #scores(candidate) {
    const seconds = spent(candidate);
    return [
      this.log.objectives.map((objective) =>
        scoreCell(candidate.scores[objective.key], this.log.boundsOf(objective)),
      ),
      h("td", { class: "number" }, this.#standing(candidate)),
      h("td", { class: "number muted" }, seconds === null ? "" : format.seconds(seconds)),
    ];
  }

  #standing(candidate) {
    if (this.log.front.has(candidate.ordinal))
      return h("span", { class: "on-front", title: "On the front of all objectives" }, "front");
    if (!candidate.left_early) return "";
    const title = `Shown to be behind after ${examplesOf(candidate)}; its scores are what all would be expected to give`;
    return h("span", { class: "muted", title }, `left at ${mostExamples(candidate)}`);
  }

  #excuse(candidate) {
    const text =
      candidate.state === "pending"
        ? "being evaluated"
        : (candidate.reason ?? "no reason was recorded");
    const word = candidate.state === "pending" ? null : h("b", {}, "Infeasible: ");
    return h("td", { colspan: this.log.objectives.length + 2, class: "excuse" }, word, text);
  }

  #nothing() {
    const text =
      this.#filter === "infeasible" ? "No candidate was infeasible." : "Nothing to show yet.";
    return h("tr", {}, h("td", { colspan: this.columns.length, class: "muted" }, text));
  }

  #sortBy(key) {
    const again = this.#sort.key === key;
    this.#change({
      sort: {
        key,
        descending: again
          ? !this.#sort.descending
          : this.columns.find((c) => c.key === key).descending,
      },
    });
  }

  #turn(pages) {
    this.#page += pages;
    this.draw(this.selected);
  }

  #change({ sort = this.#sort, filter = this.#filter }) {
    [this.#sort, this.#filter, this.#page] = [sort, filter, 0];
    this.draw(this.selected);
  }
}

/** Columns: what they sort by, and which way round the first click sorts (best first). */
function columnsOf(log) {
  return [
    { key: "ordinal", label: "#", number: true, descending: true, value: (c) => c.ordinal },
    { key: "label", label: "Candidate", descending: false, value: (c) => c.origin.move },
    ...log.objectives.map((objective) => ({
      key: `score ${objective.key}`,
      label: shortLabel(objective, log.objectives),
      number: true,
      title: `${objectiveLabel(objective)}, ${objective.higher_is_better ? "higher" : "lower"} is better`,
      descending: objective.higher_is_better,
      value: (c) => (c.state === "scored" ? (c.scores[objective.key]?.value ?? null) : null),
    })),
    {
      key: "front",
      label: "Front",
      number: true,
      descending: true,
      value: (c) => (log.front.has(c.ordinal) ? 1 : 0),
    },
    { key: "seconds", label: "Time", number: true, descending: true, value: spent },
  ];
}

function scoreCell(entry, bounds) {
  const stderr = entry?.stderr
    ? h("span", { class: "stderr" }, ` ± ${format.score(entry.stderr)}`)
    : null;
  const warning = holds(entry?.value, bounds)
    ? null
    : h(
        "abbr",
        { class: "violates", title: `must be ${boundsText(bounds, format.score)}` },
        " !",
      );
  return h("td", { class: "number" }, format.score(entry?.value), stderr, warning);
}

const mostExamples = ({ scores }) =>
  Math.max(...Object.values(scores).map((score) => score.count));

const examplesOf = (candidate) => format.count(mostExamples(candidate), "example");

const spent = ({ timings }) =>
  timings ? timings.merge_s + timings.forward_s + timings.other_s : null;

/** Missing values last, whichever way round. */
function compare(a, b, descending) {
  if (a === null || b === null) return (a === null) - (b === null);
  const order = a < b ? -1 : a > b ? 1 : 0;
  return descending ? -order : order;
}
