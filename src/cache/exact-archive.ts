/** Exact tokens between an archive's tensors, (kvHeads, sinks + recent, headDim), and rows in linear memory. */
import type { CodedCache, CodedLayer } from "../codec/coded.ts";
import type { Geometry } from "../codec/geometry.ts";
import { ELEMENT_BYTES, type ElementType } from "../codec/source.ts";
import { loadTensor, storeTensor } from "../codec/tensors.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { ExactRows } from "./exact-rows.ts";

/** Sinks and recent tokens of an archived layer behind the rows held. */
export function gatherExact(
  runtime: Runtime,
  cache: CodedCache,
  layer: CodedLayer,
  sinks: ExactRows,
  recent: ExactRows,
): void {
  const { kernels, heap } = runtime;
  const { kvHeads, headDim } = cache.geometry;
  const held = cache.sinks + cache.recent;
  if (held === 0) return;
  heap.scratch((frame) => {
    const [keysPtr, valuesPtr] = [layer.exactKeys, layer.exactValues].map((bytes) => {
      const tensor = { type: cache.exactType, bytes };
      return loadTensor(runtime, frame, "exact tokens", tensor, bytes.length / ELEMENT_BYTES[cache.exactType]);
    });
    for (const { rows, first, count } of [
      { rows: sinks, first: 0, count: cache.sinks },
      { rows: recent, first: cache.sinks, count: cache.recent },
    ]) {
      rows.makeRoom(count);
      const from = 4 * first * headDim;
      const strides = [kvHeads, headDim, held * headDim, headDim] as const;
      kernels.gatherRows(rows.keyPtr(rows.count), keysPtr + from, count, ...strides);
      kernels.gatherRows(rows.valuePtr(rows.count), valuesPtr + from, count, ...strides);
      rows.commit(count);
    }
  });
}

/** Rows one after the other as bytes of a tensor in `type`; ptrOf: their keys or values. */
export function exactBytes(
  runtime: Runtime,
  { kvHeads, headDim }: Geometry,
  type: ElementType,
  parts: ExactRows[],
  ptrOf: (rows: ExactRows) => number,
): Uint8Array {
  const held = parts.reduce((sum, rows) => sum + rows.count, 0);
  return runtime.heap.scratch((frame) => {
    const ptr = frame.reserve(4 * held * kvHeads * headDim);
    let first = 0;
    for (const rows of parts) {
      const to = ptr + 4 * first * headDim;
      if (rows.count > 0) {
        runtime.kernels.scatterRows(to, ptrOf(rows), rows.count, kvHeads, headDim, held * headDim, headDim);
      }
      first += rows.count;
    }
    return storeTensor(runtime, ptr, held * kvHeads * headDim, type);
  });
}
