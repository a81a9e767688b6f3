/** The selected candidate: scores, recipe, lineage, checkpoint. */

import * as api from "./api.js";
import { Checkpoint } from "./checkpoint.js";
import { copyButton } from "./copy.js";
import { fill, h, keepingFocus, setText } from "./element.js";
import { Examples } from "./examples.js";
import * as format from "./format.js";
import { HeldOut } from "./held-out.js";
import { Lineage } from "./lineage.js";
import { complain } from "./notices.js";
import { RecipePlot, constants } from "./recipe-plot.js";
import { hrefWith } from "./router.js";
import { isLive, moveOf } from "./search-log.js";
import { ScoresPlot } from "./scores-plot.js";
import { SPLITS, scoresOn } from "./splits.js";

export class CandidatePanel {
  #details = new Map();
  #shown = null;

  constructor(log) {
    this.log = log;
    this.scores = new ScoresPlot(log);
    this.heldOut = new HeldOut(log);
    this.recipe = new RecipePlot();
    this.lineage = new Lineage(log, (ordinal) => this.#find(ordinal));
    this.checkpoints = [new Checkpoint(log, "model"), new Checkpoint(log, "adapter")];
    this.examples = new Examples(log);
    this.heading = h("h2", { id: "candidate-title" }, "Candidate");
    this.why = h("span", { class: "chip soft" });
    this.steps = h("nav", { class: "steps", "aria-label": "Neighbours on the front" });
    this.facts = h("div");
    this.texts = h("div", { class: "texts" });
    this.parts = h(
      "div",
      { class: "parts" },
      this.facts,
      this.scores.element,
      this.heldOut.element,
      this.checkpoints.map((checkpoint) => checkpoint.element),
    );
    this.recipeCard = h(
      "div",
      { class: "card panel-recipe", hidden: true },
      this.recipe.element,
      this.texts,
    );
    this.lineage.element.hidden = true;
    this.examples.element.hidden = true;
    this.empty = h(
      "p",
      { class: "empty" },
      "Shows the recipe, scores and lineage of the candidate that you select.",
    );
    this.element = h(
      "section",
      { class: "card candidate", "aria-labelledby": "candidate-title" },
      h("div", { class: "card-head" }, this.heading, this.why, this.steps),
      this.empty,
      this.parts,
    );
    this.parts.hidden = true;
    this.elements = [
      this.element,
      this.recipeCard,
      this.lineage.element,
      this.examples.element,
    ];
  }

  /**
   * Show a candidate.
   *
   * @param {number|null} ordinal
   * @param {boolean} chosen by the reader, rather than because it is the best so far.
   */
  async show(ordinal, chosen) {
    if (ordinal === null) return;
    this.why.hidden = chosen;
    setText(this.why, isLive(this.log.state) ? "best trade-off so far" : "best trade-off");
    this.#neighbours(ordinal);
    if (this.#shown === key(this.log.candidates.get(ordinal) ?? { ordinal })) return;
    this.wanted = ordinal;
    try {
      const detail = await this.#detail(ordinal);
      if (this.wanted === ordinal) await this.#render(detail);
    } catch (error) {
      complain(error);
    }
  }

  /** Draw the charts again, for instance in other colours. */
  redraw() {
    if (!this.current) return;
    this.scores.draw(this.current);
    this.recipe.draw(this.current.recipe);
  }

  /** The log says that something happened to a checkpoint. */
  checkpointChanged(ordinal, form = { kind: "model" }) {
    if (ordinal !== this.current?.ordinal) return;
    this.checkpoints.find(({ kind }) => kind === form.kind).changed(form);
  }

  close() {
    for (const part of [this.scores, this.recipe, ...this.checkpoints]) part.close();
  }

  async #render(detail) {
    [this.#shown, this.current] = [key(detail), detail];
    this.empty.hidden = true;
    for (const part of [this.parts, this.recipeCard, this.lineage.element]) part.hidden = false;
    setText(this.heading, `Candidate ${detail.label}`);
    this.recipe.chart.entitle(`Recipe of ${detail.label}`);
    fill(this.facts, facts(detail));
    fill(this.texts, texts(detail));
    for (const checkpoint of this.checkpoints) checkpoint.draw(detail);
    this.heldOut.draw(detail);
    this.lineage.draw(detail);
    this.examples.draw(detail);
    await Promise.all([this.scores.draw(detail), this.recipe.draw(detail.recipe)]);
  }

  #neighbours(ordinal) {
    const front = this.log.front.ordinals.sort((a, b) => a - b);
    const before = front.filter((other) => other < ordinal).at(-1);
    const after = front.find((other) => other > ordinal);
    const step = (other, text, label) =>
      other === undefined
        ? h("span", { class: "button small disabled", "aria-hidden": "true" }, text)
        : h(
            "a",
            {
              class: "button small",
              href: hrefWith({ candidate: other }),
              "aria-label": label,
              "data-key": text,
            },
            text,
          );
    keepingFocus(this.steps, () =>
      fill(
        this.steps,
        step(before, "←", `Previous on the front, #${before}`),
        step(after, "→", `Next on the front, #${after}`),
      ),
    );
  }

  async #detail(ordinal) {
    const known = this.#details.get(ordinal);
    if (known && known.state !== "pending") return this.#confirmed(known);
    const detail = await api.candidate(this.log.detail.id, ordinal);
    this.#details.set(ordinal, detail);
    return this.#confirmed(detail);
  }

  /** With the scores of other splits that came since it was asked for. */
  #confirmed(detail) {
    const { selected, reported } = this.log.candidates.get(detail.ordinal) ?? detail;
    return { ...detail, selected, reported };
  }

  async #find(ordinal) {
    return this.log.candidates.get(ordinal) ?? this.#detail(ordinal);
  }
}

const key = (candidate) =>
  [
    candidate.ordinal,
    candidate.state,
    ...SPLITS.map(([split]) => Object.keys(scoresOn(candidate, split)).length),
  ].join(" ");

/** The layers that hidden states pass through, in order; null where they are the merge's own. */
function pathOf(recipe) {
  if (!recipe.path?.length) return null;
  const runs = [];
  for (const { model, layer, scale } of recipe.path) {
    const last = runs.at(-1);
    const name = model ?? "merge";
    if (last?.name === name && last.to + 1 === layer && scale === 1) last.to = layer;
    else runs.push({ name, from: layer, to: layer, scale });
  }
  return runs
    .map(({ name, from, to, scale }) => {
      const layers = from === to ? `${from}` : `${from}–${to}`;
      return `${name} ${layers}${scale === 1 ? "" : ` × ${format.coefficient(scale)}`}`;
    })
    .join(", ");
}

function facts(detail) {
  const { timings } = detail;
  const time = timings
    ? `${format.seconds(timings.merge_s)} merging, ` +
      `${format.seconds(timings.forward_s)} in forward passes, ` +
      `${format.seconds(timings.other_s)} other`
    : detail.cached
      ? "none: known from an earlier evaluation of the very same"
      : null;
  const entries = [
    ["Number", detail.label === `#${detail.ordinal}` ? null : `#${detail.ordinal}`],
    ["Move", moveOf(detail.origin)],
    ["Method", detail.recipe.method],
    ...constants(detail.recipe).map(([name, value]) => [name, format.coefficient(value)]),
    ["Layers", pathOf(detail.recipe)],
    ["Worker", detail.worker],
    ["Recipe", h("code", { title: detail.digest }, detail.digest.slice(0, 12))],
    ["Engine", engineOf(detail.engine)],
    ["Time", time],
  ];
  return [
    detail.state === "infeasible"
      ? h(
          "p",
          { class: "problem" },
          h("b", {}, "Infeasible: "),
          detail.reason ?? "no reason was recorded",
        )
      : null,
    h(
      "dl",
      { class: "facts" },
      entries
        .filter(([, value]) => value !== null && value !== undefined)
        .map(([name, value]) =>
          h(
            "div",
            { class: name === "Time" || name === "Engine" ? "wide" : null },
            h("dt", {}, name),
            h("dd", {}, value),
          ),
        ),
    ),
  ];
}

/** What scored it: the versions and the machine on which small differences depend. */
function engineOf(engine) {
  const { device, dtype, torch, plan } = engine ?? {};
  if (!torch) return null;
  const all = Object.entries(engine).map(([name, value]) => `${name}: ${value}`);
  return h("span", { title: all.join("\n") }, `torch ${torch}, ${dtype}, ${device}, ${plan}`);
}

function texts(detail) {
  const json = JSON.stringify(detail.recipe, null, 2);
  return [
    detail.mergekit === null
      ? h("p", { class: "muted" }, "mergekit has no form of this recipe.")
      : text("mergekit YAML", detail.mergekit),
    text("Recipe as JSON", json),
  ];
}

function text(title, content) {
  return h(
    "details",
    {},
    h("summary", {}, title),
    h(
      "div",
      { class: "text" },
      copyButton("Copy", () => content),
      h("pre", { tabindex: "0" }, content),
    ),
  );
}
