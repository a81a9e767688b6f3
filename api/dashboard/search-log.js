/**
 * One search as this page knows it: a fold over its log, like every other reader of it.
 * First the state as the service tells it, then entry after entry.
 */

import { boundsOf, missing } from "./constraints.js";
import { Front, frontOf, oriented } from "./pareto.js";

export const BASELINES = ["base", "parent", "average"];

const UNBOUNDED = { low: null, high: null };

export class SearchLog {
  #bounds = new Map();
  #adviser = -1;

  constructor(detail) {
    this.detail = detail;
    this.objectives = detail.objectives;
    this.progress = detail.progress;
    this.state = detail.state;
    this.seq = detail.seq;
    this.hypervolumes = detail.hypervolume_history.map(([evaluations, value]) => [
      evaluations,
      value,
    ]);
    this.candidates = new Map();
    this.missing = () => 0;
    this.front = new Front(this.objectives);
    this.partial = false;
    this.status = detail.status ?? null;
    for (const candidate of detail.baselines) this.add(candidate);
    if (detail.best) this.add(detail.best);
  }

  /** Take in a candidate; a recorded outcome never turns pending again. */
  add(candidate) {
    this.#listen(candidate);
    const known = this.candidates.get(candidate.ordinal);
    if (known && known.state !== "pending") {
      // Scored again, on examples that the search does not see.
      [known.selected, known.reported] = [candidate.selected, candidate.reported];
      return;
    }
    this.candidates.set(candidate.ordinal, candidate);
    if (this.constrained && isGiven(candidate)) this.#settle();
    else this.front.add(candidate);
  }

  /** What the optimizer does is what it said with its newest candidate. */
  #listen({ ordinal, origin }) {
    if (ordinal <= this.#adviser || !origin.detail?.status) return;
    [this.#adviser, this.status] = [ordinal, origin.detail.status];
  }

  /** Whether any objective has a bound. */
  get constrained() {
    const asked = this.detail.spec.objectives;
    return asked.some(({ at_least, at_most }) => (at_least ?? at_most ?? null) !== null);
  }

  /** The bounds of an objective, as far as they are known. */
  boundsOf(objective) {
    return this.#bounds.get(objective.key) ?? UNBOUNDED;
  }

  /** Bounds can be relative to what base and parents score. */
  #settle() {
    const asked = this.detail.spec.objectives;
    const givens = [...this.candidates.values()].filter(isGiven);
    this.#bounds = new Map(
      this.objectives.map((objective, i) => [objective.key, boundsOf(objective, asked[i], givens)]),
    );
    this.missing = missing(this.objectives, this.#bounds, givens);
    this.front = frontOf(this.candidates.values(), this.objectives, this.missing);
  }

  /** Take in the state as the service tells it now. */
  refresh(detail) {
    if (detail.seq < this.seq) return;
    [this.detail, this.progress, this.state] = [detail, detail.progress, detail.state];
  }

  /** Take in the next entry. */
  apply(event) {
    this.seq = event.seq;
    if (event.candidate) this.add(event.candidate);
    if (event.progress) this.progress = event.progress;
    if (event.state) this.state = event.state;
    const outcome = event.kind === "scored" || event.kind === "infeasible";
    if (outcome && event.progress && Number.isFinite(event.hypervolume)) {
      this.hypervolumes.push([evaluated(event.progress), event.hypervolume]);
    }
  }

  /** What the search has come to, unless it is at work on another. */
  get result() {
    return ["surveying", "running", "selecting"].includes(this.state) ? null : this.detail.result;
  }

  get hypervolume() {
    return this.hypervolumes.at(-1)?.[1] ?? this.detail.hypervolume;
  }

  get baselines() {
    return [...this.candidates.values()].filter(isBaseline).sort((a, b) => a.ordinal - b.ordinal);
  }

  /**
   * The winner where one was chosen; until then the candidate that the objectives' weights pick on
   * the search split, the earliest of equals. Each objective is measured in spans of the
   * baselines, as the service does it, so that weights compare tasks and not units.
   */
  get best() {
    if (this.result) return this.candidates.get(this.result.winner.ordinal) ?? this.result.winner;
    const spans = this.objectives.map((objective) => span(this.baselines, objective));
    const total = (ordinal) =>
      oriented(this.candidates.get(ordinal), this.objectives).reduce(
        (sum, value, i) => sum + (value * this.objectives[i].weight) / spans[i],
        0,
      );
    const ranked = this.front.ordinals.map((ordinal) => [total(ordinal), ordinal]);
    const winner = ranked.reduce(
      (best, entry) =>
        entry[0] > best[0] || (entry[0] === best[0] && entry[1] < best[1]) ? entry : best,
      [-Infinity, null],
    );
    return winner[1] === null ? null : this.candidates.get(winner[1]);
  }

  /** The best of some candidates in one objective, or null. */
  bestAt(objective, among = this.front.ordinals.map((ordinal) => this.candidates.get(ordinal))) {
    const scored = among.filter((candidate) => oriented(candidate, [objective]) !== null);
    return scored.reduce((best, candidate) => {
      if (best === null) return candidate;
      return oriented(candidate, [objective])[0] > oriented(best, [objective])[0]
        ? candidate
        : best;
    }, null);
  }
}

/** How far the baselines lie apart in one objective; 1 where that is not known. */
function span(baselines, objective) {
  const values = baselines
    .map((candidate) => oriented(candidate, [objective])?.[0])
    .filter((value) => value !== undefined);
  if (values.length === 0) return 1;
  const least = 0.25 * Math.max(...values.map(Math.abs));
  return Math.max(Math.max(...values) - Math.min(...values), least, 1e-9);
}

/** The objectives that a plain mean makes sense of: scores, not losses. */
export const averaged = (objectives) =>
  objectives.filter((objective) => objective.higher_is_better);

/** Mean of those scores of a candidate, or null. */
export function meanScore(candidate, objectives) {
  const scores = averaged(objectives);
  const values = scores.length ? oriented(candidate, scores) : null;
  return values && values.reduce((sum, value) => sum + value, 0) / values.length;
}

export const isBaseline = (candidate) => BASELINES.includes(candidate.origin.move);
const isGiven = ({ origin }) => origin.move === "base" || origin.move === "parent";
export const evaluated = (progress) => progress.scored + progress.infeasible;

/** What made a candidate, in words. */
export function moveOf(origin) {
  if (origin.move === "kept") return `kept, #${origin.detail.ordinal} of an earlier search`;
  const move = origin.move.replaceAll("_", " ");
  return origin.move === "warm_start" && origin.detail.name
    ? `${move} near ${origin.detail.name}`
    : move;
}

/** Which states a search can still leave by itself. */
export const isLive = (state) =>
  ["surveying", "running", "selecting", "reporting"].includes(state);

/** An objective in full. */
export function objectiveLabel(objective) {
  return `${objective.task} · ${objective.metric}`;
}

/** An objective where room is short: its task, with the metric only where the task has several. */
export function shortLabel(objective, objectives) {
  const alone = objectives.filter((other) => other.task === objective.task).length === 1;
  const name = alone ? objective.task : objectiveLabel(objective);
  return objective.higher_is_better ? name : `${name} ↓`;
}
