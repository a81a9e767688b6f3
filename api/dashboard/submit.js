/** Write a spec, have it checked, submit it. */

import * as api from "./api.js";
import { fill, h } from "./element.js";
import { example } from "./example.js";
import * as format from "./format.js";
import { announce } from "./notices.js";
import { go, searchHref } from "./router.js";

const KINDS = ["models", "methods", "optimizers", "tasks"];

export class SubmitPage {
  title = "New search";
  #catalogue = Object.fromEntries(KINDS.map((kind) => [kind, []]));
  #written = "";
  #sent = { text: null, key: null };

  constructor() {
    this.text = h("textarea", {
      id: "spec",
      spellcheck: "false",
      autocapitalize: "off",
      autocomplete: "off",
      rows: "22",
      "aria-describedby": "spec-hint",
      required: true,
    });
    this.method = h("select", { onchange: () => this.#prefill(true) });
    this.optimizer = h("select", { onchange: () => this.#prefill(true) });
    this.result = h("div", { class: "result", role: "status", "aria-live": "polite" });
    this.send = h("button", { type: "submit", class: "primary" }, "Start the search");
    this.check = h("button", { type: "button", onclick: () => this.#validate() }, "Check");
    this.reference = h(
      "div",
      { class: "reference" },
      h("p", { class: "muted" }, "Loading what this service offers…"),
    );
    this.element = h(
      "div",
      { class: "page" },
      h("div", { class: "page-head" }, h("h1", { tabindex: "-1" }, "New search")),
      h(
        "div",
        { class: "submit" },
        this.#form(),
        h(
          "aside",
          { class: "card", "aria-labelledby": "catalogue-title" },
          h("h2", { id: "catalogue-title" }, "What this service offers"),
          this.reference,
        ),
      ),
    );
    this.#load();
  }

  update() {}

  redraw() {}

  close() {}

  #form() {
    return h(
      "form",
      { class: "card", onsubmit: (event) => this.#submit(event) },
      h(
        "div",
        { class: "card-head" },
        h("label", { for: "spec" }, h("h2", {}, "Spec")),
        h(
          "span",
          { class: "axes" },
          h("label", {}, "Method ", this.method),
          h("label", {}, "Optimizer ", this.optimizer),
        ),
      ),
      h(
        "p",
        { id: "spec-hint", class: "hint" },
        "YAML or JSON. A parameter given as a range is searched, for every block of the model; " +
          "a number fixes it.",
      ),
      this.text,
      h("div", { class: "actions" }, this.check, this.send),
      this.result,
    );
  }

  async #load() {
    const answers = await Promise.allSettled(KINDS.map((kind) => api.catalogue(kind)));
    KINDS.forEach((kind, i) => {
      this.#catalogue[kind] = entries(answers[i].value);
    });
    const failed = answers.find((answer) => answer.status === "rejected");
    if (failed)
      this.#say("The catalogue could not be read", [{ field: "", message: failed.reason.message }]);
    options(this.method, this.#catalogue.methods, ["ties", "linear"]);
    options(this.optimizer, this.#catalogue.optimizers, ["cma_es", "m2n2"]);
    this.#prefill(false);
    fill(this.reference, catalogue(this.#catalogue));
  }

  /** Write the example, but never over what the reader has typed. */
  #prefill(changed) {
    if (this.text.value !== this.#written) {
      if (changed) this.#follow();
      return;
    }
    this.#written = example(this.#catalogue, {
      method: this.method.value,
      optimizer: this.optimizer.value,
    });
    this.text.value = this.#written;
  }

  /** The choices of method and optimizer, written into a text that was edited. */
  #follow() {
    this.text.value = this.text.value
      .replace(/^method:.*$/m, () => `method: ${this.method.value}`)
      .replace(
        /^optimizer: *\{ *name: *[^,}]+/m,
        () => `optimizer: {name: ${this.optimizer.value}`,
      );
  }

  async #validate() {
    await this.#busy(this.check, async () => {
      const answer = await api.validate(this.text.value);
      if (answer.valid) this.#approve(answer);
      else this.#say(problemCount(answer.problems), answer.problems, answer.warnings);
    });
  }

  async #submit(event) {
    event.preventDefault();
    await this.#busy(this.send, async () => {
      const search = await api.submit(this.text.value, this.#key());
      announce("The search was submitted.");
      go(searchHref(search.id));
    });
  }

  /** One key for one text: sent twice it is one search, corrected it is another request. */
  #key() {
    if (this.#sent.text !== this.text.value)
      this.#sent = { text: this.text.value, key: randomKey() };
    return this.#sent.key;
  }

  async #busy(button, work) {
    button.disabled = true;
    try {
      await work();
    } catch (error) {
      const problems = error.problems?.length
        ? error.problems
        : [{ field: "", message: error.message }];
      this.#say(error.problems?.length ? problemCount(problems) : "That did not work", problems);
    } finally {
      button.disabled = false;
    }
  }

  #approve(answer) {
    const figures = [
      ["searched numbers", answer.genes.toLocaleString("en")],
      ["parameters of the model", format.amount(answer.parameters)],
      ["memory of a worker", format.bytes(answer.memory_bytes)],
      ["size of a checkpoint", format.bytes(answer.checkpoint_bytes)],
      ...expected(answer.needs),
    ];
    fill(
      this.result,
      h("h3", { class: "good" }, "✓ This spec is fine"),
      h(
        "dl",
        { class: "facts" },
        figures.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
      ),
      answer.needs && h("p", { class: "muted" }, `Estimated from ${answer.needs.basis}.`),
      list(answer.warnings, "warning"),
      list(copied(answer.copied), "warning"),
    );
  }

  #say(title, problems, warnings = []) {
    fill(
      this.result,
      h("h3", { class: "bad" }, title),
      list(problems, "problem"),
      list(warnings, "warning"),
    );
  }
}

/** What a search would take, as far as it can be estimated. */
function expected(needs) {
  if (!needs) return [];
  return [
    ["memory that is free here", format.bytes(needs.host_free_bytes)],
    ["a candidate takes about", format.seconds(needs.candidate_s)],
    ["the budget takes about", format.duration(needs.search_s)],
  ];
}

/** Tensors that are not merged, as lines of a list. */
const copied = (entries) =>
  (entries ?? []).map(({ reason, tensors }) => ({
    field: tensors.length > 1 ? `${tensors[0]} and ${tensors.length - 1} more` : tensors[0],
    message: `copied from the base: ${reason}`,
  }));

/** 128 random bits in hex; `crypto.randomUUID` exists only on https and localhost. */
const randomKey = () =>
  [...crypto.getRandomValues(new Uint8Array(16))]
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join("");

const problemCount = (problems) =>
  problems.length === 1 ? "One thing needs attention" : `${problems.length} things need attention`;

function list(problems, kind) {
  return h(
    "ul",
    { class: "problem-list" },
    problems.map(({ field, message }) =>
      h("li", { class: kind }, field ? h("code", {}, field) : null, field ? " " : null, message),
    ),
  );
}

function options(select, catalogue, preferred) {
  fill(
    select,
    catalogue.map((entry) => h("option", { value: entry.name }, entry.name)),
  );
  const name = preferred.find((wanted) => catalogue.some((entry) => entry.name === wanted));
  if (name) select.value = name;
}

/** A catalogue is a list, or a page with its list under `items`. */
const entries = (answer) => (Array.isArray(answer) ? answer : (answer?.items ?? []));

function catalogue({ models, methods, optimizers, tasks }) {
  return [
    section("Models", models, (model) => [
      h("code", {}, model.path),
      model.problem ??
        [
          model.adapter_of === null ? model.architecture : `LoRA of ${model.adapter_of || "?"}`,
          model.parameters && `${format.amount(model.parameters)} parameters`,
          model.dtype,
        ]
          .filter(Boolean)
          .join(" · "),
    ]),
    section("Merge methods", methods, (method) => [
      h("code", {}, method.name),
      method.summary,
      parameterList(method),
    ]),
    section("Optimizers", optimizers, (optimizer) => [
      h("code", {}, optimizer.name),
      optimizer.summary,
      optionList(optimizer),
    ]),
    section("Tasks", tasks.slice(0, 200), (task) => [
      h("code", {}, task.name),
      `${task.output_type} · ${task.metrics.map(metricLabel).join(", ")}`,
    ]),
  ];
}

const metricLabel = (metric) => (metric.higher_is_better ? metric.name : `${metric.name} ↓`);

function section(title, items, describe) {
  return h(
    "details",
    { open: items.length > 0 && items.length <= 8 },
    h("summary", {}, `${title} (${items.length})`),
    h(
      "dl",
      {},
      items.map((item) => {
        const [name, summary, more] = describe(item);
        return [h("dt", {}, name), h("dd", {}, h("span", {}, summary), more)];
      }),
    ),
  );
}

function parameterList(method) {
  if (method.parameters.length === 0) return null;
  return h(
    "ul",
    { class: "muted" },
    method.parameters.map((parameter) =>
      h("li", {}, h("code", {}, parameter.name), ` ${parameter.description}`),
    ),
  );
}

function optionList(optimizer) {
  const properties = Object.entries(optimizer.options?.properties ?? {});
  if (properties.length === 0) return null;
  return h(
    "ul",
    { class: "muted" },
    properties.map(([name, schema]) =>
      h("li", {}, h("code", {}, name), ` ${schema.description ?? schema.title ?? ""}`),
    ),
  );
}
