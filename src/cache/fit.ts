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
import { analyseValues, encodeValues } from "../codec/value-codec.ts";
import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { ExactRows } from "./exact-rows.ts";
import type { QueryLog } from "./query-log.ts";
import type { Refitted } from "./refit.ts";

interface FitPlace {
  runtime: Runtime;
  geometry: Geometry;
  rotary: Rotary;
  options: CodecOptions;
  /** Attention KL that the keys' bits are chosen for, or null for `keyBits`. */
  target: number | null;
}

/** Codes of the first `count` rows of `recent`, which follow the sinks; in steps, as a refit is (refit.ts). */
export function* fitSteps(
  { runtime, geometry, rotary, options, target }: FitPlace,
  sinks: ExactRows,
  recent: ExactRows,
  count: number,
  log: QueryLog,
): Generator<undefined, Refitted> {
  // More tokens may come in behind the first `held` while the steps are taken.
  const held = sinks.count + recent.count;
  const range: CodedRange = { tokens: held, first: sinks.count, count };
  const withKeys = <T>(work: (keysPtr: number, frame: Frame) => T): T =>
    runtime.heap.scratch((frame) =>
      work(
        tensorOf(runtime, frame, geometry, sinks, recent, held, (rows) => rows.keyPtr(0)),
        frame,
      ),
    );
  const [bases, keyBits] = withKeys((keysPtr, frame) => {
    const queries = putQueries(runtime, frame, geometry, log);
    const found = analyseKeys(runtime, geometry, rotary, options, range, keysPtr, queries);
    const chosen = target !== null && queries ? bitsForKl(found, geometry.headDim, target) : options.keyBits;
    return [found, chosen] as const;
  });
  yield;
  const [widths] = allocateKeys([bases], { ...options, keyBits });
  const keys: CodedGroup[] = [];
  for (const [i, basis] of bases.entries()) {
    const plan = { widths: widths[i] };
    keys.push(...withKeys((ptr) => encodeKeys(runtime, geometry, rotary, options, range, ptr, [basis], [plan])));
    yield;
  }
  const withValues = <T>(work: (valuesPtr: number) => T): T =>
    runtime.heap.scratch((frame) =>
      work(tensorOf(runtime, frame, geometry, sinks, recent, held, (rows) => rows.valuePtr(0))),
    );
  const found = withValues((ptr) => analyseValues(runtime, geometry, options, range, ptr));
  yield;
  const values = withValues((ptr) => encodeValues(runtime, geometry, options, range, ptr, found));
  return { keys, values };
}

/** Address of (kvHeads, tokens, headDim) f32: the first `tokens` of sinks, then recent tokens. */
function tensorOf(
  { kernels }: Runtime,
  frame: Frame,
  { kvHeads, headDim }: Geometry,
  sinks: ExactRows,
  recent: ExactRows,
  tokens: number,
  ptrOf: (rows: ExactRows) => number,
): number {
  const ptr = frame.reserve(4 * tokens * kvHeads * headDim);
  let first = 0;
  for (const rows of [sinks, recent]) {
    const to = ptr + 4 * first * headDim;
    const count = Math.min(rows.count, tokens - first);
    if (count > 0) {
      kernels.scatterRows(to, ptrOf(rows), count, kvHeads, headDim, tokens * headDim, headDim);
    }
    first += count;
  }
  return ptr;
}

function putQueries({ heap }: Runtime, frame: Frame, { headDim }: Geometry, log: QueryLog): LayerQueries | undefined {
  if (log.count === 0) return undefined;
  const { queries, queryHeads } = log.tensor(headDim);
  return { ptr: putF32(heap, frame, queries), queryHeads, count: log.count, firstToken: log.firstToken };
}
