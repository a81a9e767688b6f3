/** The REST API under /v1: one function per call, and nothing that other clients could not do. */

const ROOT = new URL("v1/", document.baseURI).href;

/** An answer that says no; `problem` is its problem+json (RFC 9457). */
export class ApiError extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `The service answered ${status}.`);
    this.status = status;
    this.problem = problem;
  }

  /** What is wrong, field by field; empty where the answer names no fields. */
  get problems() {
    return (this.problem.errors ?? []).map((entry) => ({
      field: String(entry.field ?? ""),
      message: String(entry.message ?? ""),
    }));
  }
}

let authorize = null;

/** Set what is done when the service asks for its token: resolves when it has it. */
export function whenUnauthorized(ask) {
  authorize = ask;
}

export const searches = (cursor) => call(`searches${query({ cursor })}`);
export const search = (id) => call(at(id));
export const candidates = (id, after, limit) =>
  call(`${at(id)}/candidates${query({ after, limit })}`);
export const candidate = (id, ordinal) => call(`${at(id)}/candidates/${ordinal}`);
export const comparison = (id, ordinal, baseline, split) =>
  call(`${at(id)}/candidates/${ordinal}/comparison${query({ baseline, split })}`);
export const front = (id, keys) => call(`${at(id)}/front${query({ objectives: keys.join(",") })}`);
/** The candidate that weights pick: `key=weight`, by comma. */
export const best = (id, weights) => call(`${at(id)}/best${query({ weights })}`);
export const command = (id, body) => post(`${at(id)}/commands`, body);
/** `form` says in which of its forms: `{}` is the whole model, `{kind: "adapter", rank}` a LoRA. */
export const checkpoint = (id, ordinal, form) =>
  call(`${checkpointPath(id, ordinal)}${query(form)}`);
export const requestCheckpoint = (id, ordinal, form) => post(checkpointPath(id, ordinal), form);
export const catalogue = (kind) => call(kind);

/** Whether a token is wanted and was given: `{required, open}`; this call is never refused. */
export const session = () => request("session", {});

/** Open a session with the API token; the answer sets an HttpOnly cookie. */
export const login = (token) => request("session", json("POST", { token }));

/** Check a spec's text without submitting it. */
export const validate = (text) => call("searches:validate", document_("POST", text));

/** Submit a spec's text; the key makes a repeated click one search. */
export const submit = (text, key) => {
  const options = document_("POST", text);
  options.headers["Idempotency-Key"] = key;
  return call("searches", options);
};

export const eventsUrl = (id, after) => `${ROOT}${at(id)}/events${query({ after })}`;
export const tarUrl = (id, ordinal, form) =>
  `${ROOT}${checkpointPath(id, ordinal)}.tar${query(form)}`;
export const fileUrl = (id, ordinal, form, name) => {
  const path = name.split("/").map(encodeURIComponent).join("/");
  return `${ROOT}${checkpointPath(id, ordinal)}/files/${path}${query(form)}`;
};

const at = (id) => `searches/${encodeURIComponent(id)}`;
const checkpointPath = (id, ordinal) => `${at(id)}/candidates/${ordinal}/checkpoint`;
const post = (path, body) => call(path, json("POST", body));

function json(method, body) {
  if (body === null) return { method };
  return { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
}

/** A spec as it was typed: JSON where it looks like it, else YAML. */
function document_(method, text) {
  const type = text.trimStart().startsWith("{") ? "application/json" : "application/yaml";
  return { method, headers: { "Content-Type": type }, body: text };
}

function query(values) {
  const known = Object.entries(values).filter(([, value]) => value !== undefined && value !== null);
  return known.length ? `?${new URLSearchParams(known)}` : "";
}

async function call(path, options = {}) {
  try {
    return await request(path, options);
  } catch (error) {
    if (error.status !== 401 || authorize === null) throw error;
    await authorize();
    return request(path, options);
  }
}

async function request(path, options) {
  const response = await reach(path, options);
  const text = await response.text();
  const body = parse(text);
  if (response.ok) return body;
  throw new ApiError(
    response.status,
    body ?? { detail: `The service answered ${response.status}.` },
  );
}

async function reach(path, options) {
  try {
    return await fetch(ROOT + path, { credentials: "same-origin", ...options });
  } catch {
    throw new ApiError(0, { detail: "The service cannot be reached. Is it still running?" });
  }
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
