/** Live caches beside what they should do: naive attention, in f64, on restored rows. */
import { readFileSync } from "node:fs";
import { KvCache } from "../../src/cache/kv-cache.ts";
import type { CacheOptions } from "../../src/cache/options.ts";
import type { CodedCache } from "../../src/codec/coded.ts";
import type { Geometry } from "../../src/codec/geometry.ts";
import { restoreLayer } from "../../src/codec/restore.ts";
import type { CacheSource } from "../../src/codec/source.ts";
import { type Dump, openDump } from "../../src/engines/dump.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { noise } from "./noise.ts";
import { elementsOf, relativeError } from "./tiny-cache.ts";

/** Keys (after RoPE) and values of one layer: (kvHeads, tokens, headDim) f32. */
export interface LayerRows {
  keys: Float32Array;
  values: Float32Array;
  tokens: number;
}

export async function rowsOf(source: CacheSource, layer = 0): Promise<LayerRows> {
  const [key, value] = [await source.key(layer), await source.value(layer)];
  return { keys: elementsOf(key), values: elementsOf(value), tokens: source.tokenCount };
}

export const restoredRows = (runtime: Runtime, coded: CodedCache, layer = 0): LayerRows => {
  const { key, value } = restoreLayer(runtime, coded, layer, "f32");
  return { keys: new Float32Array(key.buffer), values: new Float32Array(value.buffer), tokens: coded.tokenCount };
};

/** Appends tokens from … to - 1 of the rows to a layer. */
export function appendRows(cache: KvCache, layer: number, rows: LayerRows, from: number, to: number): void {
  const { headDim } = cache.geometry;
  const layout = { tokens: to - from, headStride: rows.tokens * headDim, tokenStride: headDim };
  cache.append(layer, rows.keys.subarray(from * headDim), rows.values.subarray(from * headDim), layout);
}

/** A cache of one layer or more that starts empty and takes in the first `tokens` tokens of the source, fits finished. */
export async function grown(
  runtime: Runtime,
  source: CacheSource,
  options: Partial<CacheOptions>,
  tokens = source.tokenCount,
): Promise<KvCache> {
  const cache = KvCache.create(runtime, source.geometry, source.rotary, options);
  for (let layer = 0; layer < source.geometry.layerCount; layer++) {
    appendRows(cache, layer, await rowsOf(source, layer), 0, tokens);
  }
  cache.settle();
  return cache;
}

/** Weights (queryHeads, tokens) and outputs (queryHeads, headDim) of attention on rows, in f64. */
export function naiveAttention(rows: LayerRows, { kvHeads, headDim }: Geometry, queries: Float32Array) {
  const { keys, values, tokens } = rows;
  const queryHeads = queries.length / headDim;
  const weights = new Float64Array(queryHeads * tokens);
  const out = new Float64Array(queries.length);
  for (let q = 0; q < queryHeads; q++) {
    const first = Math.floor((q * kvHeads) / queryHeads) * tokens;
    const mine = weights.subarray(q * tokens, (q + 1) * tokens);
    for (let t = 0; t < tokens; t++) {
      for (let d = 0; d < headDim; d++) mine[t] += queries[q * headDim + d] * keys[(first + t) * headDim + d];
      mine[t] /= Math.sqrt(headDim);
    }
    const top = mine.reduce((a, b) => Math.max(a, b));
    const sum = mine.reduce((a, x, t) => a + (mine[t] = Math.exp(x - top)), 0);
    for (let t = 0; t < tokens; t++) {
      mine[t] /= sum;
      for (let d = 0; d < headDim; d++) out[q * headDim + d] += mine[t] * values[(first + t) * headDim + d];
    }
  }
  return { weights, out };
}

export function attended(cache: KvCache, layer: number, queries: Float32Array): Float32Array {
  const out = new Float32Array(queries.length);
  cache.attend(layer, queries, out);
  return out;
}

/** |got - expected| / |expected|. */
export const differenceOf = (got: ArrayLike<number>, expected: ArrayLike<number>): number =>
  Math.sqrt(relativeError(got, expected));

/** How far attention on codes is from naive attention on the same codes restored. */
export function codeDifference(runtime: Runtime, cache: KvCache, layer: number, queries: Float32Array): number {
  const rows = restoredRows(runtime, cache.save(), layer);
  return differenceOf(attended(cache, layer, queries), naiveAttention(rows, cache.geometry, queries).out);
}

/** Queries (shared * kvHeads, headDim) of about the given size. */
export const someQueries = ({ kvHeads, headDim }: Geometry, shared = 2, seed = 1, size = 2): Float32Array =>
  noise(kvHeads * shared * headDim, 77 * seed).map((x) => size * x);

/** The real cache of the tests: two layers of SmolLM2-135M, 3 kv heads of 64, 9 query heads. */
export const openFixture = (tokens?: number): Promise<Dump> =>
  openDump(readFileSync("test/fixtures/smollm2-novel.safetensors"), tokens === undefined ? {} : { tokens });

/** Queries (queryHeads, headDim) of the fixture's token at `position`, 1536 to 1727. */
export async function queriesAt(dump: Dump, layer: number, position: number): Promise<Float32Array> {
  const tensor = (await dump.queryTensor(layer)) as NonNullable<Awaited<ReturnType<Dump["queryTensor"]>>>;
  const all = elementsOf(tensor);
  const { headDim } = dump.geometry;
  const out = new Float32Array(tensor.queryHeads * headDim);
  for (let head = 0; head < tensor.queryHeads; head++) {
    const from = (head * tensor.count + position - tensor.firstToken) * headDim;
    out.set(all.subarray(from, from + headDim), head * headDim);
  }
  return out;
}
