/**
 * The chart of a report: error against bits for keys and for values, one plot above the other. Settings of one codec
 * are joined by a line; peers are labelled points. Loaded through `renderSvg`, so that Plot and a document cost nothing
 * to those who draw nothing.
 */
import * as Plot from "@observablehq/plot";
import { parseHTML } from "linkedom";
import type { ComparisonRow } from "./report.ts";

const WIDTH = 900;
const HEIGHT = 470;
const MARGIN = { top: 34, right: 24, bottom: 46, left: 80 };
const PLOT_WIDTH = WIDTH - MARGIN.left - MARGIN.right;
const PLOT_HEIGHT = HEIGHT - MARGIN.top - MARGIN.bottom;
const FONT_SIZE = 12;
const INK = "#222222";
const PEER = "#666666";
/** Okabe and Ito's colours, told apart by colour-blind readers too, without the yellow; then two dark ones. */
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#7b3294", "#8c510a"];

interface Panel {
  kind: "key" | "value";
  title: string;
  errorLabel: string;
  error: (row: ComparisonRow) => number;
}

const PANELS: Panel[] = [
  {
    kind: "key",
    title: "Keys compressed, values exact",
    errorLabel: "attention KL, nats (log scale)",
    error: (row) => row.attentionKl,
  },
  {
    kind: "value",
    title: "Values compressed, keys exact",
    errorLabel: "output error |o − o′|² / |o|² (log scale)",
    error: (row) => row.outputError,
  },
];

interface Point {
  method: string;
  /** Settings of one codec share a family: the method without its kind letter and its bits. Peers have none. */
  family: string | undefined;
  bits: number;
  error: number;
}

export function familyOf(method: string): string | undefined {
  if (!method.includes("codec")) return undefined;
  return shortName(method).replace(/(?<!span)\s+[\d.]+( bits?)?$/, "");
}

const shortName = (method: string): string => method.replace(/^[KV] /, "");

export function drawChart(rows: readonly ComparisonRow[]): string {
  const { document } = parseHTML("<!doctype html><html><body></body></html>");
  const panels = PANELS.map((panel) => ({ panel, mine: rows.filter((row) => row.kind === panel.kind) }));
  const drawn = panels.filter(({ mine }) => mine.length > 0);
  const body = drawn.map(({ panel, mine }, i) => drawPanel(document, panel, mine, 40 + i * HEIGHT)).join("\n");
  const height = 40 + drawn.length * HEIGHT;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}"`,
    ` font-family="system-ui, sans-serif" font-size="${FONT_SIZE}" color="${INK}" fill="${INK}">`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    `<text x="${WIDTH / 2}" y="26" text-anchor="middle" font-size="17" font-weight="bold">`,
    `Error of attention against size of the key-value cache</text>\n${body}\n</svg>\n`,
  ].join("");
}

function drawPanel(document: Document, panel: Panel, rows: ComparisonRow[], top: number): string {
  const all = rows.map((row) => ({
    method: row.method,
    family: familyOf(row.method),
    bits: row.bitsWithBasis,
    error: panel.error(row),
  }));
  const points = all.filter((point) => point.error > 0 && Number.isFinite(point.error));
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
    x: { domain: frame.x, label: "bits an element, basis included →", labelAnchor: "center", grid: true },
    y: { domain: frame.y, type: "log", axis: null },
    marks: [
      Plot.frame({ stroke: "#bbbbbb" }),
      Plot.gridY(frame.ticks),
      // `text` instead of a tick format: on a log scale d3 drops some of the ticks that it formats.
      Plot.axisY(frame.ticks, { text: String, label: `${panel.errorLabel} →`, labelAnchor: "center" }),
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
  ticks: number[];
}

function frameOf(points: Point[]): Plotted {
  const errors = points.map((point) => point.error);
  const y: [number, number] = [Math.min(...errors) / 1.6, Math.max(...errors) * 1.6];
  const ticks: number[] = [];
  const decades = Math.log10(y[1] / y[0]);
  for (let k = Math.floor(Math.log10(y[0])); k <= Math.ceil(Math.log10(y[1])); k++) {
    for (const digit of decades > 4 ? [1] : [1, 2, 5]) {
      const tick = Number(`${digit}e${k}`);
      if (tick >= y[0] && tick <= y[1]) ticks.push(tick);
    }
  }
  return { x: [0, Math.ceil(Math.max(...points.map((point) => point.bits)) + 0.5)], y, ticks };
}

const familiesOf = (points: Point[]): string[] => [
  ...new Set(points.flatMap((point) => (point.family === undefined ? [] : [point.family]))),
];

const membersOf = (points: Point[], family: string): Point[] =>
  points.filter((point) => point.family === family).sort((a, b) => a.bits - b.bits);

const colourOf = (points: Point[], family: string | undefined): string =>
  family === undefined ? PEER : COLOURS[familiesOf(points).indexOf(family) % COLOURS.length];

function familyMarks(points: Point[]): Plot.Markish[] {
  return familiesOf(points).flatMap((family) => {
    const mine = membersOf(points, family);
    const colour = colourOf(points, family);
    return [
      Plot.line(mine, { x: "bits", y: "error", stroke: colour, strokeWidth: 2 }),
      Plot.dot(mine, { x: "bits", y: "error", fill: colour, r: 4, title: "method" }),
    ];
  });
}

function peerMarks(points: Point[]): Plot.Markish[] {
  const peers = points.filter((point) => point.family === undefined);
  return [
    Plot.dot(peers, { x: "bits", y: "error", fill: "#ffffff", stroke: PEER, strokeWidth: 2, r: 4, title: "method" }),
  ];
}

/** One text a peer and one a family, at its point with the most bits. */
function labelMarks(points: Point[], frame: Plotted): Plot.Markish[] {
  const labelled = points.filter(
    (point) =>
      point.family === undefined || !points.some((other) => other.family === point.family && other.bits > point.bits),
  );
  return placeLabels(labelled, points, frame).flatMap(({ point, text, dx, dy, anchor }) => {
    const colour = colourOf(points, point.family);
    const common = {
      x: "bits",
      y: "error",
      dx,
      dy,
      textAnchor: anchor,
      fill: colour,
      stroke: "#ffffff",
      strokeWidth: 3,
    };
    const label = Plot.text([point], {
      ...common,
      text: () => text,
      fontWeight: point.family === undefined ? "normal" : "bold",
    });
    if (Math.hypot(dx, dy) <= 2 * GAP) return [label];
    return [leader(point, dx, dy, colour, frame), label];
  });
}

/** A thin line from a point to its label that lies off it. */
function leader(point: Point, dx: number, dy: number, colour: string, frame: Plotted): Plot.Markish {
  const bits = point.bits + (dx / PLOT_WIDTH) * (frame.x[1] - frame.x[0]);
  const error = point.error * (frame.y[0] / frame.y[1]) ** (dy / PLOT_HEIGHT);
  const ends = { x1: [point.bits], x2: [bits], y1: [point.error], y2: [error] };
  return Plot.link({ length: 1 }, { ...ends, stroke: colour, strokeWidth: 0.8 });
}

// ------------------------------------------------------------------------------------- places of labels
interface Label {
  point: Point;
  text: string;
  dx: number;
  dy: number;
  anchor: "start" | "middle" | "end";
}

interface Box {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

type Place = Pick<Label, "dx" | "dy" | "anchor">;

const GAP = 8;
/** Tried in turn: right, left, above, below, then farther and farther aslant. */
const PLACES: Place[] = [
  { dx: GAP, dy: 0, anchor: "start" },
  { dx: -GAP, dy: 0, anchor: "end" },
  { dx: 0, dy: -13, anchor: "middle" },
  { dx: 0, dy: 13, anchor: "middle" },
  ...[10, 14, 18, 24, 30, 36, 44, 52, 60].flatMap((far): Place[] => {
    const dx = far < 18 ? GAP : far;
    return [
      { dx, dy: -far, anchor: "start" },
      { dx, dy: far, anchor: "start" },
      { dx: -dx, dy: -far, anchor: "end" },
      { dx: -dx, dy: far, anchor: "end" },
    ];
  }),
];

/** Greedy: each label takes the first place that touches no label, point or line, or else what touches least. */
function placeLabels(labelled: Point[], points: Point[], frame: Plotted): Label[] {
  const taken = obstacles(points, frame);
  return labelled.map((point) => {
    const text = point.family ?? shortName(point.method);
    let best = PLACES[0];
    let least = Infinity;
    for (const place of PLACES) {
      const box = boxOf(point, text, place, frame);
      const touched = taken.filter((other) => overlaps(box, other)).length + (insideFrame(box) ? 0 : 10);
      if (touched < least) [best, least] = [place, touched];
      if (least === 0) break;
    }
    taken.push(boxOf(point, text, best, frame));
    return { point, text, ...best };
  });
}

/** Boxes of all dots, and small boxes along the lines of families. */
function obstacles(points: Point[], frame: Plotted): Box[] {
  const at = ({ x, y }: { x: number; y: number }, r: number) => ({
    left: x - r,
    right: x + r,
    top: y - r,
    bottom: y + r,
  });
  const boxes = points.map((point) => at(pixelOf(point, frame), 5));
  for (const family of familiesOf(points)) {
    const mine = membersOf(points, family).map((point) => pixelOf(point, frame));
    for (let i = 1; i < mine.length; i++) {
      const [a, b] = [mine[i - 1], mine[i]];
      for (let s = 0.1; s < 1; s += 0.1) boxes.push(at({ x: a.x + (b.x - a.x) * s, y: a.y + (b.y - a.y) * s }, 2));
    }
  }
  return boxes;
}

function pixelOf(point: Point, frame: Plotted): { x: number; y: number } {
  const across = (point.bits - frame.x[0]) / (frame.x[1] - frame.x[0]);
  const up = Math.log(point.error / frame.y[0]) / Math.log(frame.y[1] / frame.y[0]);
  return {
    x: MARGIN.left + across * PLOT_WIDTH,
    y: HEIGHT - MARGIN.bottom - up * PLOT_HEIGHT,
  };
}

/** A text's box, a letter taken as 0.58 of the font size wide, 0.66 in bold. */
function boxOf(point: Point, text: string, place: Place, frame: Plotted): Box {
  const { x, y } = pixelOf(point, frame);
  const width = text.length * FONT_SIZE * (point.family === undefined ? 0.58 : 0.66);
  const left = x + place.dx - { start: 0, middle: width / 2, end: width }[place.anchor];
  const middle = y + place.dy;
  return { left, right: left + width, top: middle - FONT_SIZE / 2, bottom: middle + FONT_SIZE / 2 };
}

const overlaps = (a: Box, b: Box): boolean =>
  a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;

const insideFrame = (box: Box): boolean =>
  box.left > MARGIN.left &&
  box.right < WIDTH - MARGIN.right &&
  box.top > MARGIN.top &&
  box.bottom < HEIGHT - MARGIN.bottom;

const escapeText = (text: string): string => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");
