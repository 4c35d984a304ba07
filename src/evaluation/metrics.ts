/**
 * What a compressed cache costs attention, for one layer and a stretch of evaluated queries, against the exact cache:
 *
 *   attention KL   KL(exact weights || approximate weights) in nats
 *   output error   |o - o'|^2 / |o|^2 of a query head's output
 *
 * both means over query heads and queries. Scores are q·k / sqrt(headDim), and a query sees tokens up to its own
 * position. The kernels do the matrix products in f32, a query head at a time; softmax and every mean are f64 here.
 */
import { expectInteger } from "../errors.ts";
import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";

/** Exact keys, values and queries of one layer, after RoPE. Query head h reads kv head h * kvHeads / queryHeads. */
export interface AttentionLayer {
  /** (queryHeads, count, headDim), at positions firstToken, firstToken + 1, … */
  queries: Float32Array;
  queryHeads: number;
  count: number;
  firstToken: number;
  /** (kvHeads, tokens, headDim) */
  keys: Float32Array;
  /** (kvHeads, tokens, headDim) */
  values: Float32Array;
  kvHeads: number;
  tokens: number;
  headDim: number;
}

/** Outside linear memory: 4 * queryHeads * count * tokens bytes and little more. Hold one layer at a time. */
export interface ExactAttention {
  layer: AttentionLayer;
  /** q·k (queryHeads, count, tokens), not scaled; tokens after the query are meaningless. */
  scores: Float32Array;
  /** Log of the sum of exp(scaled score) over the tokens that a query sees: (queryHeads, count). */
  logSums: Float64Array;
  /** (queryHeads, headDim, count) */
  outputs: Float32Array;
}

export interface AttentionDifference {
  attentionKl: number;
  outputError: number;
}

/** Scores and outputs of the exact cache. Throws a RangeError where an array does not have its stated shape. */
export function exactAttention(runtime: Runtime, layer: AttentionLayer): ExactAttention {
  checkLayer(layer);
  const { queryHeads, count, tokens, headDim } = layer;
  const exact: ExactAttention = {
    layer,
    scores: new Float32Array(queryHeads * count * tokens),
    logSums: new Float64Array(queryHeads * count),
    outputs: new Float32Array(queryHeads * count * headDim),
  };
  for (let head = 0; head < queryHeads; head++) {
    withHead(runtime, layer, (buffers) => {
      putScores(runtime, buffers, layer, head, layer.keys);
      const scores = runtime.heap.f32(buffers.weightsPtr, count * tokens);
      exact.scores.set(scores, head * count * tokens);
      for (let q = 0; q < count; q++) {
        exact.logSums[head * count + q] = softmax(scores.subarray(q * tokens, (q + 1) * tokens), seen(layer, q), layer);
      }
      exact.outputs.set(attend(runtime, buffers, layer, head, layer.values), head * count * headDim);
    });
  }
  return exact;
}

/**
 * The exact attention against the same with other keys, other values or both: (kvHeads, tokens, headDim) each. What is
 * left out is exact; with values alone the scores are not computed again.
 */
export function compareAttention(
  runtime: Runtime,
  exact: ExactAttention,
  replaced: { keys?: Float32Array; values?: Float32Array },
): AttentionDifference {
  const { layer } = exact;
  const { queryHeads, count, tokens, headDim } = layer;
  const keys = replaced.keys;
  const values = replaced.values ?? layer.values;
  if (keys) checkLength("keys", keys, layer.kvHeads * tokens * headDim);
  checkLength("values", values, layer.kvHeads * tokens * headDim);
  let divergence = 0;
  let error = 0;
  for (let head = 0; head < queryHeads; head++) {
    withHead(runtime, layer, (buffers) => {
      if (keys) putScores(runtime, buffers, layer, head, keys);
      const weights = runtime.heap.f32(buffers.weightsPtr, count * tokens);
      for (let q = 0; q < count; q++) {
        const row = weights.subarray(q * tokens, (q + 1) * tokens);
        if (keys) divergence += replaceScores(row, exact, head, q);
        else exactWeights(row, exact, head, q);
      }
      error += outputErrors(attend(runtime, buffers, layer, head, values), exact, head);
    });
  }
  const evaluated = queryHeads * count;
  return evaluated
    ? { attentionKl: divergence / evaluated, outputError: error / evaluated }
    : { attentionKl: 0, outputError: 0 };
}

// ------------------------------------------------------------------------------------------- one query head
interface HeadBuffers {
  /** Keys, then values, of the kv head: (tokens, headDim) f32. */
  tensorPtr: number;
  /** Queries transposed (headDim, count), then outputs (headDim, count) f32. */
  queryPtr: number;
  /** Scores, then weights, (count, tokens) f32. */
  weightsPtr: number;
}

/** Runs `work` with scratch for one query head. All is reserved before the first view is made. */
function withHead(runtime: Runtime, layer: AttentionLayer, work: (buffers: HeadBuffers) => void): void {
  const { count, tokens, headDim } = layer;
  runtime.heap.scratch((frame: Frame) =>
    work({
      tensorPtr: frame.reserve(4 * tokens * headDim),
      queryPtr: frame.reserve(4 * headDim * count),
      weightsPtr: frame.reserve(4 * count * tokens),
    }),
  );
}

/** Copies kv head of query head `head` of tensor (kvHeads, tokens, headDim) to the buffer. */
function putTensor(runtime: Runtime, buffers: HeadBuffers, layer: AttentionLayer, head: number, tensor: Float32Array) {
  const size = layer.tokens * layer.headDim;
  const kvHead = Math.floor((head * layer.kvHeads) / layer.queryHeads);
  runtime.heap.f32(buffers.tensorPtr, size).set(tensor.subarray(kvHead * size, (kvHead + 1) * size));
}

/** q·k (count, tokens) to weightsPtr: `project` with keys as rows and queries, transposed, as the analysis matrix. */
function putScores(
  runtime: Runtime,
  buffers: HeadBuffers,
  layer: AttentionLayer,
  head: number,
  keys: Float32Array,
): void {
  const { count, tokens, headDim, queries } = layer;
  putTensor(runtime, buffers, layer, head, keys);
  const transposed = runtime.heap.f32(buffers.queryPtr, headDim * count);
  for (let q = 0, at = head * count * headDim; q < count; q++) {
    for (let d = 0; d < headDim; d++) transposed[d * count + q] = queries[at++];
  }
  runtime.kernels.project(buffers.weightsPtr, buffers.tensorPtr, 0, buffers.queryPtr, tokens, headDim, count, tokens);
}

/** Outputs (headDim, count) of the weights at weightsPtr: a view, good until the next reserve. */
function attend(
  runtime: Runtime,
  buffers: HeadBuffers,
  layer: AttentionLayer,
  head: number,
  values: Float32Array,
): Float32Array {
  const { count, tokens, headDim } = layer;
  putTensor(runtime, buffers, layer, head, values);
  runtime.kernels.project(buffers.queryPtr, buffers.weightsPtr, 0, buffers.tensorPtr, count, tokens, headDim, count);
  return runtime.heap.f32(buffers.queryPtr, headDim * count);
}

// ------------------------------------------------------------------------------------------------ one query
/** Tokens that query number q sees: those up to its own position. */
const seen = (layer: AttentionLayer, q: number): number => Math.min(layer.tokens, layer.firstToken + q + 1);

const scaleOf = (layer: AttentionLayer): number => 1 / Math.sqrt(layer.headDim);

/** Turns scores into weights in place, zero past `visible`; returns the log of the sum of exp(scaled score). */
function softmax(row: Float32Array, visible: number, layer: AttentionLayer): number {
  const scale = scaleOf(layer);
  let top = -Infinity;
  for (let t = 0; t < visible; t++) if (row[t] > top) top = row[t];
  let sum = 0;
  for (let t = 0; t < visible; t++) sum += row[t] = Math.exp((row[t] - top) * scale);
  const inverse = 1 / sum;
  for (let t = 0; t < visible; t++) row[t] *= inverse;
  row.fill(0, visible);
  return top * scale + Math.log(sum);
}

/** Turns approximate scores into weights in place and returns their divergence, sum of p (log p - log p'). */
function replaceScores(row: Float32Array, exact: ExactAttention, head: number, q: number): number {
  const { layer, scores, logSums } = exact;
  const scale = scaleOf(layer);
  const visible = seen(layer, q);
  const first = (head * layer.count + q) * layer.tokens;
  const logSum = logSums[head * layer.count + q];
  // log p - log p' = (score - score') - (logSum - logSum'), and p sums to one: the second part is added at the end.
  let divergence = 0;
  for (let t = 0; t < visible; t++) {
    const score = scores[first + t] * scale;
    divergence += Math.exp(score - logSum) * (score - row[t] * scale);
  }
  return divergence - logSum + softmax(row, visible, layer);
}

/** Weights of the exact scores into row. */
function exactWeights(row: Float32Array, exact: ExactAttention, head: number, q: number): void {
  const { layer, scores, logSums } = exact;
  const scale = scaleOf(layer);
  const visible = seen(layer, q);
  const first = (head * layer.count + q) * layer.tokens;
  const logSum = logSums[head * layer.count + q];
  for (let t = 0; t < visible; t++) row[t] = Math.exp(scores[first + t] * scale - logSum);
  row.fill(0, visible);
}

/** Sum over queries of |o - o'|^2 / |o|^2; outputs (headDim, count). An exact output of zero counts as no error. */
function outputErrors(outputs: Float32Array, exact: ExactAttention, head: number): number {
  const { count, headDim } = exact.layer;
  const first = head * count * headDim;
  let total = 0;
  for (let q = 0; q < count; q++) {
    let energy = 0;
    let error = 0;
    for (let at = q; at < headDim * count; at += count) {
      const o = exact.outputs[first + at];
      energy += o * o;
      error += (o - outputs[at]) ** 2;
    }
    if (energy > 0) total += error / energy;
  }
  return total;
}

// ---------------------------------------------------------------------------------------------------- checks
function checkLayer(layer: AttentionLayer): void {
  const { queryHeads, count, kvHeads, tokens, headDim } = layer;
  expectInteger("layer.kvHeads", kvHeads, 1, 1024);
  expectInteger("layer.queryHeads", queryHeads, 1, 1024);
  if (queryHeads % kvHeads !== 0) {
    throw new RangeError(`layer.queryHeads: expected a multiple of ${kvHeads}, got ${queryHeads}`);
  }
  expectInteger("layer.headDim", headDim, 1, 1024);
  expectInteger("layer.count", count, 0, 2 ** 24);
  expectInteger("layer.tokens", tokens, 1, 2 ** 24);
  expectInteger("layer.firstToken", layer.firstToken, 0, 2 ** 31 - 1);
  checkLength("layer.queries", layer.queries, queryHeads * count * headDim);
  checkLength("layer.keys", layer.keys, kvHeads * tokens * headDim);
  checkLength("layer.values", layer.values, kvHeads * tokens * headDim);
}

function checkLength(name: string, array: Float32Array, expected: number): void {
  if (array.length !== expected) throw new RangeError(`${name}.length: expected ${expected}, got ${array.length}`);
}
