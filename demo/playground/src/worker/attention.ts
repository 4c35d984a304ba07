/** Attention of one layer's queries on the exact cache and on what the codes restore to, head by head. */
import type { CodedCache } from "../../../../src/codec/coded.ts";
import { rowDim } from "../../../../src/codec/geometry.ts";
import { restoreLayer } from "../../../../src/codec/restore.ts";
import type { Dump } from "../../../../src/engines/dump.ts";
import { type AttentionLayer, type ExactAttention, exactAttention } from "../../../../src/evaluation/metrics.ts";
import { outputError } from "../../../../src/evaluation/score-difference.ts";
import { middleOf, widen } from "../../../../src/evaluation/tensors.ts";
import type { Runtime } from "../../../../src/runtime/runtime.ts";
import { binMatrix, binSize } from "../data/bins.ts";
import type { AttentionPicture, Look } from "../messages.ts";

/** The last queries of a file are looked at, as many as this. */
export const MOST_QUERIES = 256;
const MOST_COLUMNS = 64;
const MOST_ROWS = 24;

/** Tensors of one layer as f32: exact ones with the continuation, and the same with the codes' tokens over them. */
export interface LayerTensors {
  exact: { keys: Float32Array; values: Float32Array };
  coded: { keys: Float32Array; values: Float32Array };
}

export async function exactTensors(
  runtime: Runtime,
  source: Pick<Dump, "key" | "value" | "geometry" | "tokenCount">,
  layer: number,
) {
  const count = source.tokenCount * rowDim(source.geometry);
  return {
    keys: widen(runtime, `layer ${layer} key`, await source.key(layer), count),
    values: widen(runtime, `layer ${layer} value`, await source.value(layer), count),
  };
}

/** The restored tokens of a layer over its exact ones: (kvHeads, tokens of `exact`, headDim). */
export function codedTensors(
  runtime: Runtime,
  coded: CodedCache,
  exact: LayerTensors["exact"],
  layer: number,
): LayerTensors["coded"] {
  const { kvHeads, headDim } = coded.geometry;
  const { key, value } = restoreLayer(runtime, coded, layer, "f32");
  const size = coded.tokenCount * headDim;
  const over = (bytes: Uint8Array, tensor: Float32Array): Float32Array => {
    const restored = new Float32Array(bytes.buffer, bytes.byteOffset, kvHeads * size);
    const out = tensor.slice();
    const headSize = tensor.length / kvHeads;
    for (let head = 0; head < kvHeads; head++) {
      out.set(restored.subarray(head * size, (head + 1) * size), head * headSize);
    }
    return out;
  };
  return { keys: over(key, exact.keys), values: over(value, exact.values) };
}

export interface LayerQueries {
  /** (queryHeads, count, headDim) f32. */
  queries: Float32Array;
  queryHeads: number;
  firstToken: number;
  count: number;
}

/** The last queries of a layer, or undefined where the file has none. */
export async function queriesOf(runtime: Runtime, all: Dump, layer: number): Promise<LayerQueries | undefined> {
  const query = await all.queryTensor(layer);
  if (!query) return undefined;
  const { headDim } = all.geometry;
  const { queryHeads, firstToken } = query;
  const count = Math.min(query.count, MOST_QUERIES);
  const first = query.count - count;
  const tensor = widen(runtime, `layer ${layer} query`, query, queryHeads * query.count * headDim);
  const queries = middleOf(tensor, queryHeads, headDim, { tokens: query.count, first, count });
  return { queries, queryHeads, firstToken: firstToken + first, count };
}

/** One query head: what it attends to in the exact cache, and in the coded one. */
export interface HeadAttention {
  exact: ExactAttention;
  coded: ExactAttention;
}

export function headAttention(
  runtime: Runtime,
  { kvHeads, headDim }: CodedCache["geometry"],
  tensors: LayerTensors,
  { queries, queryHeads, firstToken, count }: LayerQueries,
  head: number,
): HeadAttention {
  const size = tensors.exact.keys.length / kvHeads;
  const kvHead = Math.floor((head * kvHeads) / queryHeads);
  const ofHead = (tensor: Float32Array): Float32Array => tensor.subarray(kvHead * size, (kvHead + 1) * size);
  const [exact, coded] = [tensors.exact, tensors.coded].map(({ keys, values }): ExactAttention => {
    const layer: AttentionLayer = {
      queries: queries.subarray(head * count * headDim, (head + 1) * count * headDim),
      ...{ queryHeads: 1, kvHeads: 1, count, firstToken, headDim, tokens: size / headDim },
      ...{ keys: ofHead(keys), values: ofHead(values) },
    };
    return exactAttention(runtime, layer);
  });
  return { exact, coded };
}

/** Weights of query `q` of the tokens up to it. */
export function weightsOf({ layer, scores, logSums }: ExactAttention, q: number): Float32Array {
  const { tokens, firstToken, headDim } = layer;
  const visible = Math.min(tokens, firstToken + q + 1);
  const scale = 1 / Math.sqrt(headDim);
  return scores.slice(q * tokens, q * tokens + visible).map((score) => Math.exp(score * scale - logSums[q]));
}

/** KL in nats of query `q`'s weights, and the error of its output. */
export function queryErrors({ exact, coded }: HeadAttention, q: number): { attentionKl: number; outputError: number } {
  const { tokens, firstToken, headDim, count } = exact.layer;
  const visible = Math.min(tokens, firstToken + q + 1);
  const scale = 1 / Math.sqrt(headDim);
  let divergence = coded.logSums[q] - exact.logSums[q];
  for (let i = q * tokens; i < q * tokens + visible; i++) {
    const score = exact.scores[i] * scale;
    divergence += Math.exp(score - exact.logSums[q]) * (score - coded.scores[i] * scale);
  }
  // Outputs are (headDim, count).
  const [o, other] = [exact, coded].map(({ outputs }) =>
    Float32Array.from({ length: headDim }, (_, d) => outputs[d * count + q]),
  );
  // Below zero by rounding alone.
  return { attentionKl: Math.max(0, divergence), outputError: outputError(o, other, 0, headDim) };
}

export function pictureOf({ exact, coded }: HeadAttention, look: Look, layer: number): AttentionPicture {
  const { tokens, firstToken, count } = exact.layer;
  const sizes = { row: binSize(count, MOST_ROWS), column: binSize(tokens, MOST_COLUMNS) };
  const query = Math.min(look.query, count - 1);
  const [exactMap, codedMap] = [exact, coded].map((one) => binMatrix(count, tokens, sizes, (q) => weightsOf(one, q)));
  const rows = Math.ceil(count / sizes.row);
  return {
    ...{ look: { ...look, query }, layer, tokens, columnTokens: sizes.column, rowQueries: sizes.row },
    columns: Math.ceil(tokens / sizes.column),
    positions: Array.from({ length: rows }, (_, row) => firstToken + row * sizes.row),
    exact: exactMap,
    coded: codedMap,
    position: firstToken + query,
    exactRow: weightsOf(exact, query),
    codedRow: weightsOf(coded, query),
  };
}
