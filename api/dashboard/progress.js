/** How far a search is: a bar and the sentence beside it. */

import { h, setText } from "./element.js";
import * as format from "./format.js";
import { evaluated, isLive } from "./search-log.js";

export class ProgressBar {
  constructor(label) {
    this.bar = h("progress", { "aria-label": label });
    this.text = h("span", { class: "progress-text" });
    this.element = h("div", { class: "progress" }, this.bar, this.text);
  }

  update(progress, state) {
    this.bar.max = progress.evaluations;
    this.bar.value = evaluated(progress);
    setText(this.text, sentence(progress, state));
  }
}

/** "37 of 60 evaluated, 2 infeasible, about 12 s left". */
export function sentence(progress, state) {
  const parts = [
    `${evaluated(progress).toLocaleString("en")} of ${progress.evaluations.toLocaleString("en")} evaluated`,
  ];
  if (progress.infeasible) parts.push(`${progress.infeasible.toLocaleString("en")} infeasible`);
  if (progress.unconfirmed) parts.push(`${progress.unconfirmed} to be scored again`);
  if (isLive(state) && progress.seconds_left !== null)
    parts.push(`about ${format.duration(progress.seconds_left)} left`);
  return parts.join(" · ");
}
