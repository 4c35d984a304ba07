/**
 * Keys of one layer. Analysis finds a basis a head group; once bits are allocated over all
 * layers, coding rotates the rows about their anchors, takes the centre off and codes the latents.
 */
import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { type AnchorSpan, anchorsOf, turnByAnchors } from "./anchors.ts";
import { attentionWeights } from "./attention-weights.ts";
import { type Basis, findBasis, rankFor } from "./basis.ts";
import type { CodedGroup } from "./coded.ts";
import type { Geometry } from "./geometry.ts";
import { type CodedLatents, decodeGroup, encodeGroup, latentSquares } from "./group-codec.ts";
import { type HeadGroup, headGroups } from "./groups.ts";
import { fromHalf, toHalf } from "./half.ts";
import { type KeyMetric, metricRoots } from "./metric.ts";
import type { CodecOptions } from "./options.ts";
import type { Rotary } from "./rotary.ts";
import { encodeGroupInSteps, type StepInput } from "./step-codec.ts";
import { putF32 } from "./tensors.ts";

/** The tokens of a layer that are coded: [first, first + count) of `tokens`. */
export interface CodedRange {
  tokens: number;
  first: number;
  count: number;
}

export interface KeyBasis extends HeadGroup {
  basis: Basis;
  /** (dim) f16 bits. */
  centre: Uint16Array;
}

const LARGEST_HALF = 65504;

/** Bases of the head groups of one layer. keysPtr: (kvHeads, tokens, headDim) f32 after RoPE. */
export function analyseKeys(
  runtime: Runtime,
  geometry: Geometry,
  rotary: Rotary,
  options: CodecOptions,
  range: CodedRange,
  keysPtr: number,
  known?: KeyMetric,
): KeyBasis[] {
  const { heap } = runtime;
  const { kvHeads, headDim } = geometry;
  const useMetric = options.metric && options.schedule === null && known;
  const weights =
    options.attentionWeights && options.schedule === null && known && "queryHeads" in known
      ? attentionWeights(runtime, geometry, keysPtr, range.tokens, known).subarray(
          range.first,
          range.first + range.count,
        )
      : undefined;
  return headGroups(geometry, options.grouping).map((group) =>
    heap.scratch((frame) => {
      const dim = group.headCount * headDim;
      const rowsPtr = anchoredRows(runtime, frame, geometry, rotary, options.anchorSpan, range, keysPtr, group);
      const weightsPtr = weights ? putF32(heap, frame, weights) : 0;
      const centre = centreOf(runtime, frame, rowsPtr, weightsPtr, range.count, dim);
      const metric = useMetric
        ? metricRoots(runtime, known, group, kvHeads, headDim, rotary, options.anchorSpan)
        : undefined;
      const centrePtr = putF32(heap, frame, Float32Array.from(centre, fromHalf));
      const rank = options.schedule ? dim : rankFor(dim, options.keyBits, known && "fisherPtr" in known);
      const rows = { rowsPtr, rowCount: range.count, centrePtr };
      const basis = findBasis(runtime, { ...rows, dim, weightsPtr, metric, rank });
      if (weights && options.entropy) basis.spread = latentSquares(runtime, { ...rows, basis });
      return { ...group, basis, centre };
    }),
  );
}

/** (dim) f16 bits: the mean of rows (count, dim) f32, weighted by (count) f32 where weightsPtr is not 0. */
export function centreOf(
  { kernels, heap }: Runtime,
  frame: Frame,
  rowsPtr: number,
  weightsPtr: number,
  count: number,
  dim: number,
): Uint16Array {
  const meanPtr = frame.reserve(8 * dim);
  kernels.mean(meanPtr, rowsPtr, weightsPtr, count, dim);
  return Uint16Array.from(heap.f64(meanPtr, dim), (x) => toHalf(Math.max(-LARGEST_HALF, Math.min(LARGEST_HALF, x))));
}

/** What the channels of a basis get: bits each, or one step for all. */
export type ChannelPlan = { widths: Uint8Array } | { step: number };

/** Codes of one layer on its bases; a plan for each group. */
export function encodeKeys(
  runtime: Runtime,
  geometry: Geometry,
  rotary: Rotary,
  options: CodecOptions,
  range: CodedRange,
  keysPtr: number,
  bases: KeyBasis[],
  plans: ChannelPlan[],
): CodedGroup[] {
  const { heap } = runtime;
  return bases.map(({ basis, centre, firstHead, headCount }, i) =>
    heap.scratch((frame) => {
      const rowsPtr = anchoredRows(runtime, frame, geometry, rotary, options.anchorSpan, range, keysPtr, {
        firstHead,
        headCount,
      });
      const centrePtr = putF32(heap, frame, Float32Array.from(centre, fromHalf));
      const { basisBits, schedule } = options;
      const input = { rowsPtr, rowCount: range.count, centrePtr, basis, basisBits };
      const coded = encodeByPlan(runtime, input, plans[i], schedule !== null);
      return { firstHead, headCount, ...coded, centre };
    }),
  );
}

export function encodeByPlan(
  runtime: Runtime,
  input: Omit<StepInput, "step">,
  plan: ChannelPlan,
  minMax = false,
): CodedLatents {
  return "step" in plan
    ? encodeGroupInSteps(runtime, { ...input, ...plan })
    : encodeGroup(runtime, { ...input, ...plan, minMax });
}

/** Writes the coded tokens of a group into keysPtr: (kvHeads, tokens, headDim) f32 after RoPE. */
export function decodeKeys(
  runtime: Runtime,
  geometry: Geometry,
  rotary: Rotary,
  anchorSpan: AnchorSpan,
  range: CodedRange,
  keysPtr: number,
  group: CodedGroup,
): void {
  const { kernels, heap } = runtime;
  const { headDim } = geometry;
  heap.scratch((frame) => {
    const centrePtr = putF32(heap, frame, Float32Array.from(group.centre as Uint16Array, fromHalf));
    const rowsPtr = decodeGroup(runtime, frame, group, group.headCount * headDim, range.count, centrePtr);
    turnRows(runtime, geometry, rotary, anchorSpan, range, rowsPtr, group.headCount, 1);
    const to = keysPtr + 4 * (group.firstHead * range.tokens + range.first) * headDim;
    kernels.scatterRows(to, rowsPtr, range.count, group.headCount, headDim, range.tokens * headDim, headDim);
  });
}

/** Address of (count, headCount * headDim) f32: the group's coded tokens, rotated by their offset in the span only. */
export function anchoredRows(
  runtime: Runtime,
  frame: Frame,
  geometry: Geometry,
  rotary: Rotary,
  anchorSpan: AnchorSpan,
  range: CodedRange,
  keysPtr: number,
  group: HeadGroup,
): number {
  const rowsPtr = gatherGroup(runtime, frame, geometry, range, keysPtr, group);
  turnRows(runtime, geometry, rotary, anchorSpan, range, rowsPtr, group.headCount, -1);
  return rowsPtr;
}

/** Address of (count, headCount * headDim) f32: the coded tokens of the group's heads side by side. */
export function gatherGroup(
  runtime: Runtime,
  frame: Frame,
  geometry: Geometry,
  range: CodedRange,
  tensorPtr: number,
  group: HeadGroup,
): number {
  const { headDim } = geometry;
  const rowsPtr = frame.reserve(4 * range.count * group.headCount * headDim);
  const from = tensorPtr + 4 * (group.firstHead * range.tokens + range.first) * headDim;
  runtime.kernels.gatherRows(rowsPtr, from, range.count, group.headCount, headDim, range.tokens * headDim, headDim);
  return rowsPtr;
}

/**
 * Rotates rows in place by `sign` times the anchor of each token. Spans count from the first coded token, so that
 * blocks of 32 tokens never straddle two spans of 32 or more.
 */
function turnRows(
  runtime: Runtime,
  { headDim }: Geometry,
  rotary: Rotary,
  anchorSpan: AnchorSpan,
  { first, count }: CodedRange,
  rowsPtr: number,
  headCount: number,
  sign: 1 | -1,
): void {
  const rows = { ptr: rowsPtr, count, headCount, position: first, tokenOf: (row: number) => row };
  turnByAnchors(runtime, anchorsOf(anchorSpan, rotary, headDim), rows, sign);
}
