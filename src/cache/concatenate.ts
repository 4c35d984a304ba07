/** Caches one after the other as one source: keys of later ones are rotated on by where they now begin. */
import { type Geometry, rowDim } from "../codec/geometry.ts";
import { putRotary } from "../codec/rotary.ts";
import { type CacheSource, ELEMENT_BYTES, type QueryData, type TensorData } from "../codec/source.ts";
import { loadTensor, storeTensor } from "../codec/tensors.ts";
import type { Runtime } from "../runtime/runtime.ts";

/** Queries, their moments or Fisher information are those of the last cache. Tensors come as f32. */
export function concatenated(runtime: Runtime, caches: CacheSource[]): CacheSource {
  const last = caches[caches.length - 1];
  const firsts: number[] = [];
  let tokenCount = 0;
  for (const cache of caches) {
    firsts.push(tokenCount);
    tokenCount += cache.tokenCount;
  }
  const shift = firsts[firsts.length - 1];
  const join = async (layer: number, read: (cache: CacheSource) => Promise<TensorData>, rotates: boolean) => {
    const parts: { values: Float32Array; tokens: number }[] = [];
    for (const [i, cache] of caches.entries()) {
      const tensor = await read(cache);
      const turn = rotates ? firsts[i] : 0;
      const count = cache.tokenCount * rowDim(cache.geometry);
      const values = moved(runtime, cache, `layer ${layer}`, tensor, count, turn);
      parts.push({ values, tokens: cache.tokenCount });
    }
    return joinHeads(parts, last.geometry, tokenCount);
  };
  return {
    geometry: last.geometry,
    rotary: last.rotary,
    layerNumbers: last.layerNumbers,
    model: last.model,
    tokenCount,
    key: (layer) => join(layer, (cache) => cache.key(layer), true),
    value: (layer) => join(layer, (cache) => cache.value(layer), false),
    query: async (layer) => {
      const query = await last.query?.(layer);
      return query && movedQuery(runtime, last, query, shift);
    },
    queryMoments: async (layer) => last.queryMoments?.(layer),
    ...(last.fisher && { fisher: last.fisher.bind(last) }),
  };
}

/** f32 elements of a tensor (heads, tokens, headDim), every row rotated by `turn` positions. */
function moved(
  runtime: Runtime,
  { geometry, rotary }: CacheSource,
  name: string,
  tensor: TensorData,
  count: number,
  turn: number,
): Float32Array {
  const { kernels, heap } = runtime;
  return heap.scratch((frame) => {
    const ptr = loadTensor(runtime, frame, name, tensor, count);
    const rows = count / geometry.headDim;
    if (turn > 0) {
      const turnsPtr = frame.reserve(4 * rows);
      heap.i32(turnsPtr, rows).fill(turn);
      kernels.rotate(ptr, ptr, turnsPtr, putRotary(heap, frame, rotary, geometry.headDim), rows, 1);
    }
    return heap.f32(ptr, count).slice();
  });
}

function movedQuery(runtime: Runtime, source: CacheSource, query: QueryData, shift: number): QueryData {
  const count = query.bytes.length / ELEMENT_BYTES[query.type];
  const values = moved(runtime, source, "query", query, count, shift);
  return { ...query, firstToken: query.firstToken + shift, type: "f32", bytes: bytesOf(runtime, values) };
}

function joinHeads(
  parts: { values: Float32Array; tokens: number }[],
  { kvHeads, headDim }: Geometry,
  tokens: number,
): TensorData {
  const out = new Float32Array(kvHeads * tokens * headDim);
  for (let h = 0, to = 0; h < kvHeads; h++) {
    for (const { values, tokens: held } of parts) {
      out.set(values.subarray(h * held * headDim, (h + 1) * held * headDim), to);
      to += held * headDim;
    }
  }
  return { type: "f32", bytes: new Uint8Array(out.buffer) };
}

const bytesOf = (runtime: Runtime, values: Float32Array): Uint8Array =>
  runtime.heap.scratch((frame) => {
    const ptr = frame.reserve(values.byteLength);
    runtime.heap.f32(ptr, values.length).set(values);
    return storeTensor(runtime, ptr, values.length, "f32");
  });
