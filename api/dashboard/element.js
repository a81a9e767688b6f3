/**
 * Elements from plain data. Strings become text nodes and attribute values, never markup, so
 * nothing that a user named can turn into HTML.
 *
 * @param {string} tag
 * @param {Object<string, unknown>} attributes `onclick` and the like take functions; `null` and
 *   `false` leave an attribute out, `true` sets it empty.
 * @param {...(Node|string|number|null|undefined|Array)} children nested arrays are flattened.
 * @returns {HTMLElement}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false)
      element.setAttribute(name, String(value));
  }
  element.append(...nodes(children));
  return element;
}

/** Replace what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
}

/** Set the text only where it differs, so that screen readers and selections are left in peace. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Rebuild part of the page without losing the keyboard's place in it: an element that carries
 * `data-key` is focused again in its new form.
 */
export function keepingFocus(container, rebuild) {
  const active = document.activeElement;
  const key = container.contains(active) ? active.dataset.key : undefined;
  rebuild();
  if (key === undefined) return;
  const again = [...container.querySelectorAll("[data-key]")].find(
    (element) => element.dataset.key === key,
  );
  again?.focus({ preventScroll: true });
}

function nodes(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : document.createTextNode(String(child))));
}
