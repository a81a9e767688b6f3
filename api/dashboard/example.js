/** A spec to begin with, written from the catalogue: it names what this service really has. */

const EVALUATIONS = 80;
const MOST_PARENTS = 8;

/**
 * @param {{models: object[], methods: object[], optimizers: object[], tasks: object[]}} catalogue
 * @param {{method?: string, optimizer?: string}} chosen
 * @returns {string} YAML
 */
export function example({ models, methods, optimizers, tasks }, chosen) {
  const family = sameShape(models);
  const method = pick(methods, chosen.method, ["ties", "linear"]);
  const optimizer = pick(optimizers, chosen.optimizer, ["cma_es", "m2n2"]);
  return [
    "name: my-first-search",
    `base: {path: ${quote(family.base)}}`,
    "parents:",
    ...family.parents
      .slice(0, method?.maximum_parents ?? MOST_PARENTS)
      .map(({ name, path }) => `  - {name: ${quote(name)}, path: ${quote(path)}}`),
    `method: ${quote(method?.name ?? "linear")}`,
    "space:",
    "  blocks: {layers: 2, modules: [attention, mlp]}   # or: model, tensor",
    ...parameters(method),
    "objectives:",
    ...objectives(tasks),
    `optimizer: {name: ${quote(optimizer?.name ?? "cma_es")}}`,
    `budget: {evaluations: ${EVALUATIONS}, parallel: 8}`,
    "seed: 0",
    "",
  ].join("\n");
}

/**
 * The base, and what has its shape or is an adapter of it: the most frequent architecture and size
 * among the models.
 */
function sameShape(models) {
  const usable = models.filter((model) => !model.problem);
  const groups = new Map();
  for (const model of usable.filter(isWhole)) {
    const shape = `${model.architecture} ${model.parameters}`;
    const adapters = usable.filter(({ adapter_of }) => adapter_of === model.path);
    const paths = [model, ...adapters].map(({ path }) => path);
    groups.set(shape, [...(groups.get(shape) ?? []), ...paths]);
  }
  const paths = [...groups.values()].sort((a, b) => b.length - a.length)[0] ?? [
    "models/base",
    "models/first",
    "models/second",
  ];
  const adapted = new Map(usable.map(({ path, adapter_of }) => [path, adapter_of]));
  const whole = paths.filter((path) => isWhole({ adapter_of: adapted.get(path) }));
  const base =
    whole.find((path) => last(path) === "base") ??
    whole.find((path) => /base/i.test(last(path))) ??
    whole[0];
  const parents = paths
    .filter((path) => path !== base && (adapted.get(path) ?? base) === base)
    .map((path) => ({ path, name: nameOf(path) }));
  return { base, parents };
}

function parameters(method) {
  const floats = (method?.parameters ?? []).filter(
    ({ kind, low, high, name }) =>
      kind === "float" && low !== null && high !== null && !name.startsWith("lines_"),
  );
  if (floats.length === 0) return ["  parameters: {}"];
  const lines = floats.map((parameter, i) =>
    i === 0 || parameter.per_parent
      ? line(parameter, range(parameter))
      : line(parameter, parameter.default),
  );
  return ["  parameters:", ...lines];
}

const range = ({ low, high, log }) =>
  log ? `{low: ${low}, high: ${high}, log: true}` : `{low: ${low}, high: ${high}}`;

/** One parameter, with what it means beside it. */
const line = ({ name, description }, setting) =>
  `    ${name}: ${setting}   # ${description.replace(/\s+/g, " ")}`;

function objectives(tasks) {
  const usable = tasks.filter((task) => task.metrics.length);
  const local = usable.filter((task) => Object.keys(task.examples).length);
  const chosen = (local.length ? local : usable).slice(0, 4);
  if (chosen.length === 0) return ["  - {task: my_task, metric: acc}"];
  return chosen.map(
    (task) => `  - {task: ${quote(task.name)}, metric: ${quote(task.metrics[0].name)}}`,
  );
}

function pick(entries, wanted, preferred) {
  const names = [wanted, ...preferred];
  return (
    names.map((name) => entries.find((entry) => entry.name === name)).find(Boolean) ?? entries[0]
  );
}

const isWhole = ({ adapter_of }) => (adapter_of ?? null) === null;

const last = (path) => path.split("/").at(-1);

function nameOf(path) {
  const name =
    last(path)
      .replace(/[^A-Za-z0-9._-]/g, "-")
      .replace(/^[^A-Za-z0-9]+/, "")
      .slice(0, 96) || "parent";
  return name === "base" ? "parent-base" : name;
}

/** A YAML scalar: plain where that is safe, else in double quotes as JSON has them. */
function quote(text) {
  return /^[A-Za-z_][A-Za-z0-9_./-]*$/.test(text) &&
    !/^(true|false|null|yes|no|on|off|y|n)$/i.test(text)
    ? text
    : JSON.stringify(text);
}
