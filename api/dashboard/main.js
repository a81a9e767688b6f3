/** Mounts the page that the address names. */

import { session, whenUnauthorized } from "./api.js";
import { fill } from "./element.js";
import { askForToken } from "./login.js";
import { route } from "./router.js";
import { SearchPage } from "./search.js";
import { SearchesPage } from "./searches.js";
import { SubmitPage } from "./submit.js";

const PAGES = { searches: SearchesPage, search: SearchPage, new: SubmitPage };
const main = document.getElementById("main");
let [page, shown] = [null, null];

whenUnauthorized(askForToken);
window.addEventListener("hashchange", () => shown !== null && show());
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => page?.redraw());
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
begin();

/** Ask for the token first where it is wanted, so that no call has to be refused. */
async function begin() {
  const { required, open } = await session().catch(() => ({ required: false, open: true }));
  if (required && !open) await askForToken();
  show();
}

function show() {
  const here = route();
  const name = `${here.page} ${here.id}`;
  if (name === shown) {
    page.update(here);
    return;
  }
  page?.close();
  const first = shown === null;
  shown = name;
  page = new PAGES[here.page](here);
  fill(main, page.element);
  document.title = `${page.title} · nichemerge`;
  for (const link of document.querySelectorAll("[data-page]")) {
    if (link.dataset.page === here.page) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  // A new page is announced by moving focus to its heading, except when the browser just opened it.
  if (!first) main.querySelector("h1")?.focus({ preventScroll: true });
  window.scrollTo(0, 0);
}
