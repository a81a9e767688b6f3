/** The checkpoint of a candidate: ask for it, watch it being written, download it. */

import * as api from "./api.js";
import { fill, h } from "./element.js";
import * as format from "./format.js";
import { announce, complain } from "./notices.js";
import { objectiveLabel } from "./search-log.js";

const POLL_MS = 1500;

export class Checkpoint {
  #timer = null;
  #turn = 0;
  #view;

  constructor(log) {
    this.log = log;
    this.body = h("div", { class: "checkpoint" });
    this.element = h(
      "section",
      { "aria-labelledby": "checkpoint-title" },
      h("h3", { id: "checkpoint-title" }, "Checkpoint"),
      this.body,
    );
  }

  /** Show the checkpoint of a candidate. */
  async draw(candidate) {
    this.candidate = candidate;
    [this.#view, this.ordinal] = [undefined, candidate.ordinal];
    clearTimeout(this.#timer);
    this.#turn += 1;
    // Most candidates have none: then there is nothing to ask for.
    if (candidate.checkpoint) await this.refresh();
    else this.#show(null);
  }

  /** Ask how it stands; also called when the log says that something happened to it. */
  async refresh() {
    const turn = ++this.#turn;
    clearTimeout(this.#timer);
    const view = await api
      .checkpoint(this.log.detail.id, this.ordinal)
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
      announce(`The checkpoint of ${this.candidate.label} is ready to download.`);
    if (JSON.stringify(this.#view) === JSON.stringify(view)) return;
    this.#view = view;
    fill(this.body, this.#content(view));
  }

  #content(view) {
    if (this.candidate.state === "infeasible")
      return h("p", { class: "muted" }, "An infeasible candidate has no checkpoint.");
    if (this.candidate.state === "pending")
      return h("p", { class: "muted" }, "Available once the candidate is scored.");
    if (view === null)
      return this.#offer(
        "Prepare download",
        "Writes this merge as a Hugging Face folder and scores it on the examples kept for reports.",
      );
    if (view.state === "requested") return this.#waiting();
    if (view.state === "failed")
      return [
        h("p", { class: "problem" }, view.reason ?? "It could not be written."),
        this.#offer("Try again", ""),
      ];
    return this.#stored(view);
  }

  #offer(label, text) {
    const button = h(
      "button",
      {
        type: "button",
        class: "primary",
        onclick: async () => {
          button.disabled = true;
          await this.#request();
        },
      },
      label,
    );
    return [text ? h("p", { class: "muted" }, text) : null, button];
  }

  async #request() {
    try {
      await api.requestCheckpoint(this.log.detail.id, this.ordinal);
      announce("The checkpoint is being written.");
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
      h("progress", { "aria-label": "Writing the checkpoint" }),
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
          { class: "button primary", href: api.tarUrl(id, this.ordinal), download: true },
          `Download .tar (${format.bytes(total)})`,
        ),
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
              h("a", { href: api.fileUrl(id, this.ordinal, name), download: true }, name),
              h("span", { class: "muted" }, format.bytes(file.size_bytes)),
              h("code", { title: `sha256 ${file.sha256}` }, file.sha256.slice(0, 12)),
            ),
          ),
        ),
      ),
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
