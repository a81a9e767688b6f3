/** Which candidate a preference picks: a slider for each objective, and what the service answers. */

import * as api from "./api.js";
import { fill, h, keepingFocus } from "./element.js";
import * as format from "./format.js";
import { hrefWith } from "./router.js";
import { objectiveLabel, shortLabel } from "./search-log.js";
import { throttled } from "./throttle.js";

const MOST = 10;

export class Preference {
  #asks = throttled(() => this.#ask());
  #asked = "";

  constructor(id, log) {
    [this.id, this.log] = [id, log];
    const largest = Math.max(...log.objectives.map((objective) => objective.weight));
    this.sliders = log.objectives.map((objective) => this.#slider(objective, largest));
    this.answer = h("p", { class: "picked", role: "status" });
    this.element = h(
      "details",
      { class: "card preference", hidden: log.objectives.length < 2, ontoggle: () => this.draw() },
      h("summary", {}, h("h2", {}, "Preference")),
      h(
        "p",
        { class: "hint" },
        "How much each objective counts, in spans of the given models. Of the front this picks " +
          "the candidate with the best weighted mean; of the finalists, once they are scored on " +
          "the select split.",
      ),
      h(
        "div",
        { class: "sliders" },
        this.sliders.map(({ label }) => label),
      ),
      this.answer,
    );
  }

  /** Ask again where something has changed: what is known, or what is wanted. */
  draw() {
    if (this.element.open) this.#asks.soon();
  }

  close() {
    this.#asks.stop();
  }

  #slider(objective, largest) {
    const input = h("input", {
      type: "range",
      min: 0,
      max: MOST,
      step: "any",
      value: (MOST * objective.weight) / largest,
      oninput: () => this.draw(),
    });
    const label = h(
      "label",
      { title: objectiveLabel(objective) },
      shortLabel(objective, this.log.objectives),
      input,
    );
    return { objective, input, label };
  }

  async #ask() {
    const weights = this.sliders
      .map(({ objective, input }) => `${objective.key}=${Number(input.value).toFixed(2)}`)
      .join(",");
    const { state, front } = this.log;
    const question = `${weights} ${state} ${front.ordinals.join()}`;
    if (question === this.#asked) return;
    this.#asked = question;
    if (this.sliders.every(({ input }) => Number(input.value) === 0)) {
      fill(this.answer, "Nothing counts: move a slider to the right.");
      return;
    }
    try {
      this.#show(await api.best(this.id, weights));
    } catch (error) {
      this.#asked = "";
      fill(this.answer, error.status === 404 ? "Nothing is scored yet." : error.message);
    }
  }

  #show(candidate) {
    const scores = this.log.objectives.map((objective) => {
      const value = candidate.scores[objective.key]?.value ?? null;
      return `${shortLabel(objective, this.log.objectives)} ${format.score(value)}`;
    });
    keepingFocus(this.answer, () =>
      fill(
        this.answer,
        "This picks ",
        h(
          "a",
          { href: hrefWith({ candidate: candidate.ordinal }), "data-key": "picked" },
          candidate.label,
        ),
        `: ${scores.join(", ")}.`,
      ),
    );
  }
}
