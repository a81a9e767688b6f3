/** What is shown is in the address: `#/`, `#/new`, `#/searches/<id>?x=…&y=…&candidate=…`. */

/** @returns {{page: string, id: string|null, query: URLSearchParams}} */
export function route() {
  const [path, search = ""] = location.hash.replace(/^#/, "").split("?", 2);
  const parts = path.split("/").filter(Boolean);
  const query = new URLSearchParams(search);
  if (parts[0] === "new") return { page: "new", id: null, query };
  if (parts[0] === "searches" && parts[1]) return { page: "search", id: decode(parts[1]), query };
  return { page: "searches", id: null, query };
}

/** Address of a search, with a candidate selected where one is given. */
export function searchHref(id, query = {}) {
  const text = new URLSearchParams(query).toString();
  return `#/searches/${encodeURIComponent(id)}${text ? `?${text}` : ""}`;
}

/** The address of this page with some of its query changed; null takes a key out. */
export function hrefWith(changes) {
  const { id, query } = route();
  for (const [key, value] of Object.entries(changes)) {
    if (value === null) query.delete(key);
    else query.set(key, String(value));
  }
  return searchHref(id, query);
}

/** Go there; a new entry of the history. */
export function go(href) {
  location.hash = href;
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
