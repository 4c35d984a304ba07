/**
 * The codec and its peers on one real cache, side by side: every method turns the context's keys or values into bytes
 * and back, sinks and recent tokens exact; the continuation's queries then attend on the result. Names and measures
 * are those of the numpy description of the codec.
 */
import type { Baseline } from "../baselines/baseline.ts";
import { BASELINES, bitsPerElement } from "../baselines/index.ts";
import { bitsOf, bytesOf, totalBytes } from "../codec/bytes.ts";
import type { CodedLayer } from "../codec/coded.ts";
import {
  type CodedTensor,
  checkSource,
  codedCache,
  compressKeys,
  compressValues,
  rangeOf,
  type WorkOptions,
} from "../codec/compress.ts";
import { decodeKeys } from "../codec/key-codec.ts";
import { type CodecOptions, checkOptions } from "../codec/options.ts";
import type { CacheSource } from "../codec/source.ts";
import { decodeValues } from "../codec/value-codec.ts";
import type { Dump } from "../engines/dump.ts";
import { UnsupportedError } from "../errors.ts";
import { breathe } from "../runtime/breathe.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { type AttentionLayer, compareAttention, exactAttention } from "./metrics.ts";
import type { ComparisonRow } from "./report.ts";
import { loadF32, middleOf, widen } from "./tensors.ts";

/** A method to compare: the codec under some options, or a peer. */
export type Method =
  | { name: string; kind: "key" | "value"; options: Partial<CodecOptions> }
  | { name: string; kind: "key" | "value"; baseline: Baseline };

const codecKey = (grouping: "layer" | "head", anchorSpan: number | null, keyBits: number): Method => ({
  name: `K codec ${grouping} span ${anchorSpan ?? "None"} ${keyBits}`,
  kind: "key",
  options: { grouping, anchorSpan, keyBits, attentionWeights: false },
});

const paper = (schedule: number[]): Method => ({
  name: `K SVDq paper [${schedule.join(", ")}]`,
  kind: "key",
  options: { schedule, anchorSpan: 1 },
});

const codecValue = (grouping: "layer" | "head", valueBits: number): Method => ({
  name: `V codec ${grouping} ${valueBits}`,
  kind: "value",
  options: { grouping, valueBits },
});

const peers = (kind: "key" | "value"): Method[] =>
  BASELINES.filter((baseline) => baseline.kind === kind).map((baseline) => ({ name: baseline.name, kind, baseline }));

/** Every row of the numpy table, and what it lacks: the defaults (attention weights), ggml's formats. */
export const METHODS: Method[] = [
  paper([8, 4, 2, 1, 1, 0, 0, 0]),
  paper([4, 4, 2, 0, 0, 0, 0, 0]),
  codecKey("layer", 1, 2),
  codecKey("layer", 1, 1.25),
  codecKey("layer", 1, 0.75),
  codecKey("layer", 32, 1.25),
  codecKey("layer", 256, 1.25),
  codecKey("layer", null, 1.25),
  codecKey("head", 256, 2),
  codecKey("head", 256, 1.25),
  codecKey("head", null, 1.25),
  {
    name: "K codec layer span 1 no query metric 1.25",
    kind: "key",
    options: { anchorSpan: 1, metric: false, attentionWeights: false },
  },
  { name: "K codec layer span 1 1.25, defaults", kind: "key", options: {} },
  ...peers("key"),
  ...[2, 1.5, 1, 0.5].flatMap((bits) => [codecValue("layer", bits), codecValue("head", bits)]),
  ...peers("value"),
];

/** A method after its work: what it costs, and how to get a layer back. */
interface Prepared {
  method: Method;
  bits: number;
  bitsWithBasis: number;
  bytes: number;
  seconds: number;
  /** Overwrites the coded tokens of tensor (kvHeads, tokens, headDim). */
  decode(layer: number, tensor: Float32Array): void;
}

export interface CompareOptions extends WorkOptions {
  sinks?: number;
  recent?: number;
  onMethod?: (done: number, of: number, name: string) => void;
}

/**
 * Rows of `methods` on one dump. `context` holds the tokens to compress, `all` the same cache with the continuation
 * behind them; its queries at the continuation are those that attend.
 */
export async function compareMethods(
  runtime: Runtime,
  context: Dump,
  all: Dump,
  methods: Method[],
  options: CompareOptions = {},
): Promise<ComparisonRow[]> {
  checkSource(context);
  const prepared: Prepared[] = [];
  for (const [i, method] of methods.entries()) {
    prepared.push(await prepare(runtime, context, method, options));
    options.onMethod?.(i + 1, methods.length, method.name);
  }
  const sums = prepared.map(() => ({ attentionKl: 0, outputError: 0 }));
  const { layerCount } = context.geometry;
  let turn = performance.now();
  for (let layer = 0; layer < layerCount; layer++) {
    options.signal?.throwIfAborted();
    const attention = await attentionLayer(runtime, context, all, layer);
    const exact = exactAttention(runtime, attention);
    for (const [i, one] of prepared.entries()) {
      turn = await breathe(turn, options.signal);
      const which = one.method.kind === "key" ? "keys" : "values";
      const replaced = attention[which].slice();
      one.seconds += timed(() => replaceContext(replaced, attention, context, one, layer));
      const difference = compareAttention(runtime, exact, { [which]: replaced });
      sums[i].attentionKl += difference.attentionKl / layerCount;
      sums[i].outputError += difference.outputError / layerCount;
    }
    options.onProgress?.({ phase: "restore", layer, layerCount });
  }
  return prepared.map(({ method, bits, bitsWithBasis, bytes, seconds }, i) => ({
    method: method.name,
    kind: method.kind,
    bits,
    bitsWithBasis,
    ...sums[i],
    bytes,
    seconds,
  }));
}

/** Takes the context out of the long tensor, decodes over it, puts it back. */
function replaceContext(
  long: Float32Array,
  attention: AttentionLayer,
  context: CacheSource,
  one: Prepared,
  layer: number,
): void {
  const { kvHeads, headDim } = attention;
  const [longHead, contextHead] = [attention.tokens * headDim, context.tokenCount * headDim];
  const tensor = new Float32Array(kvHeads * contextHead);
  for (let h = 0; h < kvHeads; h++)
    tensor.set(long.subarray(h * longHead, h * longHead + contextHead), h * contextHead);
  one.decode(layer, tensor);
  for (let h = 0; h < kvHeads; h++) long.set(tensor.subarray(h * contextHead, (h + 1) * contextHead), h * longHead);
}

async function prepare(
  runtime: Runtime,
  source: CacheSource,
  method: Method,
  options: CompareOptions,
): Promise<Prepared> {
  const ends = { sinks: options.sinks ?? 4, recent: options.recent ?? 64 };
  return "baseline" in method
    ? prepareBaseline(runtime, source, method, method.baseline, ends)
    : prepareCodec(runtime, source, method, checkOptions({ ...method.options, ...ends }), options);
}

async function prepareCodec(
  runtime: Runtime,
  source: CacheSource,
  method: Method,
  options: CodecOptions,
  work: WorkOptions,
): Promise<Prepared> {
  const start = performance.now();
  const isKey = method.kind === "key";
  const tensors = await (isKey ? compressKeys : compressValues)(runtime, source, options, pick(work));
  const seconds = (performance.now() - start) / 1000;
  const cache = codedCache(source, options, tensors[0].type, layersOf(tensors, isKey));
  const kind = bytesOf(cache)[isKey ? "keys" : "values"];
  const range = rangeOf(source.tokenCount, options);
  return {
    method,
    seconds,
    ...bitsOf(kind, cache),
    bytes: totalBytes(kind),
    decode: (layer, tensor) =>
      runtime.heap.scratch((frame) => {
        const ptr = frame.reserve(tensor.byteLength);
        runtime.heap.f32(ptr, tensor.length).set(tensor);
        for (const group of tensors[layer].groups) {
          if (isKey) decodeKeys(runtime, source.geometry, source.rotary, options.anchorSpan, range, ptr, group);
          else decodeValues(runtime, source.geometry, range, ptr, group);
        }
        tensor.set(runtime.heap.f32(ptr, tensor.length));
      }),
  };
}

const pick = ({ signal }: WorkOptions): WorkOptions => (signal ? { signal } : {});

/** Layers of keys or of values alone, for counting. */
function layersOf(tensors: CodedTensor[], isKey: boolean): CodedLayer[] {
  const none = new Uint8Array(0);
  return tensors.map(({ groups, exact }) =>
    isKey
      ? { keys: groups, values: [], exactKeys: exact, exactValues: none }
      : { keys: [], values: groups, exactKeys: none, exactValues: exact },
  );
}

/** Peers code the same tokens, each head alone, as they lie in the engine. */
async function prepareBaseline(
  runtime: Runtime,
  source: CacheSource,
  method: Method,
  baseline: Baseline,
  ends: { sinks: number; recent: number },
): Promise<Prepared> {
  const { kvHeads: heads, headDim, layerCount } = source.geometry;
  const range = rangeOf(source.tokenCount, ends);
  const shape = { heads, tokens: range.count, headDim };
  const coded: Uint8Array[] = [];
  let seconds = 0;
  let exactBytes = 0;
  for (let layer = 0; layer < layerCount; layer++) {
    const tensor = await (method.kind === "key" ? source.key(layer) : source.value(layer));
    const values = middleOf(loadF32(runtime, tensor, source), heads, headDim, range);
    seconds += timed(() => coded.push(baseline.encode(values, shape)));
    exactBytes += (tensor.bytes.length / range.tokens) * (range.tokens - range.count);
  }
  const bits = coded.reduce((sum, bytes) => sum + bitsPerElement(bytes, shape), 0) / layerCount;
  return {
    method,
    bits,
    bitsWithBasis: bits,
    seconds,
    bytes: coded.reduce((sum, bytes) => sum + bytes.length, exactBytes),
    decode(layer, tensor) {
      const decoded = baseline.decode(coded[layer], shape);
      const size = range.count * headDim;
      for (let h = 0; h < heads; h++) {
        tensor.set(decoded.subarray(h * size, (h + 1) * size), (h * range.tokens + range.first) * headDim);
      }
    },
  };
}

/** Exact tensors of a layer with the continuation, and the queries of the continuation. */
async function attentionLayer(runtime: Runtime, context: Dump, all: Dump, layer: number): Promise<AttentionLayer> {
  const query = await all.queryTensor(layer);
  const skipped = query ? context.tokenCount - query.firstToken : 0;
  if (!query || skipped < 0 || skipped >= query.count) {
    throw new UnsupportedError(
      `compare needs queries after token ${context.tokenCount} in the dump, got ${query ? `tokens ${query.firstToken} to ${query.firstToken + query.count - 1}` : "none"}`,
    );
  }
  const { kvHeads, headDim } = context.geometry;
  const { queryHeads } = query;
  const queries = widen(runtime, `layer ${layer} query`, query, queryHeads * query.count * headDim);
  const count = query.count - skipped;
  const range = { tokens: query.count, first: skipped, count };
  return {
    queries: middleOf(queries, queryHeads, headDim, range),
    queryHeads,
    count,
    firstToken: context.tokenCount,
    keys: loadF32(runtime, await all.key(layer), all),
    values: loadF32(runtime, await all.value(layer), all),
    kvHeads,
    tokens: all.tokenCount,
    headDim,
  };
}

function timed(work: () => void): number {
  const start = performance.now();
  work();
  return (performance.now() - start) / 1000;
}
