/**
 * How much attention each token receives from the last queries: tokens that are looked at deserve the smaller error.
 * weight = 0.2 + 0.8 a, a of mean 1, capped at 50; the floor keeps tokens that no query has looked at yet
 * retrievable.
 */
import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Geometry } from "./geometry.ts";
import type { LayerQueries } from "./metric.ts";

const FLOOR = 0.2;
const CAP = 50;
/** Last queries looked at. */
const MOST_QUERIES = 64;

/**
 * (tokens) f32, mean about 1. keysPtr: (kvHeads, tokens, headDim) f32 after RoPE.
 */
export function attentionWeights(
  runtime: Runtime,
  geometry: Geometry,
  keysPtr: number,
  tokens: number,
  queries: LayerQueries,
): Float32Array {
  const received = new Float64Array(tokens);
  const shared = queries.queryHeads / geometry.kvHeads;
  for (let head = 0; head < queries.queryHeads; head++) {
    const headKeysPtr = keysPtr + 4 * Math.floor(head / shared) * tokens * geometry.headDim;
    runtime.heap.scratch((frame) =>
      addHead(runtime, frame, received, geometry.headDim, headKeysPtr, tokens, queries, head),
    );
  }
  const mean = received.reduce((a, b) => a + b, 0) / tokens;
  return Float32Array.from(received, (a) => FLOOR + (1 - FLOOR) * Math.min(CAP, a / mean));
}

function addHead(
  runtime: Runtime,
  frame: Frame,
  received: Float64Array,
  headDim: number,
  keysPtr: number,
  tokens: number,
  queries: LayerQueries,
  head: number,
): void {
  const { kernels, heap } = runtime;
  const count = Math.min(MOST_QUERIES, queries.count);
  const skipped = queries.count - count;
  const scoresPtr = frame.reserve(4 * count * tokens);
  const transposedPtr = frame.reserve(4 * count * headDim);
  const rows = heap.f32(queries.ptr + 4 * (head * queries.count + skipped) * headDim, count * headDim);
  const transposed = heap.f32(transposedPtr, headDim * count);
  for (let i = 0; i < count; i++) for (let d = 0; d < headDim; d++) transposed[d * count + i] = rows[i * headDim + d];
  kernels.project(scoresPtr, keysPtr, 0, transposedPtr, tokens, headDim, count, tokens);
  for (let i = 0; i < count; i++) {
    const seen = Math.min(tokens, queries.firstToken + skipped + i + 1);
    kernels.softmax(scoresPtr + 4 * i * tokens, scoresPtr + 4 * i * tokens, seen, 1 / Math.sqrt(headDim));
    const weights = heap.f32(scoresPtr + 4 * i * tokens, seen);
    for (let token = 0; token < seen; token++) received[token] += weights[token];
  }
}
