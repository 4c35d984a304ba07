/** Times of each step as ratios to the first runtime, a panel a step. */
import * as Plot from "@observablehq/plot";
import { parseHTML } from "linkedom";
import { type Result, thatRan } from "./report.ts";

export function drawRatios(results: Result[]): string {
  const ran = thatRan(results);
  const [first] = ran;
  const steps = Object.keys(first.milliseconds);
  const bars = ran.flatMap(({ name, milliseconds }) =>
    steps
      .filter((step) => step in milliseconds)
      .map((step) => ({ name, step, ratio: milliseconds[step] / first.milliseconds[step] })),
  );
  const { document } = parseHTML("<html><body></body></html>");
  const svg = Plot.plot({
    document,
    width: 900,
    height: 60 + 20 * bars.length,
    marginLeft: 80,
    marginRight: 170,
    style: { fontFamily: "sans-serif", fontSize: "12px", color: "#222222" },
    x: { label: `time, ${first.name} = 1`, grid: true, axis: "bottom" },
    y: { label: null, domain: ran.map(({ name }) => name) },
    fy: { label: null, domain: steps, padding: 0.15 },
    marks: [
      Plot.barX(bars, { x: "ratio", y: "name", fy: "step", fill: "#0072b2" }),
      Plot.text(bars, {
        x: "ratio",
        y: "name",
        fy: "step",
        text: (bar) => bar.ratio.toFixed(2),
        dx: 4,
        textAnchor: "start",
      }),
      Plot.ruleX([1], { stroke: "#d55e00" }),
    ],
  });
  svg.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `Times of ${ran.length} runtimes as ratios to ${first.name}, a panel a step.`);
  const ground = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of [
    ["width", "100%"],
    ["height", "100%"],
    ["fill", "#ffffff"],
  ])
    ground.setAttribute(name, value);
  svg.insertBefore(ground, svg.firstChild);
  return svg.outerHTML;
}
