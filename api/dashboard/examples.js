/** Which examples a candidate wins and loses against another model. */

import * as api from "./api.js";
import { fill, h, setText } from "./element.js";
import * as format from "./format.js";
import { complain } from "./notices.js";
import { objectiveLabel } from "./search-log.js";

const SPLITS = { search: "search", select: "select", report: "report" };

export class Examples {
  #turn = 0;

  constructor(log) {
    this.log = log;
    const changed = { onchange: () => this.#load() };
    this.baseline = h("select", { ...changed });
    this.split = h(
      "select",
      { ...changed },
      Object.entries(SPLITS).map(([value, text]) => h("option", { value }, text)),
    );
    this.body = h("div", { class: "duels", "aria-live": "polite" });
    this.summary = h("summary", {}, "Examples won and lost");
    // Asked for when it is opened: most readers want the scores alone.
    this.details = h(
      "details",
      { ontoggle: () => this.#load() },
      this.summary,
      h(
        "div",
        { class: "choices" },
        h("label", {}, "Against ", this.baseline),
        h("label", {}, "on examples of ", this.split),
      ),
      this.body,
    );
    this.element = h("section", { class: "card panel-examples" }, this.details);
  }

  /** Show a candidate; the model that it is compared with stays the same. */
  draw(candidate) {
    this.candidate = candidate;
    const chosen = this.baseline.value;
    const others = this.#others(candidate);
    fill(
      this.baseline,
      others.map((other) => h("option", { value: other.ordinal }, other.label)),
    );
    if (others.some((other) => String(other.ordinal) === chosen)) this.baseline.value = chosen;
    this.element.hidden = candidate.state !== "scored" || others.length === 0;
    this.#load();
  }

  /** The models that were given, then the candidates that it was made from. */
  #others(candidate) {
    const made = candidate.origin.parents
      .map((ordinal) => this.log.candidates.get(ordinal))
      .filter((other) => other !== undefined);
    const all = [...this.log.baselines, ...made].filter(
      (other) => other.ordinal !== candidate.ordinal && other.state === "scored",
    );
    return [...new Map(all.map((other) => [other.ordinal, other])).values()];
  }

  async #load() {
    const turn = ++this.#turn;
    if (!this.details.open || this.element.hidden) return;
    const { ordinal } = this.candidate;
    try {
      const found = await api.comparison(
        this.log.detail.id,
        ordinal,
        Number(this.baseline.value),
        this.split.value,
      );
      if (turn === this.#turn) this.#show(found);
    } catch (error) {
      if (turn !== this.#turn) return;
      if (error.status === 404) fill(this.body, h("p", { class: "empty" }, error.message));
      else complain(error);
    }
  }

  #show(found) {
    const other = this.baseline.selectedOptions[0]?.textContent ?? `#${found.baseline}`;
    setText(this.summary, `Examples won and lost against ${other}`);
    fill(
      this.body,
      found.objectives.map((duel) => {
        const objective = this.log.objectives.find((one) => one.key === duel.key);
        return h(
          "section",
          { class: "duel" },
          h("h3", {}, objectiveLabel(objective)),
          h(
            "p",
            { class: "muted" },
            `${duel.wins} won, ${duel.losses} lost, ${duel.ties} equal` +
              (objective.higher_is_better ? "" : "; less is better"),
          ),
          list("Won", duel.wins, duel.won),
          list("Lost", duel.losses, duel.lost),
        );
      }),
    );
  }
}

function list(title, count, examples) {
  if (count === 0) return null;
  const shown = examples.length < count ? ` (the clearest ${examples.length} of ${count})` : "";
  return h(
    "details",
    { class: title.toLowerCase() },
    h("summary", {}, `${title}${shown}`),
    h("ol", { tabindex: "0" }, examples.map(entry)),
  );
}

function entry(example) {
  const [mine, theirs] = [example.score, example.baseline_score].map(format.significant);
  return h(
    "li",
    {},
    h("span", { class: "muted" }, `example ${example.example} · ${mine} against ${theirs}`),
    example.question ? h("q", {}, example.question) : null,
    example.answer ? h("span", { class: "answer" }, `answer: ${example.answer}`) : null,
  );
}
