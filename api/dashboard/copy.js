/** A button that copies a text. */

import { h } from "./element.js";

export function copyButton(label, text) {
  const button = h(
    "button",
    {
      type: "button",
      class: "small",
      onclick: async () => {
        const done = await copy(text());
        button.textContent = done ? "Copied" : "Could not copy";
        setTimeout(() => {
          button.textContent = label;
        }, 1600);
      },
    },
    label,
  );
  return button;
}

/** The clipboard API needs https or localhost; elsewhere the old way still works. */
async function copy(text) {
  if (navigator.clipboard)
    return navigator.clipboard.writeText(text).then(
      () => true,
      () => false,
    );
  const area = h("textarea", { class: "visually-hidden" });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}
