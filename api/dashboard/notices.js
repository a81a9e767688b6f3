/** Things the reader must hear of, said once: seen at the corner, read out by screen readers. */

import { h, setText } from "./element.js";

const SHOWN_MS = 8000;

/** Show a problem until it is dismissed or has been there a while. */
export function complain(error) {
  const note = h(
    "div",
    { class: "notice" },
    h("p", {}, error.message),
    h(
      "button",
      { type: "button", class: "quiet", "aria-label": "Dismiss", onclick: () => note.remove() },
      "✕",
    ),
  );
  document.getElementById("notices").append(note);
  setTimeout(() => note.remove(), SHOWN_MS);
}

/** Say something to screen readers when they have a moment. */
export function announce(text) {
  setText(document.getElementById("status"), text);
}
