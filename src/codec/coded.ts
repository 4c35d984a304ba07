/** A compressed cache as plain data: what the codec makes, what an archive holds. No linear memory in here. */
import type { AnchorSpan } from "./anchors.ts";
import type { Geometry } from "./geometry.ts";
import type { Rotary } from "./rotary.ts";
import type { ElementType } from "./source.ts";

/** How levels of a channel are spaced: Lloyd-Max centroids of a unit normal, or even steps over [-1, 1]. */
export type BookKind = "normal" | "uniform";

/** One kept latent channel: levels are offset + scale * unit level. */
export interface ChannelBook {
  width: 1 | 2 | 4 | 8;
  kind: BookKind;
  scale: number;
  offset: number;
}

/** Basis rows in few bits: row[c, d] = scale[c] * code[c, d] * columnScale[d], codes signed. */
export interface CodedBasis {
  /** Bits of each channel's row, 2 to 12. */
  widths: Uint8Array;
  /** f32 a channel. */
  scales: Float32Array;
  /** (channels, dim), signed codes. */
  codes: Int16Array;
  /** (dim) f16 bits; undefined stands for ones. */
  columnScales?: Uint16Array;
}

/** Codes of the kv heads that share a basis, firstHead … firstHead + headCount - 1, for all coded tokens. */
export interface CodedGroup {
  firstHead: number;
  headCount: number;
  /** Kept channels, widths falling. */
  books: ChannelBook[];
  /** Synthesis rows. */
  basis: CodedBasis;
  /** Keys: the centre (dim) in f16 bits. Values: undefined. */
  centre?: Uint16Array;
  /** Values: one log-scale norm code a token, see codec/norms.ts. Keys: undefined. */
  norms?: { codes: Uint8Array; least: number; step: number };
  /** (blocks, planes, 16) u8, see codec/layout.ts; the last block is padded with zero codes. Empty where `stream` is. */
  planes: Uint8Array;
  stream?: CodeStream;
}

/** Codes by the range coder (codec/streams.ts): of the first `leading` channels, which alone make a coarser cache, and of the rest. */
export interface CodeStream {
  leading: number;
  parts: [Uint8Array, Uint8Array];
}

/** Consecutive coded tokens on bases of their own. Anchor spans count from the segment's first token. */
export interface CodedSegment {
  tokens: number;
  keys: CodedGroup[];
  values: CodedGroup[];
}

/** `keys` and `values` are the last segment: all coded tokens that those of `earlier` do not hold. */
export interface CodedLayer {
  /** Segments before the last, oldest first, as a refit or lowered precision leaves them; absent where there are none. */
  earlier?: CodedSegment[];
  keys: CodedGroup[];
  values: CodedGroup[];
  /** Sinks then recent tokens as they came: (kvHeads, sinks + recent, headDim) in `exactType`, little-endian. */
  exactKeys: Uint8Array;
  exactValues: Uint8Array;
}

export interface CodedCache {
  geometry: Geometry;
  rotary: Rotary;
  layerNumbers: number[];
  model: string;
  tokens?: Int32Array;
  tokenCount: number;
  /** Tokens kept exact at the start and at the end; the coded tokens lie between. */
  sinks: number;
  recent: number;
  exactType: ElementType;
  /** Anchor span of the keys: 1 = before RoPE, null = after RoPE; a list: one for each rotary pair, not all alike. */
  anchorSpan: AnchorSpan;
  layers: CodedLayer[];
}

export const codedTokens = (cache: CodedCache): number => cache.tokenCount - cache.sinks - cache.recent;

/** All segments of a layer, oldest first; `coded`: tokens of the cache that lie in codes. */
export function segmentsOf({ earlier = [], keys, values }: CodedLayer, coded: number): CodedSegment[] {
  const before = earlier.reduce((sum, { tokens }) => sum + tokens, 0);
  return [...earlier, { tokens: coded - before, keys, values }];
}

/** The inverse of `segmentsOf`; expects at least one segment. */
export function layerOfSegments(segments: CodedSegment[]): Pick<CodedLayer, "earlier" | "keys" | "values"> {
  const { keys, values } = segments[segments.length - 1];
  return { ...(segments.length > 1 && { earlier: segments.slice(0, -1) }), keys, values };
}

/** True where the books' offsets are stored: some is not 0; -0 counts, so that bits come back as they were. */
export const needsOffsets = (group: Pick<CodedGroup, "books">): boolean =>
  group.books.some((book) => !Object.is(book.offset, 0));

/** True where some group of the layer has its codes as streams. */
export const hasStreams = ({ earlier = [], keys, values }: CodedLayer): boolean =>
  [...earlier, { keys, values }].some((segment) => [...segment.keys, ...segment.values].some(({ stream }) => stream));
