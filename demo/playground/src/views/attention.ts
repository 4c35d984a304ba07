/** Attention of one query head, exact beside compressed; then one of its queries, both in one picture. */
import * as Plot from "@observablehq/plot";
import { binSize } from "../data/bins.ts";
import { digits, thousands } from "../data/text.ts";
import type { AttentionPicture } from "../messages.ts";
import { COLOUR, draw, type Frame, legend, type View } from "./frame.ts";

interface Cell {
  side: "exact" | "compressed";
  row: number;
  column: number;
  weight: number;
}

/** Weights below this are drawn as none. */
const LEAST = 1e-3;

/** 0 to 1 for weights from LEAST to 1, in even steps of their logarithm. */
export const heatOf = (weight: number): number =>
  weight <= LEAST ? 0 : Math.min(1, 1 - Math.log10(weight) / Math.log10(LEAST));

export function cellsOf({ exact, coded, columns }: AttentionPicture): Cell[] {
  const cells = (side: Cell["side"], weights: Float32Array): Cell[] =>
    Array.from(weights, (weight, i) => ({ side, row: Math.floor(i / columns), column: i % columns, weight }));
  return [...cells("exact", exact), ...cells("compressed", coded)].filter(({ weight }) => weight > LEAST);
}

export function attentionView(frame: Frame, picture: AttentionPicture): View {
  const { layer, look, columnTokens, columns, positions, rowQueries, tokens } = picture;
  const chosen = positions.findLastIndex((position) => position <= picture.position);
  const token = (column: number): number => column * columnTokens;
  const narrow = frame.width < 480;
  const svg = draw(frame, `Attention of layer ${layer}, query head ${look.head}: exact beside compressed`, {
    height: 40 + 8 * positions.length + 60,
    marginTop: 36,
    x: { label: "token →", domain: [0, columns * columnTokens], ticks: narrow ? 3 : 5 },
    y: {
      label: "query at",
      domain: [positions.length, 0],
      ticks: positions.map((_, i) => i).filter((i) => i % 6 === 0),
      tickFormat: (row: number) => thousands(positions[row] ?? 0),
    },
    fx: { label: null, domain: ["exact", "compressed"], padding: 0.08 },
    marks: [
      Plot.rect(cellsOf(picture), {
        x1: (cell: Cell) => token(cell.column),
        x2: (cell: Cell) => token(cell.column + 1),
        y1: "row",
        y2: (cell: Cell) => cell.row + 1,
        fx: "side",
        fill: COLOUR.heat,
        fillOpacity: (cell: Cell) => heatOf(cell.weight),
        shapeRendering: "crispEdges",
      }),
      Plot.frame({ stroke: "currentColor", strokeOpacity: 0.4 }),
      Plot.ruleY([chosen + 0.5], { stroke: COLOUR.coded, strokeDasharray: "3 2" }),
    ],
  });
  const note = frame.document.createElement("p");
  note.className = "note";
  note.textContent = `A cell is the weight that ${rowQueries} quer${rowQueries === 1 ? "y gives" : "ies give"} to ${columnTokens} tokens of ${thousands(tokens)}, on a log scale from ${LEAST} (blank) to 1 (full). The dashed line is the query below.`;
  return { parts: [svg, note, queryRow(frame, picture), legendOf(frame.document)], numbers: topTokens(picture) };
}

const legendOf = (document: Document): HTMLElement =>
  legend(document, [
    { colour: COLOUR.exact, text: "exact" },
    { colour: COLOUR.coded, text: "compressed" },
  ]);

function queryRow(frame: Frame, { exactRow, codedRow, position }: AttentionPicture): SVGElement {
  const size = binSize(exactRow.length, 240);
  const binned = (weights: Float32Array): { token: number; weight: number }[] =>
    Array.from({ length: Math.ceil(weights.length / size) }, (_, i) => ({
      token: i * size,
      weight: weights.subarray(i * size, (i + 1) * size).reduce((a, b) => a + b, 0),
    }));
  const [exact, coded] = [binned(exactRow), binned(codedRow)];
  const most = Math.max(...[...exact, ...coded].map(({ weight }) => weight));
  return draw(frame, `Weights of the query at position ${position}, exact and compressed`, {
    height: 170,
    x: { label: `token, ${size === 1 ? "each" : `${size} a point`} →` },
    y: {
      type: "sqrt",
      label: "↑ weight of the query (root scale)",
      grid: true,
      ticks: [0, 0.01, 0.05, 0.1, 0.25, 0.5, 1].filter((weight) => weight <= most),
      tickFormat: String,
    },
    marks: [
      Plot.areaY(exact, { x: "token", y: "weight", fill: COLOUR.exact, fillOpacity: 0.35, curve: "step" }),
      Plot.lineY(coded, { x: "token", y: "weight", stroke: COLOUR.coded, strokeWidth: 1.3, curve: "step" }),
    ],
  });
}

/** The ten tokens that the query weighs most. */
function topTokens({ exactRow, codedRow }: AttentionPicture): NonNullable<View["numbers"]> {
  const order = Array.from(exactRow.keys()).sort((a, b) => exactRow[b] - exactRow[a]);
  return {
    titles: ["token", "exact", "compressed"],
    rows: order.slice(0, 10).map((token) => [thousands(token), digits(exactRow[token]), digits(codedRow[token])]),
  };
}
