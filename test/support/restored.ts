/** What a compressed cache gives back, beside what went in. */
import type { CodedCache } from "../../src/codec/coded.ts";
import { restoreLayer } from "../../src/codec/restore.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { elementsOf, relativeError, type TinyCache } from "./tiny-cache.ts";

/**
 * Squared error over square of keys and values, exact tokens in; and of scores (q·k, all queries and all tokens),
 * 0 where there are no queries.
 */
export function errorsOf(runtime: Runtime, cache: CodedCache, source: TinyCache) {
  const errors = { key: 0, value: 0, score: 0 };
  source.layers.forEach((layer, i) => {
    const restored = restoreLayer(runtime, cache, i, "f32");
    const [key, value] = [restored.key, restored.value].map((bytes) => new Float32Array(bytes.buffer));
    errors.key += relativeError(key, elementsOf(layer.key)) / source.layers.length;
    errors.value += relativeError(value, elementsOf(layer.value)) / source.layers.length;
    if (!layer.query) return;
    const exact = scores(source, elementsOf(layer.key), elementsOf(layer.query), layer.query.queryHeads);
    const got = scores(source, key, elementsOf(layer.query), layer.query.queryHeads);
    errors.score += relativeError(got, exact) / source.layers.length;
  });
  return errors;
}

function scores(source: TinyCache, keys: Float32Array, queries: Float32Array, queryHeads: number): Float32Array {
  const { kvHeads, headDim } = source.geometry;
  const tokens = source.tokenCount;
  const count = queries.length / queryHeads / headDim;
  const out = new Float32Array(queryHeads * count * tokens);
  for (let row = 0; row < queryHeads * count; row++) {
    const head = Math.floor((Math.floor(row / count) * kvHeads) / queryHeads);
    for (let token = 0; token < tokens; token++) {
      let sum = 0;
      for (let d = 0; d < headDim; d++) sum += queries[row * headDim + d] * keys[(head * tokens + token) * headDim + d];
      out[row * tokens + token] = sum;
    }
  }
  return out;
}
