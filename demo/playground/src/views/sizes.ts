/** Bytes by kind beside f16, and what known models would take. */
import * as Plot from "@observablehq/plot";
import { KNOWN_MODELS } from "../../../../src/evaluation/known-models.ts";
import { kindRows, projectedBytes, sizeOf } from "../data/projection.ts";
import { bytesText, thousands, times } from "../data/text.ts";
import type { Sizes } from "../messages.ts";
import { COLOUR, draw, type Frame, legend, type View } from "./frame.ts";

const KINDS = ["codes", "scales", "norms", "basis", "means", "exact"];
const kindColour = (kind: string): string => `var(--kind-${kind})`;

export function bytesView(frame: Frame, sizes: Sizes): View {
  const rows = kindRows(sizes).filter(({ bytes }) => bytes > 0);
  const half = sizes.f16Bytes / 2;
  const sums = (["keys", "values"] as const).map((part) => {
    const bytes = rows.reduce((sum, row) => sum + (row.part === part ? row.bytes : 0), 0);
    return { part, bytes, text: `${bytesText(bytes)} of ${bytesText(half)}, ${times(half / bytes)} smaller` };
  });
  const label = `Bytes by kind: ${sums.map(({ part, text }) => `${part} ${text}`).join("; ")}`;
  const svg = draw(frame, label, {
    height: 200,
    marginLeft: 58,
    x: {
      label: "bytes →",
      tickFormat: bytesText,
      domain: [0, half * 1.02],
      ticks: Math.max(3, Math.floor(frame.width / 130)),
    },
    y: { label: null, domain: ["keys", "values"], padding: 0.55 },
    marks: [
      Plot.barX(sums, {
        x: () => half,
        y: "part",
        fill: "currentColor",
        fillOpacity: 0.09,
        title: () => `f16: ${bytesText(half)}`,
      }),
      Plot.barX(rows, {
        x: "bytes",
        y: "part",
        fill: ({ kind }: { kind: string }) => kindColour(kind),
        title: (row: { part: string; kind: string; bytes: number }) =>
          `${row.part}, ${row.kind}: ${thousands(row.bytes)} bytes`,
      }),
      Plot.text(sums, { x: () => 0, y: "part", text: "text", textAnchor: "start", dy: -24 }),
    ],
  });
  const items = KINDS.map((kind) => ({ colour: kindColour(kind), text: kind }));
  return {
    parts: [
      svg,
      legend(frame.document, [
        ...items,
        { colour: "color-mix(in srgb, currentColor 12%, transparent)", text: "f16, for comparison" },
      ]),
    ],
    numbers: {
      titles: ["part", "kind", "bytes"],
      rows: [
        ...kindRows(sizes).map(({ part, kind, bytes }) => [part, kind, thousands(bytes)]),
        ["both", "all", thousands(sizeOf(sizes))],
      ],
    },
  };
}

export function projectionView(frame: Frame, sizes: Sizes, tokens: number): View {
  const rows = KNOWN_MODELS.map((model) => ({ ...model, ...projectedBytes(sizes, model, tokens) }));
  const most = Math.max(...rows.map(({ f16Bytes }) => f16Bytes));
  const text = ({ f16Bytes, bytes }: { f16Bytes: number; bytes: number }) =>
    `${bytesText(bytes)} of ${bytesText(f16Bytes)}`;
  const svg = draw(frame, `Projected size of the caches of ${rows.length} models at ${thousands(tokens)} tokens`, {
    height: 60 + 30 * rows.length,
    marginLeft: 118,
    x: {
      label: "bytes →",
      tickFormat: bytesText,
      domain: [0, most * 1.02],
      ticks: Math.max(3, Math.floor(frame.width / 150)),
    },
    y: { label: null, domain: rows.map(({ name }) => name), padding: 0.3 },
    marks: [
      Plot.barX(rows, { x: "f16Bytes", y: "name", fill: "currentColor", fillOpacity: 0.14 }),
      Plot.barX(rows, { x: "bytes", y: "name", fill: COLOUR.coded }),
      Plot.text(
        rows.filter(({ f16Bytes }) => f16Bytes <= most / 2),
        { x: "f16Bytes", y: "name", text, textAnchor: "start", dx: 5 },
      ),
      Plot.text(
        rows.filter(({ f16Bytes }) => f16Bytes > most / 2),
        { x: "f16Bytes", y: "name", text, textAnchor: "end", dx: -5 },
      ),
    ],
  });
  return {
    parts: [svg],
    numbers: {
      titles: ["model", "f16", "svdq", "smaller"],
      rows: rows.map(({ name, f16Bytes, bytes }) => [
        name,
        bytesText(f16Bytes),
        bytesText(bytes),
        times(f16Bytes / bytes),
      ]),
    },
  };
}
