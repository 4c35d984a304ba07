/** A compressed cache in numbers: what `compress` and `inspect` say of it. */
import type { AnchorSpan } from "../codec/anchors.ts";
import { bitsOf, bytesOf, type KindBytes } from "../codec/bytes.ts";
import { type CodedCache, type CodedGroup, codedTokens, segmentsOf } from "../codec/coded.ts";
import { type Geometry, rowDim } from "../codec/geometry.ts";
import type { Rotary } from "../codec/rotary.ts";
import type { CacheSource } from "../codec/source.ts";
import { columns, thousands } from "./text.ts";

/** Channels of a layer by their bits; "0" are those dropped. */
export type Allocation = Record<"8" | "4" | "2" | "1" | "0", number>;

export interface RopeSummary {
  layout: string;
  pairs: number;
  /** Radians a position; null where nothing turns. */
  fastest: number | null;
  slowest: number | null;
}

export interface SourceSummary {
  model: string;
  geometry: Geometry;
  layerNumbers: number[];
  rope: RopeSummary;
  tokens: number;
  /** True where the ids of the tokens are known. */
  tokenIds: boolean;
  /** Keys and values uncompressed. */
  f16Bytes: number;
}

export function describeSource(source: CacheSource): SourceSummary {
  const { model, geometry, layerNumbers, tokenCount, tokens } = source;
  return {
    model,
    geometry,
    layerNumbers,
    rope: describeRope(source.rotary),
    tokens: tokenCount,
    tokenIds: tokens !== undefined,
    f16Bytes: 2 * 2 * geometry.layerCount * tokenCount * rowDim(geometry),
  };
}

function describeRope({ layout, frequencies }: Rotary): RopeSummary {
  return { layout, pairs: frequencies.length, fastest: frequencies[0] ?? null, slowest: frequencies.at(-1) ?? null };
}

export interface CodeSummary {
  sinks: number;
  recent: number;
  exactType: string;
  anchorSpan: AnchorSpan;
  /** An element of the coded tokens. */
  bits: Record<"keys" | "values", { bits: number; bitsWithBasis: number }>;
  bytes: Record<"keys" | "values", KindBytes>;
}

export function describeCodes(cache: CodedCache): CodeSummary {
  const { sinks, recent, exactType, anchorSpan } = cache;
  const bytes = bytesOf(cache);
  const bits = { keys: bitsOf(bytes.keys, cache), values: bitsOf(bytes.values, cache) };
  return { sinks, recent, exactType, anchorSpan, bits, bytes };
}

/** Tokens that are coded on one basis, and on what. */
export interface SegmentAllocation extends Record<"keys" | "values", Allocation> {
  tokens: number;
}

/** Of each layer held, its segments. */
export function allocations(cache: CodedCache): SegmentAllocation[][] {
  const dim = rowDim(cache.geometry);
  return cache.layers.map((layer) =>
    segmentsOf(layer, Math.max(0, codedTokens(cache))).map(({ tokens, keys, values }) => ({
      ...{ tokens, keys: allocation(keys, dim), values: allocation(values, dim) },
    })),
  );
}

function allocation(groups: CodedGroup[], dim: number): Allocation {
  const counts: Allocation = { 8: 0, 4: 0, 2: 0, 1: 0, 0: dim };
  for (const { books } of groups) {
    for (const { width } of books) {
      counts[width]++;
      counts[0]--;
    }
  }
  return counts;
}

/** Bits and bytes as a table; a profile, which codes no token, has no bits. */
export function formatCodes({ bits, bytes }: CodeSummary): string {
  const kinds = Object.keys(bytes.keys) as (keyof KindBytes)[];
  const row = (part: "keys" | "values"): string[] => [
    part,
    ...[bits[part].bits, bits[part].bitsWithBasis].map((b) => (b ? b.toFixed(2) : "-")),
    ...kinds.map((kind) => thousands(bytes[part][kind])),
  ];
  return columns(["bytes by kind", "bits", "+basis", ...kinds], [row("keys"), row("values")]);
}

export const describeExact = ({ sinks, recent, exactType }: CodeSummary): string =>
  `first ${sinks} and last ${recent} tokens in ${exactType}`;
