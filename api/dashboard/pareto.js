/** Which candidates no other one dominates. Values are oriented here: higher is better. */

/** A candidate's values, each oriented so that higher is better; null when one is missing. */
export function oriented(candidate, objectives) {
  if (candidate.state !== "scored") return null;
  const values = objectives.map((objective) => {
    const value = candidate.scores[objective.key]?.value;
    if (value === null || value === undefined) return null;
    return objective.higher_is_better ? value : -value;
  });
  return values.includes(null) ? null : values;
}

/** A front that grows: of equal points all are kept. */
export class Front {
  #entries = new Map();

  constructor(objectives) {
    this.objectives = objectives;
  }

  /** Offer a candidate. */
  add(candidate) {
    const point = oriented(candidate, this.objectives);
    if (point === null) return;
    for (const [ordinal, other] of this.#entries) {
      if (dominates(other, point)) return;
      if (dominates(point, other)) this.#entries.delete(ordinal);
    }
    this.#entries.set(candidate.ordinal, point);
  }

  has(ordinal) {
    return this.#entries.has(ordinal);
  }

  get ordinals() {
    return [...this.#entries.keys()];
  }
}

/** Ordinals of the front in some objectives, the best in the first objective last. */
export function frontOf(candidates, objectives) {
  const front = new Front(objectives);
  for (const candidate of candidates) front.add(candidate);
  return front;
}

function dominates(a, b) {
  return a.every((value, i) => value >= b[i]) && a.some((value, i) => value > b[i]);
}
