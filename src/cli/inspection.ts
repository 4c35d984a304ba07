/** What `svdq inspect` found, and how it is shown. */
import { describeSpan } from "../codec/anchors.ts";
import type { Energy } from "../evaluation/spectrum.ts";
import { THEOREM_BITS, type Theorem } from "../evaluation/theorem.ts";
import { type CodeSummary, describeExact, formatCodes, type SegmentAllocation, type SourceSummary } from "./summary.ts";
import { columns, facts, percent, thousands } from "./text.ts";

export interface Inspection extends SourceSummary, CodeSummary {
  path: string;
  kind: "dump" | "archive" | "profile";
  fileBytes: number;
  /** Of a dump: what its text is, or "", and its tokens with the continuation. */
  text?: string;
  heldTokens?: number;
  layers: InspectedLayer[];
}

export interface InspectedLayer {
  /** Number in the model. */
  layer: number;
  /** Of a dump or an archive: a profile has no keys. */
  energy?: Energy;
  /** One for each basis of the layer; a profile's has no tokens. */
  segments: SegmentAllocation[];
  /** Of a dump. */
  theorem?: Theorem;
}

const WIDTHS = ["8", "4", "2", "1", "0"] as const;

export function formatInspection(inspection: Inspection): string {
  const { layers } = inspection;
  const parts = [formatHead(inspection)];
  if (inspection.kind !== "profile") parts.push(formatEnergy(layers));
  parts.push(formatAllocation(layers), formatCodes(inspection));
  if (inspection.kind === "dump") parts.push(formatTheorem(layers));
  return parts.join("\n");
}

function formatHead(inspection: Inspection): string {
  const { path, kind, geometry, layerNumbers, rope, tokens, heldTokens = tokens } = inspection;
  const { layerCount, kvHeads, headDim } = geometry;
  const turns = rope.pairs ? `, ${rope.fastest} to ${rope.slowest?.toPrecision(3)} rad a token` : "";
  const held = heldTokens > tokens ? ` of ${thousands(heldTokens)} held` : "";
  const origin = kind === "dump" ? "by the default options: " : "";
  return facts([
    [kind, `${path}: ${thousands(inspection.fileBytes)} bytes`],
    ["model", inspection.model || "unknown"],
    ["cache", `${layerCount} layers of ${kvHeads} kv heads x ${headDim}; numbers ${layerNumbers.join(", ")}`],
    ["rope", `${rope.layout}, ${rope.pairs} pairs${turns}`],
    ["tokens", `${thousands(tokens)}${held}, ids ${inspection.tokenIds ? "known" : "unknown"}`],
    ["codes", `${origin}anchor span ${describeSpan(inspection.anchorSpan)}, ${describeExact(inspection)}`],
  ]);
}

function formatEnergy(layers: InspectedLayer[]): string {
  const titles = ["energy of keys", "channels", "for 90 %", "for 99 %", "in 1/8", "in 1/4", "in 1/2"];
  const rows = layers.flatMap(({ layer, energy }) => (energy ? [energyRow(layer, energy)] : []));
  return columns(titles, rows);
}

const energyRow = (layer: number, energy: Energy): string[] => [
  `layer ${layer}`,
  ...[energy.channels, energy.channels90, energy.channels99].map(String),
  ...[energy.eighth, energy.quarter, energy.half].map(percent),
];

function formatAllocation(layers: InspectedLayer[]): string {
  const parts = ["keys", "values"] as const;
  const titles = parts.flatMap((part) => WIDTHS.map((width) => `${part} ${width}`));
  const rows = layers.flatMap(({ layer, segments }) =>
    segments.map((segment, i) => [
      segments.length > 1 ? `layer ${layer}, ${i > 0 ? "next" : "first"} ${segment.tokens} tokens` : `layer ${layer}`,
      ...parts.flatMap((part) => WIDTHS.map((width) => String(segment[part][width]))),
    ]),
  );
  return columns(["channels by bits", ...titles], rows);
}

function formatTheorem(layers: InspectedLayer[]): string {
  const rows = layers.flatMap(({ layer, theorem }) => (theorem ? [theoremRow(layer, theorem)] : []));
  const titles = ["theorem of SVDq", "schedule", "latent error", "original error", "ratio", "by the spectrum"];
  return `${columns(titles, rows)}Mean squared errors of min-max codes of ${THEOREM_BITS} bits, keys before RoPE. The paper: 0.1 or lower where the spectrum falls fast.\n`;
}

const theoremRow = (layer: number, theorem: Theorem): string[] => [
  `layer ${layer}`,
  theorem.schedule.join(","),
  theorem.latentError.toPrecision(3),
  theorem.originalError.toPrecision(3),
  theorem.ratio.toFixed(3),
  theorem.predicted.toFixed(3),
];
