/** One candidate's scores beside those of the base, the parents and their average. */

import * as format from "./format.js";
import { Chart, axis, color, plain, short } from "./plot.js";
import { objectiveLabel, shortLabel } from "./search-log.js";

const NARROW_PX = 560;
const LONGEST_NAME = 14;
const LETTER_PX = 7;

export class ScoresPlot {
  constructor(log) {
    this.log = log;
    this.chart = new Chart({
      title: "Scores against base and parents",
      level: 3,
      columns: ["Model", ...log.objectives.map(objectiveLabel)],
    });
    this.element = this.chart.element;
  }

  draw(candidate) {
    const baselines = this.log.baselines.filter((other) => other.ordinal !== candidate.ordinal);
    const models = [candidate, ...baselines].filter((model) => model.state === "scored");
    if (candidate.state !== "scored")
      return this.chart.draw({ empty: "There are no scores of this candidate." });
    const columns = Math.min(
      this.log.objectives.length,
      this.element.clientWidth < NARROW_PX ? 2 : 4,
    );
    const rows = Math.ceil(this.log.objectives.length / columns);
    return this.chart.draw({
      height: rows * (models.length * 20 + 44) + 10,
      traces: this.log.objectives.map((objective, i) => bars(objective, i, models, candidate)),
      layout: layout(this.log.objectives, models, columns, rows),
      summary: `Scores of ${candidate.label} and ${format.count(baselines.length, "baseline")}.`,
      rows: () =>
        models.map((model) => [
          model.label,
          ...this.log.objectives.map((objective) => cell(model, objective)),
        ]),
    });
  }

  close() {
    this.chart.close();
  }
}

function bars(objective, i, models, candidate) {
  const entries = models.map((model) => model.scores[objective.key]);
  const tint = (model) =>
    color(model === candidate ? "accent" : model.origin.move === "parent" ? "parent" : "baseline");
  return {
    type: "bar",
    orientation: "h",
    ...on(i),
    y: models.map((_, row) => row),
    x: entries.map((entry) => entry?.value ?? null),
    marker: { color: models.map(tint) },
    width: 0.66,
    error_x: {
      type: "data",
      array: entries.map((entry) => entry?.stderr ?? 0),
      thickness: 1.2,
      width: 3,
      color: color("error-bar"),
    },
    text: models.map((model) =>
      [
        short(model.label, 40),
        `${short(objectiveLabel(objective), 40)} ${plain(cell(model, objective))}`,
      ].join("<br>"),
    ),
    hovertemplate: "%{text}<extra></extra>",
    textposition: "none",
  };
}

/** A grid of small charts that share the order of models; names stand at the left of each row. */
function layout(objectives, models, columns, rows) {
  const names = models.map((model) => `${short(model.label, LONGEST_NAME)} `);
  const longest = Math.max(...models.map(({ label }) => Math.min([...label].length, LONGEST_NAME)));
  // Fixed margins: plotly.js does not settle on automatic ones for this many axes.
  const margin = { l: 14 + LETTER_PX * longest, r: 8, t: 26, b: 22 };
  const result = { bargap: 0, annotations: [], margin };
  const [gapX, gapY] = [0.05, 40 / (rows * (models.length * 20 + 44))];
  objectives.forEach((objective, i) => {
    const [column, row] = [i % columns, Math.floor(i / columns)];
    const x = span(column, columns, gapX);
    const y = span(rows - 1 - row, rows, gapY);
    const suffix = i ? String(i + 1) : "";
    result[`xaxis${suffix}`] = axis({
      domain: x,
      anchor: `y${suffix}`,
      rangemode: "tozero",
      automargin: false,
      nticks: 4,
      fixedrange: true,
    });
    result[`yaxis${suffix}`] = axis({
      domain: y,
      anchor: `x${suffix}`,
      autorange: false,
      automargin: false,
      range: [models.length - 0.5, -0.5],
      showgrid: false,
      fixedrange: true,
      tickvals: column === 0 ? models.map((_, at) => at) : [],
      ticktext: names,
      tickfont: { color: color("text") },
    });
    result.annotations.push({
      text: `<b>${short(shortLabel(objective, objectives), 30)}</b>`,
      showarrow: false,
      x: x[0],
      xref: "paper",
      xanchor: "left",
      y: y[1],
      yref: "paper",
      yanchor: "bottom",
      font: { size: 11.5, color: color("text") },
    });
  });
  return result;
}

const on = (i) => (i ? { xaxis: `x${i + 1}`, yaxis: `y${i + 1}` } : {});

function span(index, parts, gap) {
  const width = (1 - gap * (parts - 1)) / parts;
  const start = index * (width + gap);
  return [start, Math.min(1, start + width)];
}

const cell = (model, objective) => format.measured(model.scores[objective.key]);
