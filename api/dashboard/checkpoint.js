/**
 * A checkpoint of a candidate, as a whole model or as a LoRA adapter: ask for it, watch it being
 * written, download it.
 */

import * as api from "./api.js";
import { fill, h } from "./element.js";
import * as format from "./format.js";
import { announce, complain } from "./notices.js";
import { objectiveLabel } from "./search-log.js";

const POLL_MS = 1500;

const KINDS = {
  model: {
    title: "Checkpoint",
    what: "The checkpoint",
    label: "Prepare download",
    hint:
      "Writes this merge as a Hugging Face folder and scores it on the examples kept for reports.",
  },
  adapter: {
    title: "LoRA adapter",
    what: "The adapter",
    label: "Prepare adapter",
    hint:
      "All parents are adapters, so the merge can be one, too: exactly, with ranks that add up, or " +
      "cut to a rank.",
  },
};

export class Checkpoint {
  #timer = null;
  #turn = 0;
  #view;

  /**
   * @param {SearchLog} log
   * @param {"model"|"adapter"} kind
   */
  constructor(log, kind) {
    this.log = log;
    this.kind = kind;
    this.words = KINDS[kind];
    this.body = h("div", { class: "checkpoint" });
    this.element = h(
      "section",
      { "aria-labelledby": `${kind}-title` },
      h("h3", { id: `${kind}-title` }, this.words.title),
      this.body,
    );
  }

  /** Show the checkpoint of a candidate. */
  async draw(candidate) {
    this.candidate = candidate;
    [this.#view, this.ordinal] = [undefined, candidate.ordinal];
    clearTimeout(this.#timer);
    this.#turn += 1;
    this.element.hidden = this.kind === "adapter" && !candidate.can_be_adapter;
    const known = candidate.checkpoints.map(({ form }) => form).filter(this.#isOurs);
    this.form = known.at(-1) ?? this.#usual;
    // Most candidates have none: then there is nothing to ask for.
    if (known.length > 0) await this.refresh();
    else this.#show(null);
  }

  /** The log says that something happened to one of its forms. */
  changed(form) {
    this.form = form;
    return this.refresh();
  }

  /** Ask how it stands. */
  async refresh() {
    const turn = ++this.#turn;
    clearTimeout(this.#timer);
    const view = await api
      .checkpoint(this.log.detail.id, this.ordinal, this.form)
      .catch((error) => (error.status === 404 ? null : error));
    if (turn === this.#turn) this.#show(view);
  }

  close() {
    this.#turn += 1;
    clearTimeout(this.#timer);
  }

  #show(view) {
    if (view instanceof Error) {
      fill(this.body, h("p", { class: "muted" }, view.message));
      return;
    }
    if (view?.state === "requested") this.#timer = setTimeout(() => this.refresh(), POLL_MS);
    if (this.#view?.state === "requested" && view?.state === "stored")
      announce(`${this.words.what} of ${this.candidate.label} is ready to download.`);
    if (JSON.stringify(this.#view) === JSON.stringify(view)) return;
    this.#view = view;
    fill(this.body, this.#content(view));
  }

  #content(view) {
    if (this.candidate.state === "infeasible")
      return h("p", { class: "muted" }, "An infeasible candidate has no checkpoint.");
    if (this.candidate.state === "pending")
      return h("p", { class: "muted" }, "Available once the candidate is scored.");
    if (view === null) return this.#offer(this.words.label, this.words.hint);
    if (view.state === "requested") return this.#waiting();
    if (view.state === "failed")
      return [
        h("p", { class: "problem" }, view.reason ?? "It could not be written."),
        this.#offer("Try again", ""),
      ];
    return this.#stored(view);
  }

  #offer(label, text) {
    const rank = h("input", { type: "number", min: "1", step: "1", placeholder: "exact" });
    const button = h("button", { class: "primary" }, label);
    const asked = (event) => {
      event.preventDefault();
      button.disabled = true;
      this.form = this.#usual ?? { kind: "adapter", rank: rank.valueAsNumber || null };
      this.#request();
    };
    return h(
      "form",
      { onsubmit: asked },
      text ? h("p", { class: "muted" }, text) : null,
      this.kind === "adapter" ? [h("label", {}, "Rank ", rank), " "] : null,
      button,
    );
  }

  /** The form that is meant where none was asked for; an adapter has many. */
  get #usual() {
    return this.kind === "model" ? {} : null;
  }

  #isOurs = (form) => form.kind === this.kind;

  async #request() {
    try {
      const { form } = await api.requestCheckpoint(this.log.detail.id, this.ordinal, this.form);
      this.candidate.checkpoints.push({ form });
      announce(`${this.words.what} is being written.`);
    } catch (error) {
      complain(error);
      this.#view = undefined;
      this.#show(null);
      return;
    }
    await this.refresh();
  }

  #waiting() {
    return [
      h("p", {}, "Being written and scored on the report split…"),
      h("progress", { "aria-label": `${this.words.what} is being written` }),
    ];
  }

  #stored(view) {
    const id = this.log.detail.id;
    const files = Object.entries(view.files).sort(([a], [b]) => a.localeCompare(b));
    const total = files.reduce((sum, [, file]) => sum + file.size_bytes, 0);
    return [
      h(
        "p",
        {},
        h(
          "a",
          {
            class: "button primary",
            href: api.tarUrl(id, this.ordinal, this.form),
            download: true,
          },
          `Download .tar (${format.bytes(total)})`,
        ),
      ),
      view.form.rank === null
        ? null
        : h(
            "p",
            {},
            `Cut to rank ${view.form.rank}, it lacks ${(100 * view.error).toPrecision(2)} % of the ` +
              "exact change.",
          ),
      reportScores(view, this.log.objectives),
      h(
        "details",
        {},
        h("summary", {}, format.count(files.length, "file")),
        h(
          "ul",
          { class: "files" },
          files.map(([name, file]) =>
            h(
              "li",
              {},
              h(
                "a",
                { href: api.fileUrl(id, this.ordinal, this.form, name), download: true },
                name,
              ),
              h("span", { class: "muted" }, format.bytes(file.size_bytes)),
              h("code", { title: `sha256 ${file.sha256}` }, file.sha256.slice(0, 12)),
            ),
          ),
        ),
      ),
      this.kind === "adapter"
        ? h("details", {}, h("summary", {}, "Another rank"), this.#offer(this.words.label, ""))
        : null,
    ];
  }
}

/** What the written folder scores on examples that the search never saw. */
function reportScores(view, objectives) {
  const known = objectives.filter((objective) => view.scores[objective.key]);
  if (known.length === 0) return null;
  return h(
    "table",
    { class: "report" },
    h("caption", {}, "On examples that the search never saw (report split)"),
    h(
      "tbody",
      {},
      known.map((objective) => {
        const entry = view.scores[objective.key];
        return h(
          "tr",
          {},
          h("th", { scope: "row" }, objectiveLabel(objective)),
          h("td", { class: "number" }, format.measured(entry)),
        );
      }),
    ),
  );
}
