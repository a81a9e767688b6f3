/** What candidates must hold, and by how much they miss it, as the service reckons it. */

/** The bounds of an objective in the metric's own sign, null where there is none or none yet. */
export function boundsOf(objective, asked, givens) {
  return {
    low: resolved(asked?.at_least, objective, givens),
    high: resolved(asked?.at_most, objective, givens),
  };
}

/**
 * A function from a candidate to the sum of what it misses, 0 where it holds everything. Each
 * objective is measured in spans of base and parents.
 */
export function missing(objectives, bounds, givens) {
  const limits = objectives
    .map((objective) => ({ objective, ...bounds.get(objective.key) }))
    .filter(({ low, high }) => low !== null || high !== null)
    .map((limit) => ({ ...limit, unit: span(limit.objective, givens) }));
  return (candidate) =>
    limits.reduce((sum, limit) => {
      const value = candidate.scores[limit.objective.key]?.value;
      const missed = excess(value, limit) / limit.unit;
      return missed > 1e-9 ? sum + missed : sum;
    }, 0);
}

/** How far a value lies outside of bounds. */
function excess(value, { low, high }) {
  return Math.max(low === null ? 0 : low - value, high === null ? 0 : value - high, 0);
}

/** Whether a score of a candidate lies within bounds. */
export const holds = (value, bounds) => !(excess(value, bounds) > 1e-9 * Math.abs(value));

/** Bounds in words; empty where there are none. */
export function boundsText({ low, high }, write) {
  const words = [];
  if (low !== null) words.push(`at least ${write(low)}`);
  if (high !== null) words.push(`at most ${write(high)}`);
  return words.join(", ");
}

/** How far base and parents lie apart in one objective; at least a quarter of their magnitude. */
function span(objective, givens) {
  const values = givens.map((candidate) => valueOf(candidate, objective)).filter(isNumber);
  if (values.length === 0) return 1;
  const least = 0.25 * Math.max(...values.map(Math.abs));
  return Math.max(Math.max(...values) - Math.min(...values), least, 1e-9);
}

function resolved(bound, objective, givens) {
  if (bound === null || bound === undefined) return null;
  if (isNumber(bound)) return bound;
  const move = isNumber(bound.base) ? "base" : "parent";
  const meant = givens.filter((candidate) => candidate.origin.move === move);
  if (meant.length === 0 || meant.some((candidate) => candidate.state === "pending")) return null;
  const values = meant.map((candidate) => valueOf(candidate, objective)).filter(isNumber);
  if (values.length === 0) return null;
  const best = objective.higher_is_better ? Math.max(...values) : Math.min(...values);
  return best + (bound.base ?? bound.best_parent);
}

const valueOf = (candidate, objective) => candidate.scores[objective.key]?.value;
const isNumber = (value) => typeof value === "number";
