/**
 * Anchors of keys. A key is coded rotated by its place inside a span only; what is missing is a rotation by the anchor,
 * the span's first token. All rotary pairs share one span, or each has its own: pairs that turn fast can do without
 * (none), slow ones are worth the more spans the less they turn in each.
 */
import { expectInteger, expectNumber } from "../errors.ts";
import type { Frame, Heap } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { putRotary, type Rotary } from "./rotary.ts";

/** Tokens, a power of two; 1: keys before RoPE, null: as they are after it. */
export type PairSpan = number | null;
/** One for all rotary pairs, or a list with one for each. */
export type AnchorSpan = PairSpan | readonly PairSpan[];

/** Rotary pairs that share a span. */
export interface AnchorPart {
  span: PairSpan;
  /** Dimensions of a head that turn with them: first ones of all pairs, then second ones. */
  dims: number[];
  /** For whole heads, where all other pairs stand still. */
  rotary: Rotary;
  /** For heads of `dims` alone, in that order. */
  ownRotary: Rotary;
}

export interface Anchors {
  span: AnchorSpan;
  headDim: number;
  /** Longest spans first, none before all; dimensions that never turn are in the first. */
  parts: AnchorPart[];
  /** Shortest and longest span that there is, null where there is none. */
  least: PairSpan;
  longest: PairSpan;
  /** Dimensions of a head, part by part; undefined where there is one part, in the head's own order. */
  order: number[] | undefined;
}

export const MAX_SPAN = 1 << 24;

export const isSpan = (span: unknown): span is number =>
  typeof span === "number" && Number.isInteger(span) && span >= 1 && span <= MAX_SPAN && (span & (span - 1)) === 0;

/** Throws a RangeError unless it is one; how many pairs a list needs is for `spanFor` to say. */
export function checkSpan(span: AnchorSpan): void {
  const isList = Array.isArray(span);
  for (const [i, one] of (isList ? (span as PairSpan[]) : [span]).entries()) {
    if (one === null || isSpan(one)) continue;
    const name = isList ? `anchorSpan[${i}]` : "anchorSpan";
    throw new RangeError(`${name}: expected a power of two from 1 to ${MAX_SPAN} or null, got ${String(one)}`);
  }
}

/** A span as a cache keeps it: a list fits the rotary, and is one number where all pairs are alike. */
export function spanFor(span: AnchorSpan, { frequencies }: Rotary): AnchorSpan {
  if (span === null || typeof span === "number") return span;
  if (span.length !== frequencies.length) {
    throw new RangeError(
      `anchorSpan: expected ${frequencies.length} spans, one for each rotary pair, got ${span.length}`,
    );
  }
  const [first = null] = span;
  return span.every((one) => one === first) ? first : [...span];
}

export interface SpanRule {
  /** Pairs that turn faster, in radians a token, have no span. */
  fastest: number;
  /** A span is about as many tokens as a pair takes to turn by so many radians. */
  turn: number;
  /** No span is shorter, none longer. */
  least: number;
  most: number;
}

export const SPAN_RULE: SpanRule = { fastest: 0.1, turn: 0.7, least: 32, most: 1024 };

/** A span for each rotary pair by how fast it turns, rounded to a power of two (the nearest ratio). */
export function spansByFrequency(
  { frequencies }: Pick<Rotary, "frequencies">,
  rule: Partial<SpanRule> = {},
): PairSpan[] {
  const { fastest, turn, least, most } = { ...SPAN_RULE, ...rule };
  expectNumber("fastest", fastest, 0, Math.PI);
  expectNumber("turn", turn, 2 ** -20, 2 ** 20);
  for (const [name, span] of [
    ["least", least],
    ["most", most],
  ] as const) {
    expectInteger(name, span, 1, MAX_SPAN);
    checkSpan(span);
  }
  return Array.from(frequencies, (frequency) => {
    const speed = Math.abs(frequency);
    if (speed > fastest) return null;
    let span = least;
    // Up where the next power of two is nearer by ratio: turn / (speed * span) >= sqrt(2).
    while (span < most && turn >= Math.SQRT2 * speed * span) span *= 2;
    return span;
  });
}

export function anchorsOf(span: AnchorSpan, rotary: Rotary, headDim: number): Anchors {
  if (span === null || typeof span === "number") {
    const dims = Array.from({ length: headDim }, (_, d) => d);
    const part = { span, dims, rotary, ownRotary: rotary };
    return { span, headDim, parts: [part], least: span, longest: span, order: undefined };
  }
  const spans = [...new Set(span)].sort((a, b) => (b ?? Infinity) - (a ?? Infinity));
  const pairs = rotary.frequencies.length;
  const parts = spans.map((one, i) => partOf(one, span, rotary, i === 0 ? headDim : 2 * pairs));
  const lengths = spans.filter((one) => one !== null);
  return {
    span,
    headDim,
    parts,
    least: lengths.at(-1) ?? null,
    longest: lengths[0] ?? null,
    order: parts.flatMap(({ dims }) => dims),
  };
}

/** The pairs of one span; dimensions behind the pairs, up to `end`, are added. */
function partOf(span: PairSpan, spans: readonly PairSpan[], { layout, frequencies }: Rotary, end: number): AnchorPart {
  const pairs = frequencies.length;
  const mine = spans.flatMap((one, i) => (one === span ? [i] : []));
  const isInterleaved = layout === "interleaved";
  const still = Array.from({ length: end - 2 * pairs }, (_, i) => 2 * pairs + i);
  return {
    span,
    dims: [
      ...mine.map((i) => (isInterleaved ? 2 * i : i)),
      ...mine.map((i) => (isInterleaved ? 2 * i + 1 : i + pairs)),
      ...still,
    ],
    rotary: { layout, frequencies: frequencies.map((frequency, i) => (spans[i] === span ? frequency : 0)) },
    ownRotary: { layout: "half-split", frequencies: Float64Array.from(mine, (i) => frequencies[i]) },
  };
}

/** The first token of the span that a token lies in, both counted from where spans count. */
export const anchorOf = (token: number, span: PairSpan): number => (span === null ? 0 : token - (token % span));

/** Keys in linear memory: (count, headCount, headDim) f32, row i the token `tokenOf(i)` of a segment. */
export interface SegmentRows {
  ptr: number;
  count: number;
  headCount: number;
  /** Position of the segment's first token, from which spans count. */
  position: number;
  tokenOf: (row: number) => number;
}

/** Rotates keys in place by `sign` times their anchors: -1 takes keys after RoPE to what is coded, 1 back. */
export function turnByAnchors(
  { kernels, heap }: Runtime,
  { parts, headDim }: Anchors,
  { ptr, count, headCount, position, tokenOf }: SegmentRows,
  sign: 1 | -1,
): void {
  heap.scratch((frame) => {
    const turnsPtr = frame.reserve(4 * count);
    for (const { span, rotary } of parts) {
      if (span === null) continue;
      const rotaryPtr = putRotary(heap, frame, rotary, headDim);
      const turns = heap.i32(turnsPtr, count);
      for (let i = 0; i < count; i++) turns[i] = sign * (position + anchorOf(tokenOf(i), span));
      kernels.rotate(ptr, ptr, turnsPtr, rotaryPtr, count, headCount);
    }
  });
}

/** Addresses of a ROTARY descriptor a part, for heads of its dimensions alone. */
export const putOwnRotaries = (heap: Heap, frame: Frame, { parts }: Anchors): number[] =>
  parts.map(({ dims, ownRotary }) => putRotary(heap, frame, ownRotary, dims.length));

/** As messages and tables show it. */
export function describeSpan(span: AnchorSpan): string {
  if (span === null || typeof span === "number") return String(span ?? "none");
  const counts = new Map<PairSpan, number>();
  for (const one of span) counts.set(one, (counts.get(one) ?? 0) + 1);
  return [...counts].map(([one, count]) => `${one ?? "none"} for ${count}`).join(", ");
}
