/** The Pareto front in two objectives, with the baselines and what was dominated. */

import { h } from "./element.js";
import * as format from "./format.js";
import { namePlaces } from "./name-places.js";
import { frontOf } from "./pareto.js";
import { Chart, axis, color, plain, short } from "./plot.js";
import { isBaseline, moveOf, objectiveLabel } from "./search-log.js";
import { SPLITS, isScoredOn, onSplit } from "./splits.js";

/** What stands on the horizontal axis of a search with one objective: the evaluation's number. */
export const EVALUATION = "evaluation";
const MOST_DOMINATED = 2000;
const HEIGHT = 430;
const HINT =
  "Up and to the right is better. Bars are standard errors; on select and report examples, " +
  "of which finalists and given models have scores, they are 95 % intervals. " +
  "Click a point to select it, drag to zoom, double-click to zoom out.";

export class FrontPlot {
  /**
   * @param {SearchLog} log
   * @param {{onPick: Function, onAxes: Function}} hooks
   */
  constructor(log, { onPick, onAxes }) {
    this.log = log;
    this.x = this.#select(
      "Horizontal",
      [...log.objectives.map(choice), [EVALUATION, "evaluation number"]],
      onAxes,
    );
    this.y = this.#select("Vertical", log.objectives.map(choice), onAxes);
    this.split = this.#select("Scores on", SPLITS, onAxes);
    this.chart = new Chart({
      title: "Front",
      columns: ["Candidate", "Horizontal", "Vertical", "Kind"],
      onPick,
      hint: HINT,
      controls: h(
        "div",
        { class: "axes" },
        [this.x, this.y, this.split].map((select) => select.parentElement),
      ),
    });
    this.chart.details.before(legend());
    this.element = this.chart.element;
  }

  /**
   * Choose the axes and the examples; keys that the search does not have fall back to its first
   * objectives, and splits to the one that all candidates are scored on.
   */
  choose(x, y, split) {
    this.wanted = SPLITS.some(([name]) => name === split) ? split : "search";
    const keys = this.log.objectives.map((objective) => objective.key);
    const other = keys.length > 1 ? keys[1] : keys[0];
    this.y.value = keys.includes(y) ? y : other;
    const free = keys.find((key) => key !== this.y.value) ?? EVALUATION;
    this.x.value = [...keys, EVALUATION].includes(x) && x !== this.y.value ? x : free;
    for (const option of this.x.options) option.disabled = option.value === this.y.value;
  }

  get axes() {
    return { x: this.x.value, y: this.y.value, split: this.split.value };
  }

  draw(selected) {
    this.#offerSplits();
    const [across, up] = [this.#across(), this.#objective(this.y.value)];
    const points = this.#points(across, up);
    if (points.length === 0) return this.chart.draw({ empty: waiting(this.log) });
    const groups = this.#groups(points, up);
    return this.chart.draw({
      height: HEIGHT,
      traces: this.#traces(groups, points, selected),
      layout: this.#layout(across, up, points),
      summary:
        `Front of ${across.label} against ${up.label} on ${this.split.value} examples: ` +
        `${groups.front.length} of ${points.length} candidates are not dominated.`,
      rows: () => this.#rows(groups),
    });
  }

  close() {
    this.chart.close();
  }

  #select(label, options, onAxes) {
    const select = h(
      "select",
      { onchange: () => onAxes(this.axes) },
      options.map(([value, text]) => h("option", { value }, text)),
    );
    h("label", {}, `${label} `, select);
    return select;
  }

  /** Splits that nobody has scores on yet cannot be chosen. */
  #offerSplits() {
    const candidates = [...this.log.candidates.values()];
    for (const option of this.split.options) {
      const { value } = option;
      option.disabled =
        value !== "search" && !candidates.some((candidate) => isScoredOn(candidate, value));
      if (value === this.wanted) this.split.value = option.disabled ? "search" : value;
    }
  }

  get #heldOut() {
    return this.split.value !== "search";
  }

  #objective(key) {
    const objective = this.log.objectives.find((entry) => entry.key === key);
    return { key, objective, label: objectiveLabel(objective), higher: objective.higher_is_better };
  }

  #across() {
    const key = this.x.value;
    return key === EVALUATION
      ? { key, objective: null, label: "evaluation number", higher: true }
      : this.#objective(key);
  }

  #points(across, up) {
    const points = [];
    for (const known of this.log.candidates.values()) {
      if (!isScoredOn(known, this.split.value)) continue;
      const candidate = onSplit(known, this.split.value);
      const [x, y] = [at(candidate, across), at(candidate, up)];
      if (x.value !== null && y.value !== null)
        points.push({ candidate, ordinal: candidate.ordinal, x, y });
    }
    return points.sort((a, b) => a.ordinal - b.ordinal);
  }

  /** Baselines apart; the rest by whether it is on this front, on that of all objectives, or off. */
  #groups(points, up) {
    const front =
      this.x.value === EVALUATION
        ? records(points, up.higher)
        : frontOf(
            points.map((point) => point.candidate),
            [this.#objective(this.x.value).objective, up.objective],
            this.log.missing,
          );
    const searched = points.filter((point) => !isBaseline(point.candidate));
    const off = searched.filter((point) => !front.has(point.ordinal));
    const candidates = points.map((point) => point.candidate);
    const { log } = this;
    const all = this.#heldOut ? frontOf(candidates, log.objectives, log.missing) : log.front;
    return {
      front: points.filter((point) => front.has(point.ordinal)),
      elsewhere: off.filter((point) => all.has(point.ordinal)),
      dominated: off.filter((point) => !all.has(point.ordinal)).slice(-MOST_DOMINATED),
      baselines: points.filter((point) => isBaseline(point.candidate)),
    };
  }

  #traces({ front, elsewhere, dominated, baselines }, points, selected) {
    const chosen = points.filter((point) => point.ordinal === selected);
    return [
      {
        ...this.#scatter(dominated, "dominated"),
        marker: { color: color("faint"), size: 7, opacity: 0.75 },
      },
      {
        ...this.#scatter(elsewhere, "on the front of all objectives"),
        marker: { color: color("surface"), size: 8, line: { color: color("accent"), width: 1.5 } },
      },
      {
        ...this.#line(front),
        mode: "lines",
        type: "scatter",
        hoverinfo: "skip",
        name: "front",
        line: {
          color: color("accent"),
          width: 2,
          shape: this.x.value === EVALUATION ? "hv" : "vh",
        },
      },
      {
        ...this.#scatter(
          front.filter((point) => !isBaseline(point.candidate)),
          "front",
          true,
        ),
        marker: { color: color("accent"), size: 10, line: { color: color("surface"), width: 1 } },
      },
      this.#diamonds(baselines, points),
      {
        ...this.#scatter(chosen, "selected"),
        hoverinfo: "skip",
        hovertemplate: null,
        marker: { color: "rgba(0,0,0,0)", size: 20, line: { color: color("text"), width: 2 } },
      },
    ];
  }

  #scatter(points, name, bars = false) {
    return {
      type: "scatter",
      mode: "markers",
      name,
      x: points.map((point) => point.x.value),
      y: points.map((point) => point.y.value),
      customdata: points.map((point) => point.ordinal),
      text: points.map((point) => this.#hover(point)),
      hovertemplate: "%{text}<extra></extra>",
      cliponaxis: false,
      error_x: errors(
        points.map((point) => point.x),
        bars || this.#heldOut,
        this.#heldOut,
      ),
      error_y: errors(
        points.map((point) => point.y),
        bars || this.#heldOut,
        this.#heldOut,
      ),
    };
  }

  #diamonds(points, all) {
    const tint = points.map((point) =>
      color(point.candidate.origin.move === "parent" ? "parent" : "baseline"),
    );
    return {
      ...this.#scatter(points, "baselines", true),
      mode: "markers+text",
      marker: {
        symbol: "diamond",
        size: 12,
        color: tint,
        line: { color: color("surface"), width: 1.5 },
      },
      texttemplate: points.map((point) => short(point.candidate.label, 20)),
      textposition: namePlaces(points, all),
      textfont: { color: color("text"), size: 12 },
    };
  }

  /** The step line through the front, from best upwards to best rightwards. */
  #line(front) {
    const sign = this.x.value === EVALUATION || this.#objective(this.x.value).higher ? 1 : -1;
    const sorted = [...front].sort(
      (a, b) => sign * (a.x.value - b.x.value) || a.ordinal - b.ordinal,
    );
    const [x, y] = [sorted.map((point) => point.x.value), sorted.map((point) => point.y.value)];
    if (this.x.value === EVALUATION && x.length) {
      x.push(this.log.progress.proposed - 1);
      y.push(y.at(-1));
    }
    return { x, y };
  }

  #hover({ candidate, x, y }) {
    const lines = [`<b>${short(candidate.label, 40)}</b> ${plain(moveOf(candidate.origin))}`];
    const told = this.#heldOut ? format.within : format.measured;
    for (const part of [x, y]) {
      if (part.label !== null) lines.push(`${short(part.label, 40)} ${told(part)}`);
    }
    return lines.join("<br>");
  }

  #layout(across, up, points) {
    return {
      xaxis: axis({
        title: { text: title(across, this.split.value) },
        range: padded(
          points.map((p) => p.x.value),
          across.higher,
        ),
      }),
      yaxis: axis({
        title: { text: title(up, this.split.value) },
        range: padded(
          points.map((p) => p.y.value),
          up.higher,
        ),
      }),
      uirevision: `${across.key} ${up.key} ${this.split.value}`,
    };
  }

  #rows({ front, elsewhere, dominated, baselines }) {
    const kinds = [
      [front, "front"],
      [elsewhere, "front of all objectives"],
      [dominated, "dominated"],
    ];
    const known = new Set(baselines.map((point) => point.ordinal));
    const row = (kind) => (point) => [
      point.candidate.label,
      this.#heldOut ? format.within(point.x) : format.score(point.x.value),
      this.#heldOut ? format.within(point.y) : format.score(point.y.value),
      kind,
    ];
    return [
      ...kinds.flatMap(([points, kind]) =>
        points.filter((point) => !known.has(point.ordinal)).map(row(kind)),
      ),
      ...baselines.map(row("baseline")),
    ];
  }
}

const legend = () =>
  h(
    "ul",
    { class: "legend", "aria-label": "Legend" },
    h("li", { class: "front" }, "front in these two"),
    h("li", { class: "elsewhere" }, "front in all objectives"),
    h("li", { class: "dominated" }, "dominated"),
    h("li", { class: "parents" }, "parents"),
    h("li", { class: "given" }, "base, average"),
  );

const choice = (objective) => [objective.key, objectiveLabel(objective)];

function waiting(log) {
  if (log.state === "surveying") return "The models are being read once; the first scores follow.";
  return log.progress.scored
    ? "No candidate has both of these scores."
    : "No candidate has been scored yet.";
}

function at(candidate, { key, objective, label }) {
  if (objective === null) return { value: candidate.ordinal, stderr: null, label: null };
  const entry = candidate.scores[key];
  return { low: null, high: null, ...entry, value: entry?.value ?? null, label };
}

/** The candidates that were the best of their time. */
function records(points, higher) {
  let best = null;
  const ordinals = new Set();
  for (const { ordinal, y } of points) {
    const value = higher ? y.value : -y.value;
    if (best !== null && value <= best) continue;
    best = value;
    ordinals.add(ordinal);
  }
  return ordinals;
}

/** Standard errors, or 95 % intervals, which need not be symmetric. */
function errors(values, visible, intervals) {
  const up = ({ value, high, stderr }) => (intervals ? (high ?? value) - value : (stderr ?? 0));
  const down = ({ value, low, stderr }) => (intervals ? value - (low ?? value) : (stderr ?? 0));
  return {
    type: "data",
    symmetric: false,
    array: values.map(up),
    arrayminus: values.map(down),
    visible,
    thickness: 1,
    width: 0,
    color: color("error-bar"),
  };
}

function title({ label, objective, higher }, split) {
  if (objective === null) return plain(label);
  const where = split === "search" ? "" : `, on ${split} examples`;
  return `${short(label, 48)}${where}${higher ? "" : "  (lower is better, axis reversed)"}`;
}

/** Range with room for labels; reversed where lower is better. */
function padded(values, higher) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = (high - low || Math.abs(high) || 1) * 0.09;
  return higher ? [low - room, high + room] : [high + room, low - room];
}
