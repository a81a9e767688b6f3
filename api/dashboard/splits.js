/** Which examples scores are of: the search's own, or those that it never saw. */

/** Split -> what it is called, in the order in which a search comes to them. */
export const SPLITS = [
  ["search", "search examples"],
  ["select", "select examples"],
  ["report", "report examples"],
];

const FIELDS = { search: "scores", select: "selected", report: "reported" };

/** The scores of a candidate on a split, by objective; empty where there are none. */
export const scoresOn = (candidate, split) => candidate[FIELDS[split]] ?? {};

export const isScoredOn = (candidate, split) =>
  candidate.state === "scored" && Object.keys(scoresOn(candidate, split)).length > 0;

/** A candidate as it would be if there were no other examples. */
export const onSplit = (candidate, split) => ({
  ...candidate,
  scores: scoresOn(candidate, split),
});
