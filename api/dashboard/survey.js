/** What is known of the models before anything is evaluated: warnings, and how far parents moved. */

import { fill, h } from "./element.js";

const GROUPS = {
  embed: "embeddings",
  qk: "queries and keys",
  vo: "values and outputs",
  mlp: "MLPs",
  norm: "norms",
  head: "head",
  other: "other",
};

const HEADER = ["Parent", "Part", "Change / base", "Cosine", "Norm / base", "Frozen", "Found"];

export class Survey {
  #drawn = null;

  constructor(log) {
    this.log = log;
    this.body = h("div");
    this.element = h(
      "section",
      { class: "card survey", "aria-labelledby": "survey-title", hidden: true },
      h("h2", { id: "survey-title" }, "Models"),
      this.body,
    );
  }

  draw() {
    const { warnings, diagnoses } = this.log.detail;
    const key = JSON.stringify([warnings, diagnoses]);
    if (key === this.#drawn) return;
    this.#drawn = key;
    this.element.hidden = warnings.length === 0 && diagnoses.length === 0;
    fill(
      this.body,
      warnings.length === 0
        ? null
        : h(
            "ul",
            { class: "problem-list" },
            warnings.map(({ field, message }) =>
              h("li", { class: "warning" }, h("code", {}, field), " ", message),
            ),
          ),
      diagnoses.length === 0 ? null : distances(diagnoses),
    );
  }
}

function distances(diagnoses) {
  return h(
    "details",
    {},
    h("summary", {}, "How far the parents are from the base"),
    h(
      "div",
      { class: "scroll" },
      h(
        "table",
        { class: "report" },
        h("thead", {}, h("tr", {}, HEADER.map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", {}, diagnoses.map(rows)),
      ),
    ),
  );
}

function rows(diagnosis) {
  const groups = Object.entries(diagnosis.groups);
  return [
    row(h("th", { scope: "row" }, diagnosis.name), "all", diagnosis.whole, found(diagnosis)),
    groups.map(([group, distance]) => row(h("td"), GROUPS[group] ?? group, distance, "")),
  ];
}

function row(name, part, distance, what) {
  const figures = [distance.delta_ratio, distance.cosine, distance.norm_ratio].map(figure);
  const frozen = distance.frozen ? `${Math.round(100 * distance.frozen)} %` : "";
  return h(
    "tr",
    {},
    name,
    h("td", {}, part),
    [...figures, frozen].map((text) => h("td", { class: "number" }, text)),
    h("td", {}, what),
  );
}

const figure = (value) => (value === null ? "–" : value.toFixed(4));

function found({ findings, duplicates }) {
  const kinds = new Set(findings.map(({ kind }) => kind.replaceAll("_", " ")));
  const twins = duplicates.map((name) => `same as ${name}`);
  return [...kinds, ...twins].join(", ") || "fine-tuned";
}
