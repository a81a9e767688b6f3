/** Asks for the API token where the service wants one; it is kept in an HttpOnly cookie, not here. */

import * as api from "./api.js";
import { h, setText } from "./element.js";

let asking = null;

/** Resolves once the service has accepted a token; many callers share one question. */
export function askForToken() {
  asking ??= ask().finally(() => {
    asking = null;
  });
  return asking;
}

function ask() {
  return new Promise((resolve) => {
    const token = h("input", {
      type: "password",
      id: "token",
      autocomplete: "current-password",
      required: true,
    });
    const problem = h("p", { class: "problem", role: "alert", hidden: true });
    const button = h("button", { type: "submit", class: "primary" }, "Log in");
    const dialog = h(
      "dialog",
      {
        class: "login",
        "aria-labelledby": "login-title",
        oncancel: (event) => event.preventDefault(),
      },
      h(
        "form",
        { onsubmit: submit },
        h("h2", { id: "login-title" }, "This service asks for its token"),
        h("p", {}, "It is the value that NICHEMERGE_API_TOKEN has where the service runs."),
        h("label", { for: "token" }, "API token"),
        token,
        problem,
        h("div", { class: "actions" }, button),
      ),
    );

    async function submit(event) {
      event.preventDefault();
      button.disabled = true;
      try {
        await api.login(token.value);
        dialog.remove();
        resolve();
      } catch (error) {
        problem.hidden = false;
        setText(
          problem,
          error.status === 401 || error.status === 403 ? "That is not the token." : error.message,
        );
        button.disabled = false;
        token.select();
      }
    }

    document.body.append(dialog);
    dialog.showModal();
  });
}
