/** A chart: plotly.js in our colours, a sentence on what it shows, and its data as a table. */

import { fill, h, setText } from "./element.js";

const CONFIG = { displayModeBar: false, displaylogo: false, showTips: false };
let loading = null;

/** plotly.js, loaded at the first chart. */
function plotly() {
  loading ??= new Promise((resolve, reject) => {
    const source = new URL("assets/plotly.min.js", document.baseURI).href;
    const script = h("script", { src: source });
    script.onload = () => resolve(window.Plotly);
    script.onerror = () =>
      reject(new Error("The charts could not be loaded; the tables still work."));
    document.head.append(script);
  });
  return loading;
}

/**
 * Text for plotly.js, which reads `<b>` and `<a href>` as markup: the same text, inert. Entities
 * are the one thing that it decodes after looking for tags.
 */
export function plain(text) {
  return String(text)
    .replace(/[\u0000-\u001f\u007f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, " ")
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;");
}

/** `plain`, cut to a length that fits beside an axis. */
export function short(text, length = 24) {
  const letters = [...String(text)];
  return plain(letters.length > length ? `${letters.slice(0, length - 1).join("")}…` : text);
}

/** A colour of the theme, light or dark as the reader has it. */
export function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** Colour scale from the theme's `--<name>-0` to `--<name>-4`. */
export function scale(name) {
  return [0, 1, 2, 3, 4].map((step) => [step / 4, color(`${name}-${step}`)]);
}

/** Black or white: whichever is easier to read on a place (0 to 1) of a colour scale. */
export function ink(colors, place) {
  const step = Math.min(Math.max(place, 0), 1) * (colors.length - 1);
  const [below, above] = [rgb(colors[Math.floor(step)][1]), rgb(colors[Math.ceil(step)][1])];
  const light = luminance(below.map((part, i) => part + (above[i] - part) * (step % 1)));
  // Contrast by WCAG 2.2: (lighter + 0.05) / (darker + 0.05).
  return (light + 0.05) ** 2 > 1.05 * 0.05 ? "#10161f" : "#ffffff";
}

const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255);

/** Relative luminance by WCAG 2.2. */
function luminance(parts) {
  const [red, green, blue] = parts.map((part) =>
    part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4,
  );
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** Axis in the theme's colours. */
export function axis(more = {}) {
  return {
    gridcolor: color("line"),
    zeroline: false,
    linecolor: color("line-strong"),
    ticks: "",
    tickfont: { color: color("muted") },
    automargin: true,
    ...more,
    title: { font: { color: color("muted"), size: 12 }, standoff: 10, ...more.title },
  };
}

export class Chart {
  #drawn = Promise.resolve();
  #table;
  #rows = () => [];
  #observer;

  /**
   * @param {{title: string, hint?: string, columns: string[], onPick?: Function}} options
   *   `columns` head the table; `onPick` gets the customdata of a clicked point.
   */
  constructor({ title, hint, columns, onPick, level = 2, controls = null }) {
    this.columns = columns;
    this.heading = h(`h${level}`, {}, title);
    this.onPick = onPick;
    this.plot = h("div", { class: "plot", role: "img" });
    this.note = h("p", { class: "empty", hidden: true });
    this.#table = h("table");
    const details = h(
      "details",
      { class: "as-table", ontoggle: () => this.#tabulate() },
      h("summary", {}, "Show as table"),
      h(
        "div",
        { class: "scroll", tabindex: "0", role: "region", "aria-label": `${title}, as table` },
        this.#table,
      ),
    );
    this.details = details;
    this.element = h(
      "figure",
      { class: "chart", "aria-label": title },
      h("figcaption", {}, this.heading, controls, hint ? h("p", { class: "hint" }, hint) : null),
      this.note,
      this.plot,
      details,
    );
    this.#observer = new ResizeObserver(() => requestAnimationFrame(() => this.#resize()));
    this.#observer.observe(this.plot);
  }

  /**
   * Draw, or say why there is nothing to draw yet.
   *
   * @param {object} picture `traces`, `layout`, `height` (px); `summary` for screen readers;
   *   `rows()` for the table; or only `empty`: a sentence.
   */
  draw(picture) {
    this.#drawn = this.#drawn
      .then(() => this.#draw(picture))
      .catch((error) => this.#say(error.message));
    return this.#drawn;
  }

  /** Change the title. */
  entitle(title) {
    setText(this.heading, title);
    this.element.setAttribute("aria-label", title);
  }

  close() {
    this.#observer.disconnect();
    this.#drawn = this.#drawn.then(() => window.Plotly?.purge(this.plot));
  }

  async #draw({ traces, layout, height, summary, rows, empty }) {
    this.#say(empty ?? "");
    this.plot.hidden = this.details.hidden = Boolean(empty);
    if (empty) return;
    this.#rows = rows;
    this.#tabulate();
    if (this.plot.getAttribute("aria-label") !== summary)
      this.plot.setAttribute("aria-label", summary);
    const library = await plotly();
    if (!this.plot.isConnected) return;
    this.plot.style.height = `${height}px`;
    const first = !this.plot.classList.contains("js-plotly-plot");
    await library.react(
      this.plot,
      traces,
      { ...this.#layout(), ...layout, height, width: this.plot.clientWidth },
      CONFIG,
    );
    if (first && this.onPick) this.#listen();
  }

  #layout() {
    return {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      showlegend: false,
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: color("text") },
      margin: { l: 8, r: 12, t: 8, b: 8 },
      hovermode: "closest",
      uirevision: "kept",
      hoverlabel: {
        bgcolor: color("surface"),
        bordercolor: color("line-strong"),
        align: "left",
        font: {
          color: color("text"),
          size: 12,
          family: getComputedStyle(document.body).fontFamily,
        },
      },
    };
  }

  #listen() {
    this.plot.on("plotly_click", ({ points }) => {
      const picked = points.find((point) => typeof point.customdata === "number");
      if (picked) this.onPick(picked.customdata);
    });
  }

  #resize() {
    const drawn = this.plot.classList.contains("js-plotly-plot") && this.plot.isConnected;
    const width = this.plot.clientWidth;
    if (drawn && width > 0 && Math.abs(width - this.plot.layout.width) > 1)
      window.Plotly.relayout(this.plot, { width });
  }

  /** The table is built only while it is open: it may have thousands of rows. */
  #tabulate() {
    if (!this.details.open) return;
    const head = h(
      "tr",
      {},
      this.columns.map((column) => h("th", { scope: "col" }, column)),
    );
    const body = this.#rows().map(([first, ...rest]) =>
      h(
        "tr",
        {},
        h("th", { scope: "row" }, first),
        rest.map((cell) => h("td", {}, cell)),
      ),
    );
    fill(this.#table, h("thead", {}, head), h("tbody", {}, body));
  }

  #say(text) {
    this.note.hidden = text === "";
    setText(this.note, text);
  }
}
