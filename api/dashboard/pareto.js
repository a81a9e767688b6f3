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

/** A front that grows, of what misses the constraints least; of equal points all are kept. */
export class Front {
  #entries = new Map();

  /** `missing` says by how much a candidate misses the constraints. */
  constructor(objectives, missing = () => 0) {
    this.objectives = objectives;
    this.missing = missing;
  }

  /** Offer a candidate. */
  add(candidate) {
    const point = oriented(candidate, this.objectives);
    if (point === null) return;
    const entry = { point, missed: this.missing(candidate) };
    for (const [ordinal, other] of this.#entries) {
      if (dominates(other, entry)) return;
      if (dominates(entry, other)) this.#entries.delete(ordinal);
    }
    this.#entries.set(candidate.ordinal, entry);
  }

  has(ordinal) {
    return this.#entries.has(ordinal);
  }

  get ordinals() {
    return [...this.#entries.keys()];
  }
}

/** The front of some candidates in some objectives. */
export function frontOf(candidates, objectives, missing) {
  const front = new Front(objectives, missing);
  for (const candidate of candidates) front.add(candidate);
  return front;
}

function dominates({ point: a, missed }, { point: b, missed: other }) {
  if (missed !== other) return missed < other;
  return a.every((value, i) => value >= b[i]) && a.some((value, i) => value > b[i]);
}
