/**
 * What errors of cached keys and values cost a model's next token: with g the gradient of the log probability of tokens
 * that the model itself draws, an error e costs e'Fe / 2 nats of KL divergence, F = E[g g'] the Fisher information
 * (Amari, Natural gradient works efficiently in learning, 1998). It is a property of the model and carries over between
 * texts; tools/fisher-transformers.py measures it. Errors of tokens count as independent, and those of heads.
 */

import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { HeadGroup } from "./groups.ts";
import { type MetricRoot, squareRoot } from "./metric-root.ts";
import { type CodedNorms, normLevels } from "./norms.ts";

/**
 * Of one layer: (kvHeads, headDim, headDim) f32 each, summed over the tokens of a cache, in nats of one next token. Of
 * keys before RoPE, in the dimensions' order of the rotary layout.
 */
export interface FisherData {
  keys: Float32Array;
  values: Float32Array;
}

/** Of what the most felt head of a group counts: less would leave the range of the column scales of a basis of both. */
const LEAST_PART = 1e-6;

/** The least that an eigenvalue of a head counts in its group. Squares: (kvHeads, headDim, headDim). */
export function leastEigenvalue(squares: Float32Array, { firstHead, headCount }: HeadGroup, headDim: number): number {
  const traces = Array.from({ length: headCount }, (_, i) => traceOf(squares, firstHead + i, headDim));
  return (LEAST_PART * Math.max(...traces)) / headDim;
}

/** Sum of the diagonal of one head of (kvHeads, headDim, headDim). */
export function traceOf(squares: Float32Array, head: number, headDim: number): number {
  let trace = 0;
  for (let d = 0; d < headDim; d++) trace += squares[head * headDim ** 2 + d * (headDim + 1)];
  return trace;
}

/** Roots of the metric of value directions, a kv head of the group each: an error of a direction grows with its norm. */
export function directionRoots(
  runtime: Runtime,
  frame: Frame,
  values: Float32Array,
  group: HeadGroup,
  headDim: number,
  norms: CodedNorms,
): MetricRoot[] {
  const { firstHead, headCount } = group;
  const levels = normLevels(norms);
  const meanSquare = norms.codes.reduce((sum, code) => sum + levels[code] ** 2, 0) / norms.codes.length;
  const square = headDim * headDim;
  const least = meanSquare * leastEigenvalue(values, group, headDim);
  return Array.from({ length: headCount }, (_, i) => {
    const momentPtr = frame.reserve(8 * square);
    const from = (firstHead + i) * square;
    const moment = runtime.heap.f64(momentPtr, square);
    for (let j = 0; j < square; j++) moment[j] = values[from + j] * meanSquare;
    return squareRoot(runtime, frame, momentPtr, headDim, least);
  });
}
