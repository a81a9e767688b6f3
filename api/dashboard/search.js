/** One search: all panels share the log, and one selection that is kept in the address. */

import * as api from "./api.js";
import { CandidatePanel } from "./candidate.js";
import { CandidatesTable } from "./candidates-table.js";
import { Commands } from "./commands.js";
import { fill, h, setText } from "./element.js";
import { follow } from "./events.js";
import * as format from "./format.js";
import { FrontPlot } from "./front-plot.js";
import { HypervolumePlot } from "./hypervolume-plot.js";
import { NoiseFloor } from "./noise-floor.js";
import { announce } from "./notices.js";
import { Pacing } from "./pacing.js";
import { Preference } from "./preference.js";
import { ProgressBar, sentence } from "./progress.js";
import { ResultPanel } from "./result-panel.js";
import { go, hrefWith, route } from "./router.js";
import { SearchLog, isLive } from "./search-log.js";
import { stateChip } from "./state-chip.js";
import { Survey } from "./survey.js";
import { throttled } from "./throttle.js";
import { Tiles } from "./tiles.js";

const PAGE = 500;
const MOST_LOADED = 5000;
const ANNOUNCE_MS = 15_000;
// Entries after which more has changed than they say themselves.
const REFRESHING = [
  "surveyed",
  "extend",
  "stopped",
  "reporting",
  "failed",
  "finished",
  "cancel",
];

export class SearchPage {
  title = "Search";
  #closed = false;
  #stop = () => {};
  #redraws = throttled(() => this.#draw());
  #announced = 0;

  constructor({ id }) {
    this.id = id;
    this.element = h(
      "div",
      { class: "page" },
      h("h1", { class: "visually-hidden", tabindex: "-1" }, "Search"),
      h("p", { class: "empty" }, "Loading…"),
    );
    this.#load();
  }

  /** The address changed: other axes, or another candidate. */
  update({ query }) {
    this.query = query;
    if (!this.log) return;
    this.front.choose(query.get("x"), query.get("y"), query.get("split"));
    this.#redraws.soon();
  }

  redraw() {
    if (!this.log) return;
    this.candidate.redraw();
    this.#redraws.soon();
  }

  close() {
    this.#closed = true;
    this.#stop();
    this.#redraws.stop();
    for (const part of [this.front, this.hypervolume, this.candidate, this.preference])
      part?.close();
  }

  async #load() {
    try {
      const log = new SearchLog(await api.search(this.id));
      await this.#loadCandidates(log);
      if (!this.#closed) this.#build(log);
    } catch (error) {
      if (!this.#closed)
        fill(
          this.element,
          h(
            "h1",
            { tabindex: "-1" },
            error.status === 404 ? "There is no such search" : "This search cannot be shown",
          ),
          h("p", {}, error.message),
          h("p", {}, h("a", { href: "#/" }, "All searches")),
        );
    }
  }

  /** The newest candidates; of a very long search also its front. */
  async #loadCandidates(log) {
    const skipped = log.progress.proposed - MOST_LOADED;
    log.partial = skipped > 0;
    let after = log.partial ? skipped - 1 : undefined;
    do {
      const page = await api.candidates(this.id, after, PAGE);
      page.items.forEach((candidate) => log.add(candidate));
      after = page.next;
    } while (after !== null && after !== undefined && !this.#closed);
    if (!log.partial) return;
    const front = await api.front(
      this.id,
      log.objectives.map((objective) => objective.key),
    );
    front.items.forEach((candidate) => log.add(candidate));
  }

  #build(log) {
    this.log = log;
    this.title = log.detail.name;
    document.title = `${this.title} · nichemerge`;
    this.commands = new Commands(this.id, () => this.#refresh());
    this.progress = new ProgressBar("Progress of the search");
    this.tiles = new Tiles(log);
    this.result = new ResultPanel(log);
    this.preference = new Preference(this.id, log);
    this.front = new FrontPlot(log, {
      onPick: (ordinal) => go(hrefWith({ candidate: ordinal })),
      onAxes: ({ x, y, split }) =>
        go(hrefWith({ x, y, split: split === "search" ? null : split })),
    });
    this.hypervolume = new HypervolumePlot(log);
    this.table = new CandidatesTable(log);
    this.survey = new Survey(log);
    this.candidate = new CandidatePanel(log);
    this.query = route().query;
    this.front.choose(this.query.get("x"), this.query.get("y"), this.query.get("split"));
    const reading = this.element.contains(document.activeElement);
    fill(
      this.element,
      this.#head(),
      this.problems,
      this.tiles.element,
      this.result.element,
      this.preference.element,
      h(
        "div",
        { class: "panels" },
        h("div", { class: "card panel-front" }, this.front.element),
        this.candidate.elements,
        h("div", { class: "card panel-hypervolume" }, this.hypervolume.element),
        this.table.element,
      ),
      this.survey.element,
    );
    if (reading) this.element.querySelector("h1").focus({ preventScroll: true });
    this.#draw();
    this.#stop = follow(this.id, log.seq, {
      onEvent: (event) => this.#receive(event),
      onLive: (live) => this.#live(live),
    });
  }

  #head() {
    const { detail } = this.log;
    this.chip = h("span", { class: "state" });
    this.connection = h("span", { class: "connection muted" }, "connecting…");
    this.problems = h("div", { class: "problems" });
    this.stopped = h("p", { class: "muted" });
    this.status = h("p", { class: "optimizer-status" });
    this.noise = new NoiseFloor(this.log.objectives);
    this.pacing = new Pacing();
    return h(
      "header",
      { class: "card search-head" },
      h(
        "div",
        { class: "search-title" },
        h("h1", { tabindex: "-1" }, detail.name),
        this.chip,
        this.connection,
      ),
      h(
        "p",
        { class: "muted" },
        [
          detail.method,
          detail.optimizer,
          format.count(detail.spec.parents.length, "parent"),
          `seed ${detail.spec.seed}`,
          format.moment(detail.created_at),
        ].join(" · "),
      ),
      this.progress.element,
      this.stopped,
      this.status,
      this.commands.element,
      h(
        "details",
        { class: "spec" },
        h("summary", {}, "Spec"),
        h("pre", { tabindex: "0" }, JSON.stringify(detail.spec, null, 2)),
      ),
      this.noise.element,
      this.pacing.element,
    );
  }

  #receive(event) {
    const before = this.log.state;
    this.log.apply(event);
    if (event.kind.startsWith("checkpoint_"))
      this.candidate.checkpointChanged(event.ordinal, event.detail.form);
    if (REFRESHING.includes(event.kind)) this.#refresh();
    if (before !== this.log.state) this.#announced = 0;
    this.#redraws.soon();
  }

  #live(live) {
    setText(this.connection, live ? "live" : "reconnecting…");
    this.connection.classList.toggle("on", live);
  }

  async #refresh() {
    const detail = await api.search(this.id).catch(() => null);
    if (detail === null || this.#closed) return;
    this.log.refresh(detail);
    this.#redraws.soon();
  }

  async #draw() {
    const { progress, state } = this.log;
    if (this.drawnState !== state) fill(this.chip, stateChip(state));
    this.drawnState = state;
    this.progress.update(progress, state);
    const { stopped } = this.log.detail;
    setText(this.stopped, stopped ? `Stopped early: ${stopped}.` : "");
    this.stopped.hidden = !stopped;
    setText(this.status, isLive(state) ? (this.log.status ?? "") : "");
    this.commands.update(state);
    fill(
      this.problems,
      this.log.detail.problems.map(said("problem")),
    );
    this.noise.draw(this.log.detail.noise ?? {});
    this.pacing.draw(this.log.detail.pacing ?? null);
    this.#announce(`${this.log.detail.name} is ${state}: ${sentence(progress, state)}.`);
    const chosen = this.query.get("candidate");
    const selected =
      chosen !== null && /^\d+$/.test(chosen) ? Number(chosen) : (this.log.best?.ordinal ?? null);
    this.tiles.draw();
    this.survey.draw();
    this.result.draw();
    this.preference.draw();
    this.table.draw(selected);
    await Promise.all([
      this.front.draw(selected),
      this.hypervolume.draw(),
      this.candidate.show(selected, chosen !== null),
    ]);
  }

  #announce(text) {
    if (Date.now() - this.#announced < ANNOUNCE_MS) return;
    this.#announced = Date.now();
    announce(text);
  }
}

const said =
  (kind) =>
  ({ field, message }) =>
    h("p", { class: kind }, h("code", {}, field), " ", message);
