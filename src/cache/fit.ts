/** A basis for a layer from the tokens that it holds exact, and those tokens as codes: the codec on one layer. */
import type { CodedGroup } from "../codec/coded.ts";
import { allocateKeys } from "../codec/compress.ts";
import type { Geometry } from "../codec/geometry.ts";
import { analyseKeys, type CodedRange, encodeKeys } from "../codec/key-codec.ts";
import type { LayerQueries } from "../codec/metric.ts";
import type { CodecOptions } from "../codec/options.ts";
import { bitsForKl } from "../codec/predicted-kl.ts";
import type { Rotary } from "../codec/rotary.ts";
import { putF32 } from "../codec/tensors.ts";
import { encodeValues } from "../codec/value-codec.ts";
import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { ExactRows } from "./exact-rows.ts";
import type { QueryLog } from "./query-log.ts";

interface FitPlace {
  runtime: Runtime;
  geometry: Geometry;
  rotary: Rotary;
  options: CodecOptions;
  /** Attention KL that the keys' bits are chosen for, or null for `keyBits`. */
  target: number | null;
}

/** Codes of the first `count` rows of `recent`, which follow the sinks. */
export function fitLayer(
  { runtime, geometry, rotary, options, target }: FitPlace,
  sinks: ExactRows,
  recent: ExactRows,
  count: number,
  log: QueryLog,
): { keys: CodedGroup[]; values: CodedGroup[] } {
  const range: CodedRange = { tokens: sinks.count + recent.count, first: sinks.count, count };
  return runtime.heap.scratch((frame) => {
    const keysPtr = tensorOf(runtime, frame, geometry, sinks, recent, (rows) => rows.keyPtr(0));
    const queries = putQueries(runtime, frame, geometry, log);
    const bases = analyseKeys(runtime, geometry, rotary, options, range, keysPtr, queries);
    const keyBits = target !== null && queries ? bitsForKl(bases, geometry.headDim, target) : options.keyBits;
    const [widths] = allocateKeys([bases], { ...options, keyBits });
    const keys = encodeKeys(runtime, geometry, rotary, options, range, keysPtr, bases, widths);
    const valuesPtr = tensorOf(runtime, frame, geometry, sinks, recent, (rows) => rows.valuePtr(0));
    return { keys, values: encodeValues(runtime, geometry, options, range, valuesPtr) };
  });
}

/** Address of (kvHeads, tokens, headDim) f32: sinks, then recent tokens. */
function tensorOf(
  { kernels }: Runtime,
  frame: Frame,
  { kvHeads, headDim }: Geometry,
  sinks: ExactRows,
  recent: ExactRows,
  ptrOf: (rows: ExactRows) => number,
): number {
  const tokens = sinks.count + recent.count;
  const ptr = frame.reserve(4 * tokens * kvHeads * headDim);
  let first = 0;
  for (const rows of [sinks, recent]) {
    const to = ptr + 4 * first * headDim;
    if (rows.count > 0) {
      kernels.scatterRows(to, ptrOf(rows), rows.count, kvHeads, headDim, tokens * headDim, headDim);
    }
    first += rows.count;
  }
  return ptr;
}

function putQueries({ heap }: Runtime, frame: Frame, { headDim }: Geometry, log: QueryLog): LayerQueries | undefined {
  if (log.count === 0) return undefined;
  const { queries, queryHeads } = log.tensor(headDim);
  return { ptr: putF32(heap, frame, queries), queryHeads, count: log.count, firstToken: log.firstToken };
}
