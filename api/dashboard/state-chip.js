/** The state of a search: a word and a sign, so that colour is never alone. */

import { h } from "./element.js";

const STATES = {
  surveying: ["◔", "reading models"],
  running: ["●", "running"],
  selecting: ["◑", "selecting"],
  reporting: ["◕", "reporting"],
  paused: ["❙❙", "paused"],
  finished: ["✓", "finished"],
  cancelled: ["⊘", "cancelled"],
  failed: ["✕", "failed"],
};

export function stateChip(state) {
  const [sign, word] = STATES[state] ?? ["", state];
  return h(
    "span",
    { class: `chip state-${STATES[state] ? state : "other"}` },
    h("span", { "aria-hidden": "true" }, sign),
    word,
  );
}
