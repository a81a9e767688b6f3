/** Pause, resume, extend, cancel: what can be done to a search in its present state. */

import * as api from "./api.js";
import { h } from "./element.js";
import { complain } from "./notices.js";

const ALLOWED = {
  pause: ["running", "selecting", "reporting"],
  resume: ["paused"],
  extend: ["running", "selecting", "reporting", "paused", "finished"],
  cancel: ["surveying", "running", "selecting", "reporting", "paused"],
};

export class Commands {
  /** @param {Function} onDone called after a command was accepted. */
  constructor(id, onDone) {
    [this.id, this.onDone] = [id, onDone];
    this.more = h("input", {
      type: "number",
      min: "1",
      max: "1000000",
      value: "20",
      title: "how many more evaluations",
    });
    this.buttons = {
      pause: h("button", { type: "button", onclick: () => this.#send({ kind: "pause" }) }, "Pause"),
      resume: h(
        "button",
        { type: "button", class: "primary", onclick: () => this.#send({ kind: "resume" }) },
        "Resume",
      ),
      extend: h(
        "form",
        { class: "extend", onsubmit: (event) => this.#extend(event) },
        h("label", {}, "Extend by ", this.more),
        h("button", { type: "submit", "aria-label": "Extend the search" }, "Extend"),
      ),
      cancel: h(
        "button",
        { type: "button", class: "danger", onclick: () => this.dialog.showModal() },
        "Cancel",
      ),
    };
    this.dialog = this.#confirmation();
    this.element = h(
      "div",
      { class: "commands", role: "group", "aria-label": "Commands" },
      Object.values(this.buttons),
      this.dialog,
    );
  }

  update(state) {
    for (const [kind, button] of Object.entries(this.buttons))
      button.hidden = !ALLOWED[kind].includes(state);
  }

  #confirmation() {
    const dialog = h(
      "dialog",
      {
        "aria-labelledby": "cancel-title",
        onclose: () => {
          if (dialog.returnValue === "cancel") this.#send({ kind: "cancel" });
          dialog.returnValue = "";
        },
      },
      h(
        "form",
        { method: "dialog" },
        h("h2", { id: "cancel-title" }, "Cancel this search?"),
        h(
          "p",
          {},
          "No further candidates are evaluated. All results so far stay, and can be downloaded.",
        ),
        h(
          "div",
          { class: "actions" },
          h("button", { value: "" }, "Keep searching"),
          h("button", { class: "danger", value: "cancel" }, "Cancel the search"),
        ),
      ),
    );
    return dialog;
  }

  #extend(event) {
    event.preventDefault();
    this.#send({ kind: "extend", evaluations: this.more.valueAsNumber });
  }

  async #send(command) {
    try {
      await api.command(this.id, command);
      await this.onDone();
    } catch (error) {
      complain(error);
    }
  }
}
