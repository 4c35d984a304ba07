/** Codes back to tensors as engines cache them. */
import type { Runtime } from "../runtime/runtime.ts";
import { type CodedCache, codedTokens, segmentsOf } from "./coded.ts";
import { rowDim } from "./geometry.ts";
import { type CodedRange, decodeKeys } from "./key-codec.ts";
import { ELEMENT_BYTES, type ElementType } from "./source.ts";
import { loadTensor, storeTensor } from "./tensors.ts";
import { decodeValues } from "./value-codec.ts";

export interface RestoredLayer {
  /** (kvHeads, tokenCount, headDim) in the type asked for, keys after RoPE, little-endian. */
  key: Uint8Array;
  value: Uint8Array;
}

/** Tensors of one layer. Exact tokens come back bit for bit where `type` is the type that they came in. */
export function restoreLayer(runtime: Runtime, cache: CodedCache, layer: number, type: ElementType): RestoredLayer {
  const { geometry, rotary, anchorSpan } = cache;
  const coded = cache.layers[layer];
  let first = cache.sinks;
  const parts = segmentsOf(coded, codedTokens(cache)).map(({ tokens, keys, values }) => {
    const range: CodedRange = { tokens: cache.tokenCount, first, count: tokens };
    first += tokens;
    return { range, keys, values };
  });
  const count = cache.tokenCount * rowDim(geometry);
  return runtime.heap.scratch((frame) => {
    const ptr = frame.reserve(4 * count);
    for (const { range, keys } of parts) {
      for (const group of keys) decodeKeys(runtime, geometry, rotary, anchorSpan, range, ptr, group);
    }
    putExact(runtime, cache, ptr, coded.exactKeys);
    const key = storeTensor(runtime, ptr, count, type);
    for (const { range, values } of parts) {
      for (const group of values) decodeValues(runtime, geometry, range, ptr, group);
    }
    putExact(runtime, cache, ptr, coded.exactValues);
    return { key, value: storeTensor(runtime, ptr, count, type) };
  });
}

/** Writes sinks and recent tokens over the tensor at `ptr`. */
function putExact(runtime: Runtime, cache: CodedCache, ptr: number, bytes: Uint8Array): void {
  const { kvHeads, headDim } = cache.geometry;
  const kept = cache.sinks + cache.recent;
  if (kept === 0) return;
  const { kernels, heap } = runtime;
  heap.scratch((frame) => {
    const tensor = { type: cache.exactType, bytes };
    const fromPtr = loadTensor(runtime, frame, "exact tokens", tensor, bytes.length / ELEMENT_BYTES[cache.exactType]);
    const toStride = cache.tokenCount * headDim;
    const fromStride = kept * headDim;
    for (let head = 0; head < kvHeads; head++) {
      const [from, to] = [fromPtr + 4 * head * fromStride, ptr + 4 * head * toStride];
      kernels.gatherRows(to, from, cache.sinks, 1, headDim, 0, headDim);
      const recentTo = to + 4 * (cache.tokenCount - cache.recent) * headDim;
      kernels.gatherRows(recentTo, from + 4 * cache.sinks * headDim, cache.recent, 1, headDim, 0, headDim);
    }
  });
}
