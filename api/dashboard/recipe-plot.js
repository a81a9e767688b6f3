/** A recipe as heat maps: blocks of the model down, parents across, one map for each parameter. */

import * as format from "./format.js";
import { Chart, axis, color, ink, plain, scale, short } from "./plot.js";

const ROW_PX = 19;
const TALLEST_PX = 460;
const MOST_LABELS = 34;
const MOST_NUMBERS = 160;

export class RecipePlot {
  constructor() {
    this.chart = new Chart({ title: "Recipe", columns: ["Block", "Parameter", "Parent", "Value"] });
    this.element = this.chart.element;
  }

  draw(recipe) {
    const maps = tables(recipe);
    if (maps.length === 0) {
      return this.chart.draw({
        empty: "No parameter of this recipe differs between blocks or parents; see below.",
      });
    }
    const edges = boundaries(recipe);
    const inner = Math.min(TALLEST_PX, Math.max(recipe.blocks.length * ROW_PX, edges ? 300 : 60));
    return this.chart.draw({
      height: inner + 100,
      traces: maps.flatMap((map, i) => [
        heat(map, i, maps, recipe, edges),
        ...(edges ? [] : numbers(map, i)),
      ]),
      layout: layout(maps, recipe, edges, inner),
      summary:
        `${format.count(recipe.blocks.length, "block")} of ${recipe.method}: ` +
        `${maps.map((map) => map.name).join(", ")}.`,
      rows: () =>
        maps.flatMap((map) =>
          map.rows.flatMap((row, block) =>
            row.map((value, column) => [
              recipe.blocks[block],
              map.name,
              map.columns[column],
              format.coefficient(value),
            ]),
          ),
        ),
    });
  }

  close() {
    this.chart.close();
  }
}

/** Parameters that have one value for the whole model, as [name, value]. */
export function constants(recipe) {
  return Object.entries(recipe.parameters).filter(([, value]) => !Array.isArray(value));
}

/** Parameters that have a row for every block: `{name, columns, rows}`. */
function tables(recipe) {
  return Object.entries(recipe.parameters)
    .filter(([, value]) => Array.isArray(value))
    .map(([name, value]) => {
      const perParent = Array.isArray(value[0]);
      return {
        name,
        columns: perParent ? recipe.parents : ["all"],
        rows: perParent ? value : value.map((entry) => [entry]),
      };
    });
}

/** Where segments of the flattened model start and end, in percent of its parameters; else null. */
function boundaries(recipe) {
  const places = recipe.partition?.boundaries;
  return places ? places.map((place) => (100 * place) / places.at(-1)) : null;
}

function heat(map, i, maps, recipe, edges) {
  const { colors, low, high } = shading(map);
  const [left, right] = domain(i, maps);
  return {
    type: "heatmap",
    z: map.rows,
    x: map.columns.map((_, column) => column),
    y: edges ?? recipe.blocks.map((_, block) => block),
    xaxis: i ? `x${i + 1}` : "x",
    yaxis: "y",
    xgap: 1.5,
    ygap: edges ? 0 : 1.5,
    colorscale: colors,
    zmin: low,
    zmax: high,
    text: map.rows.map((row, block) =>
      row.map(
        (value, column) =>
          `${short(recipe.blocks[block], 48)}<br>${short(map.columns[column], 40)} · ` +
          `${short(map.name, 30)} ${format.coefficient(value)}`,
      ),
    ),
    hovertemplate: "%{text}<extra></extra>",
    colorbar: {
      orientation: "h",
      x: (left + right) / 2,
      xanchor: "center",
      len: Math.max(right - left - 0.02, 0.12),
      y: 0,
      yanchor: "top",
      ypad: 8,
      thickness: 7,
      outlinewidth: 0,
      nticks: map.columns.length > 1 ? 4 : 2,
      tickfont: { color: color("muted"), size: 10.5 },
    },
  };
}

/** From none to most in one colour; with negative values, two colours that part at zero. */
function shading(map) {
  const values = map.rows.flat();
  const signed = values.some((value) => value < 0);
  const most = Math.max(...values.map(Math.abs)) || 1;
  return { colors: scale(signed ? "split" : "heat"), low: signed ? -most : 0, high: most };
}

/** The values themselves, where few enough to read, in ink that stands out from each cell. */
function numbers(map, i) {
  const cells = map.rows.flatMap((row, block) =>
    row.map((value, column) => ({ value, block, column })),
  );
  if (cells.length > MOST_NUMBERS) return [];
  const { colors, low, high } = shading(map);
  return [
    {
      type: "scatter",
      mode: "text",
      xaxis: i ? `x${i + 1}` : "x",
      yaxis: "y",
      hoverinfo: "skip",
      x: cells.map(({ column }) => column),
      y: cells.map(({ block }) => block),
      text: cells.map(({ value }) => value.toFixed(2)),
      textfont: {
        size: 10.5,
        color: cells.map(({ value }) => ink(colors, (value - low) / (high - low))),
      },
    },
  ];
}

function layout(maps, recipe, edges, inner) {
  const result = {
    margin: { l: 8, r: 10, t: 46, b: 46 },
    annotations: [],
    yaxis: rowsAxis(recipe, edges, inner),
  };
  maps.forEach((map, i) => {
    const place = domain(i, maps);
    result[`xaxis${i ? i + 1 : ""}`] = axis({
      domain: place,
      side: "top",
      anchor: "y",
      showgrid: false,
      fixedrange: true,
      range: [-0.5, map.columns.length - 0.5],
      tickvals: map.columns.map((_, column) => column),
      ticktext: map.columns.map((name) => short(name, map.columns.length > 4 ? 8 : 14)),
      tickfont: { color: color("text"), size: 11.5 },
    });
    result.annotations.push({
      text: `<b>${short(map.name, 30)}</b>`,
      showarrow: false,
      xref: "paper",
      x: place[0],
      xanchor: "left",
      yref: "paper",
      y: 1,
      yanchor: "bottom",
      yshift: 24,
      font: { color: color("text"), size: 12 },
    });
  });
  return result;
}

/** Rows from the input side of the model down to its head. */
function rowsAxis(recipe, edges, inner) {
  const shared = {
    showgrid: false,
    fixedrange: true,
    tickfont: { color: color("text"), size: 11 },
  };
  if (edges)
    return axis({
      ...shared,
      range: [100, 0],
      ticksuffix: " %",
      title: { text: "of the model's parameters, in order" },
    });
  const count = recipe.blocks.length;
  const every = Math.ceil(count / Math.min(MOST_LABELS, inner / 13));
  const shown = recipe.blocks.map((_, block) => block).filter((block) => block % every === 0);
  return axis({
    ...shared,
    range: [count - 0.5, -0.5],
    tickvals: shown,
    ticktext: shown.map((block) => `${plain(tail(recipe.blocks[block]))} `),
  });
}

/** The end of a long name says more than its beginning. */
function tail(name) {
  const letters = [...name];
  return letters.length > 26 ? `…${letters.slice(-25).join("")}` : name;
}

/** Share of the width by number of columns; one column is never too thin for its title. */
function domain(i, maps) {
  const widths = maps.map((map) => Math.max(map.columns.length, 1.6));
  const gap = 0.04;
  const unit = (1 - gap * (maps.length - 1)) / widths.reduce((sum, width) => sum + width, 0);
  const left = widths.slice(0, i).reduce((sum, width) => sum + width * unit + gap, 0);
  return [left, Math.min(1, left + widths[i] * unit)];
}
