/**
 * The chart of a report: error against bits for keys and for values, one plot above the other. Settings of one codec
 * are joined by a line; peers are labelled points. Loaded through `renderSvg`, so that Plot and a document cost nothing
 * to those who draw nothing.
 */
import * as Plot from "@observablehq/plot";
import { parseHTML } from "linkedom";
import { type Box, boxAround, boxesAlong, isFar, type Pixel, type Place, placeLabels } from "./labels.ts";
import type { ComparisonRow } from "./report.ts";

const WIDTH = 900;
const HEIGHT = 470;
const MARGIN = { top: 34, right: 24, bottom: 46, left: 80 };
const PLOT_WIDTH = WIDTH - MARGIN.left - MARGIN.right;
const PLOT_HEIGHT = HEIGHT - MARGIN.top - MARGIN.bottom;
const FRAME_BOX: Box = {
  left: MARGIN.left,
  right: WIDTH - MARGIN.right,
  top: MARGIN.top,
  bottom: HEIGHT - MARGIN.bottom,
};
const FONT_SIZE = 12;
const INK = "#222222";
const PEER = "#666666";
/** Okabe and Ito's colours, told apart by colour-blind readers too, without the yellow; then two dark ones. */
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#7b3294", "#8c510a"];

export interface ChartPanel {
  title: string;
  errorLabel: string;
  points: ChartPoint[];
}

export interface ChartPoint {
  method: string;
  /** Points of one family are joined, and labelled once with its name. Peers have none. */
  family: string | undefined;
  /** Of a point without family. */
  label: string;
  bits: number;
  error: number;
}

/** Settings of one codec share a family: the method without its kind letter and its bits. */
export function familyOf(method: string): string | undefined {
  if (!method.includes("codec")) return undefined;
  return shortName(method).replace(/(?<!span)\s+[\d.]+( bits?)?$/, "");
}

const shortName = (method: string): string => method.replace(/^[KV] /, "");

/** The chart of `compare`: keys above, values below. */
export function drawChart(rows: readonly ComparisonRow[]): string {
  const panel = (kind: "key" | "value", title: string, errorLabel: string, error: (row: ComparisonRow) => number) => ({
    title,
    errorLabel,
    points: rows
      .filter((row) => row.kind === kind)
      .map((row) => ({
        method: row.method,
        family: familyOf(row.method),
        label: shortName(row.method),
        bits: row.bitsWithBasis,
        error: error(row),
      })),
  });
  return drawPanels("Error of attention against size of the key-value cache", [
    panel("key", "Keys compressed, values exact", "attention KL, nats (log scale)", (row) => row.attentionKl),
    panel(
      "value",
      "Values compressed, keys exact",
      "output error |o − o′|² / |o|² (log scale)",
      (row) => row.outputError,
    ),
  ]);
}

/** One plot a panel that has points, below one another. */
export function drawPanels(title: string, panels: ChartPanel[]): string {
  const { document } = parseHTML("<!doctype html><html><body></body></html>");
  const drawn = panels.filter(({ points }) => points.length > 0);
  const body = drawn.map((panel, i) => drawPanel(document, panel, 40 + i * HEIGHT)).join("\n");
  const height = 40 + drawn.length * HEIGHT;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}"`,
    ` font-family="system-ui, sans-serif" font-size="${FONT_SIZE}" color="${INK}" fill="${INK}" role="img">`,
    `<title>${escapeText(title)}</title>`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    `<text x="${WIDTH / 2}" y="26" text-anchor="middle" font-size="17" font-weight="bold">`,
    `${escapeText(title)}</text>\n${body}\n</svg>\n`,
  ].join("");
}

function drawPanel(document: Document, panel: ChartPanel, top: number): string {
  const all = panel.points;
  const points = all.filter(({ error, bits }) => [error, bits].every((x) => x > 0 && x < Infinity));
  const hidden = all.filter((point) => !points.includes(point));
  const note = hidden.length ? ` (no place on a log scale: ${hidden.map((p) => p.method).join(", ")})` : "";
  const titles =
    `<text x="${MARGIN.left}" y="${top + 18}" font-size="14" font-weight="bold">${panel.title}` +
    `<tspan font-weight="normal" font-size="11">${escapeText(note)}</tspan></text>`;
  if (!points.length) return titles;
  const frame = frameOf(points);
  const svg = Plot.plot({
    document,
    width: WIDTH,
    height: HEIGHT,
    marginTop: MARGIN.top,
    marginRight: MARGIN.right,
    marginBottom: MARGIN.bottom,
    marginLeft: MARGIN.left,
    style: { fontSize: `${FONT_SIZE}px`, fontFamily: "system-ui, sans-serif" },
    x: { domain: frame.x, type: "log", axis: null },
    y: { domain: frame.y, type: "log", axis: null },
    marks: [
      Plot.frame({ stroke: "#bbbbbb" }),
      Plot.gridX(frame.xTicks),
      Plot.gridY(frame.yTicks),
      // `text` instead of a tick format: on a log scale d3 drops some of the ticks that it formats.
      Plot.axisX(frame.xTicks, {
        text: String,
        label: "bits an element, basis included (log scale) →",
        labelAnchor: "center",
      }),
      Plot.axisY(frame.yTicks, { text: String, label: `${panel.errorLabel} →`, labelAnchor: "center" }),
      ...familyMarks(points),
      ...peerMarks(points),
      ...labelMarks(points, frame),
    ],
  } as Plot.PlotOptions);
  svg.querySelectorAll("style").forEach((style) => {
    style.remove();
  });
  svg.setAttribute("y", String(top));
  return `${titles}\n${svg.outerHTML}`;
}

// ------------------------------------------------------------------------------------------------ marks
interface Plotted {
  x: [number, number];
  y: [number, number];
  xTicks: number[];
  yTicks: number[];
}

function frameOf(points: ChartPoint[]): Plotted {
  const around = (values: number[], factor: number): [number, number] => [
    Math.min(...values) / factor,
    Math.max(...values) * factor,
  ];
  const x = around(
    points.map((point) => point.bits),
    1.15,
  );
  const y = around(
    points.map((point) => point.error),
    1.6,
  );
  return {
    x,
    y,
    xTicks: ticksOf(x, [1, 1.5, 2, 3, 4, 5, 6, 8]),
    yTicks: ticksOf(y, y[1] / y[0] > 1e4 ? [1] : [1, 2, 5]),
  };
}

/** Each digit times each power of ten that lies in the domain. */
function ticksOf([low, high]: [number, number], digits: number[]): number[] {
  const ticks: number[] = [];
  for (let k = Math.floor(Math.log10(low)); k <= Math.ceil(Math.log10(high)); k++) {
    for (const digit of digits) {
      const tick = Number(`${digit}e${k}`);
      if (tick >= low && tick <= high) ticks.push(tick);
    }
  }
  return ticks;
}

const familiesOf = (points: ChartPoint[]): string[] => [
  ...new Set(points.flatMap((point) => (point.family === undefined ? [] : [point.family]))),
];

const membersOf = (points: ChartPoint[], family: string): ChartPoint[] =>
  points.filter((point) => point.family === family).sort((a, b) => a.bits - b.bits);

const colourOf = (points: ChartPoint[], family: string | undefined): string =>
  family === undefined ? PEER : COLOURS[familiesOf(points).indexOf(family) % COLOURS.length];

function familyMarks(points: ChartPoint[]): Plot.Markish[] {
  return familiesOf(points).flatMap((family) => {
    const mine = membersOf(points, family);
    const colour = colourOf(points, family);
    return [
      Plot.line(mine, { x: "bits", y: "error", stroke: colour, strokeWidth: 2 }),
      Plot.dot(mine, { x: "bits", y: "error", fill: colour, r: 4, title: "method" }),
    ];
  });
}

function peerMarks(points: ChartPoint[]): Plot.Markish[] {
  const peers = points.filter((point) => point.family === undefined);
  return [
    Plot.dot(peers, { x: "bits", y: "error", fill: "#ffffff", stroke: PEER, strokeWidth: 2, r: 4, title: "method" }),
  ];
}

/** One text a peer and one a family, at its point with the most bits; a thin line leads to a text that lies far off. */
function labelMarks(points: ChartPoint[], frame: Plotted): Plot.Markish[] {
  const labelled = points.filter(
    (point) =>
      point.family === undefined || !points.some((other) => other.family === point.family && other.bits > point.bits),
  );
  const labels = labelled.map((point) => ({ at: pixelOf(point, frame), widthPixels: textWidth(point) }));
  return placeLabels(labels, obstacles(points, frame), FRAME_BOX, FONT_SIZE).flatMap((place, i) => {
    const point = labelled[i];
    const colour = colourOf(points, point.family);
    const text = Plot.text([point], {
      x: "bits",
      y: "error",
      text: () => labelOf(point),
      dx: place.dx,
      dy: place.dy,
      textAnchor: place.anchor,
      fill: colour,
      fontWeight: point.family === undefined ? "normal" : "bold",
      stroke: "#ffffff",
      strokeWidth: 3,
    });
    return isFar(place) ? [leader(point, place, colour, frame), text] : [text];
  });
}

function leader(point: ChartPoint, { dx, dy }: Place, colour: string, frame: Plotted): Plot.Markish {
  const bits = point.bits * (frame.x[1] / frame.x[0]) ** (dx / PLOT_WIDTH);
  const error = point.error * (frame.y[0] / frame.y[1]) ** (dy / PLOT_HEIGHT);
  const ends = { x1: [point.bits], x2: [bits], y1: [point.error], y2: [error] };
  return Plot.link({ length: 1 }, { ...ends, stroke: colour, strokeWidth: 0.8 });
}

const labelOf = (point: ChartPoint): string => point.family ?? point.label;

/** A letter is taken as 0.58 of the font size wide, 0.64 in bold. */
const textWidth = (point: ChartPoint): number =>
  labelOf(point).length * FONT_SIZE * (point.family === undefined ? 0.58 : 0.64);

/** Boxes of all dots and along the lines of families. */
function obstacles(points: ChartPoint[], frame: Plotted): Box[] {
  const boxes = points.map((point) => boxAround(pixelOf(point, frame), 5));
  for (const family of familiesOf(points)) {
    const mine = membersOf(points, family).map((point) => pixelOf(point, frame));
    for (let i = 1; i < mine.length; i++) boxes.push(...boxesAlong(mine[i - 1], mine[i]));
  }
  return boxes;
}

function pixelOf(point: ChartPoint, frame: Plotted): Pixel {
  const across = Math.log(point.bits / frame.x[0]) / Math.log(frame.x[1] / frame.x[0]);
  const up = Math.log(point.error / frame.y[0]) / Math.log(frame.y[1] / frame.y[0]);
  return { x: MARGIN.left + across * PLOT_WIDTH, y: HEIGHT - MARGIN.bottom - up * PLOT_HEIGHT };
}

const escapeText = (text: string): string => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");
