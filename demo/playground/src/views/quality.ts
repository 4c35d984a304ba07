/** Error against bits for keys and for values, and what a budget of tokens costs. */
import * as Plot from "@observablehq/plot";
import { boxAround, boxesAlong, placeLabels } from "../../../../src/evaluation/labels.ts";
import { bytesText, digits, partText } from "../data/text.ts";
import type { BudgetPoint, QualityPoint } from "../messages.ts";
import { COLOUR, draw, type Frame, legend, powersOfTen, type View } from "./frame.ts";

const HEIGHT = 250;
const BITS_TICKS = [0.5, 1, 2, 4, 8];

export function qualityView(frame: Frame, points: QualityPoint[]): View {
  const parts = (["keys", "values"] as const).filter((part) => points.some((point) => point.part === part));
  return {
    parts: [
      ...parts.map((part) =>
        qualityPlot(
          frame,
          points.filter((point) => point.part === part),
          part,
        ),
      ),
      legend(frame.document, [
        { colour: COLOUR.coded, text: "svdq with these settings, other bits" },
        { colour: COLOUR.exact, text: "as set" },
        { colour: COLOUR.peer, text: "other codecs" },
      ]),
    ],
    numbers: {
      titles: ["part", "method", "bits", "error"],
      rows: points.map(({ part, label, family, bits, error }) => [
        part,
        family === "peer" ? label : `svdq ${label}`,
        bits.toFixed(2),
        digits(error),
      ]),
    },
  };
}

function qualityPlot(frame: Frame, points: QualityPoint[], part: "keys" | "values"): SVGElement {
  const of = (family: QualityPoint["family"]) => points.filter((point) => point.family === family && point.error > 0);
  const [curve, now, peers] = [of("curve").sort((a, b) => a.bits - b.bits), of("now"), of("peer")];
  const errors = [...curve, ...now, ...peers].map(({ error }) => error);
  const domain = [Math.min(...errors) / 2, Math.max(...errors) * 2];
  const measure = part === "keys" ? "attention KL, nats" : "output error";
  const xy = { x: "bits", y: "error" };
  const title = ({ label, bits, error }: QualityPoint) => `${label}: ${bits.toFixed(2)} bits, ${digits(error)}`;
  const ticks = powersOfTen(domain[0], domain[1]);
  const svg = draw(frame, `Error of ${part} against bits an element: ${now.map(title).join()}`, {
    height: HEIGHT,
    x: {
      type: "log",
      base: 2, // of ten, d3 thins out texts
      label: "bits an element, basis counted →",
      ticks: BITS_TICKS,
      tickFormat: String,
      domain: [0.4, 10],
    },
    y: { type: "log", axis: null, domain },
    marks: [
      Plot.gridY(ticks),
      Plot.axisY(ticks, { text: digits, label: `↑ ${part}: ${measure}` }),
      Plot.dot(peers, { ...xy, stroke: COLOUR.peer, strokeWidth: 2, r: 4, title }),
      Plot.line(curve, { ...xy, stroke: COLOUR.coded, strokeWidth: 2 }),
      Plot.dot(curve, { ...xy, fill: COLOUR.coded, r: 3.5, title }),
      Plot.dot(now, { ...xy, fill: COLOUR.exact, stroke: "var(--ground)", r: 7, title }),
    ],
  });
  labelPeers(frame, svg, peers, [...curve, ...now]);
  return svg;
}

/** Names of the other codecs, clear of one another, of dots and of the curve. */
function labelPeers({ document, width }: Frame, svg: SVGElement, peers: QualityPoint[], others: QualityPoint[]): void {
  const { scale } = svg as SVGElement & Pick<Plot.Plot, "scale">;
  const [x, y] = [scale("x")!, scale("y")!];
  const pixelOf = ({ bits, error }: QualityPoint) => ({ x: x.apply(bits), y: y.apply(error) });
  const texts = peers.map(({ label }) => label.replace(/ bit, groups of \d+/, ""));
  const obstacles = [...peers, ...others].map((point) => boxAround(pixelOf(point), 5));
  for (let i = 1; i < others.length; i++) obstacles.push(...boxesAlong(pixelOf(others[i - 1]), pixelOf(others[i])));
  const labels = peers.map((peer, i) => ({ at: pixelOf(peer), widthPixels: 6.4 * texts[i].length }));
  const room = { left: 52, right: width, top: 20, bottom: HEIGHT - 38 };
  placeLabels(labels, obstacles, room, 12).forEach(({ dx, dy, anchor }, i) => {
    const text = document.createElementNS("http://www.w3.org/2000/svg", "text");
    const { x: left, y: top } = labels[i].at;
    const place = {
      x: left + dx,
      y: top + dy,
      dy: "0.35em",
      "text-anchor": anchor,
      fill: COLOUR.peer,
      "font-size": 11,
    };
    for (const [name, value] of Object.entries(place)) text.setAttribute(name, String(value));
    text.textContent = texts[i];
    svg.append(text);
  });
}

export function budgetView(frame: Frame, points: BudgetPoint[]): View {
  const sorted = [...points].sort((a, b) => b.budget - a.budget);
  const svg = draw(frame, "Output error against the part of the coded tokens that is attended to", {
    height: 220,
    x: {
      type: "log",
      base: 2,
      reverse: true,
      label: "part of the coded tokens attended to →",
      domain: [1, 1 / 32],
      ticks: sorted.map(({ budget }) => budget),
      tickFormat: (part: number) => partText(part),
    },
    y: { label: "↑ output error", grid: true, zero: true },
    marks: [
      Plot.line(sorted, { x: "budget", y: "outputError", stroke: COLOUR.coded, strokeWidth: 2 }),
      Plot.dot(sorted, {
        x: "budget",
        y: "outputError",
        r: (p: BudgetPoint) => (p.now ? 7 : 3.5),
        fill: (p: BudgetPoint) => (p.now ? COLOUR.exact : COLOUR.coded),
      }),
    ],
  });
  const rows = sorted.map((p) => [
    partText(p.budget),
    digits(p.outputError),
    `${(100 * p.attendedWeight).toFixed(1)} %`,
    `${bytesText(p.bytesRead)}, f16 ${bytesText(p.bytesReadF16)}`,
  ]);
  return {
    parts: [svg],
    numbers: { titles: ["attended to", "output error", "weight kept", "bytes read a token"], rows },
  };
}
