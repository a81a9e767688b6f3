/** Hypervolume over evaluations: how much the front has gained, and whether it still gains. */

import * as format from "./format.js";
import { Chart, axis, color } from "./plot.js";

export class HypervolumePlot {
  constructor(log) {
    this.log = log;
    this.chart = new Chart({
      title: "Hypervolume",
      columns: ["Evaluations", "Hypervolume"],
      hint: "What the front encloses, measured from just below the worst baseline.",
    });
    this.element = this.chart.element;
  }

  draw() {
    const points = this.log.hypervolumes;
    if (points.length === 0)
      return this.chart.draw({ empty: "Follows once the baselines are scored." });
    const [x, y] = [points.map(([evaluations]) => evaluations), points.map(([, value]) => value)];
    const [evaluations, value] = points.at(-1);
    return this.chart.draw({
      height: 220,
      traces: [
        {
          type: "scatter",
          mode: "lines",
          x,
          y,
          line: { color: color("accent"), width: 2, shape: "hv" },
          fill: "tozeroy",
          fillcolor: color("accent-wash"),
          hovertemplate: "%{y:.4~g} after %{x}<extra></extra>",
        },
      ],
      layout: {
        xaxis: axis({ title: { text: "evaluations" }, range: [0, this.log.progress.evaluations] }),
        yaxis: axis({ rangemode: "tozero" }),
        hovermode: "x",
      },
      summary: `Hypervolume is ${format.significant(value)} after ${evaluations} evaluations.`,
      rows: () => points.map(([n, volume]) => [String(n), format.significant(volume)]),
    });
  }

  close() {
    this.chart.close();
  }
}
