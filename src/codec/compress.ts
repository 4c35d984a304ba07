/** A whole cache to codes. Key bits are allocated over all layers at once, so keys take two passes. */

import { breathe } from "../runtime/breathe.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { allocate, schedule } from "./allocation.ts";
import { spanFor } from "./anchors.ts";
import type { Basis } from "./basis.ts";
import type { CodedCache, CodedGroup, CodedLayer } from "./coded.ts";
import { checkGeometry, rowDim } from "./geometry.ts";
import { analyseKeys, type ChannelPlan, type CodedRange, encodeKeys, type KeyBasis } from "./key-codec.ts";
import { fisherOf, metricData, putMetric, weighsValues } from "./metric-data.ts";
import { type CodecOptions, checkOptions } from "./options.ts";
import { checkRotary } from "./rotary.ts";
import { type CacheSource, ELEMENT_BYTES, type ElementType, type TensorData } from "./source.ts";
import { commonStep } from "./steps.ts";
import { endsOfHeads, loadTensor } from "./tensors.ts";
import { allocateAllValues, analyseValues, encodeValues, type ValueBasis } from "./value-codec.ts";

export interface Progress {
  phase: "analyse keys" | "analyse values" | "encode keys" | "encode values" | "restore";
  layer: number;
  layerCount: number;
}

export interface WorkOptions {
  /** Called after each layer of each phase. */
  onProgress?: (progress: Progress) => void;
  /** Stops between layers; nothing is left behind. */
  signal?: AbortSignal;
}

/** Keys or values of one layer: codes of every head group, and the exact tokens as they came. */
export interface CodedTensor {
  groups: CodedGroup[];
  exact: Uint8Array;
  type: ElementType;
}

/**
 * Compresses `source`. Throws RangeError for options or tensors that make no sense (NaN, wrong sizes, fewer tokens than
 * sinks + recent + 1), CapacityError at the memory limit, and the signal's reason when stopped.
 */
export async function compress(
  runtime: Runtime,
  source: CacheSource,
  given: Partial<CodecOptions> = {},
  work: WorkOptions = {},
): Promise<CodedCache> {
  const checked = checkOptions(given);
  checkSource(source);
  const options = { ...checked, anchorSpan: spanFor(checked.anchorSpan, source.rotary) };
  const keys = await compressKeys(runtime, source, options, work);
  const values = await compressValues(runtime, source, options, work);
  return joinTensors(source, options, keys, values);
}

/** A cache of its coded keys and values; RangeError where they did not come in one type. */
export function joinTensors(
  source: CacheSource,
  options: CodecOptions,
  keys: CodedTensor[],
  values: CodedTensor[],
): CodedCache {
  const { tokens } = source;
  const layers = keys.map((key, layer) => {
    const value = values[layer];
    if (key.type !== keys[0].type || value.type !== keys[0].type) {
      throw new RangeError(
        `layer ${layer}: expected ${keys[0].type} throughout, got ${key.type} keys and ${value.type} values`,
      );
    }
    return { keys: key.groups, values: value.groups, exactKeys: key.exact, exactValues: value.exact };
  });
  return { ...codedCache(source, options, keys[0].type, layers), ...(tokens ? { tokens } : {}) };
}

/** A cache of coded layers, with what source and options say of it. */
export function codedCache(
  source: CacheSource,
  { sinks, recent, anchorSpan }: CodecOptions,
  exactType: ElementType,
  layers: CodedLayer[],
): CodedCache {
  const { geometry, rotary, layerNumbers, model, tokenCount } = source;
  return { geometry, rotary, layerNumbers, model, tokenCount, sinks, recent, exactType, anchorSpan, layers };
}

export function checkSource(source: CacheSource): void {
  checkGeometry(source.geometry);
  checkRotary(source.rotary, source.geometry.headDim);
}

/** Bases of the keys of every layer, of its head groups. */
export async function analyseAllKeys(
  runtime: Runtime,
  source: CacheSource,
  options: CodecOptions,
  work: WorkOptions = {},
): Promise<KeyBasis[][]> {
  const { geometry, rotary } = source;
  const range = rangeOf(source.tokenCount, options);
  return eachLayer(source, "analyse keys", work, async (layer) => {
    const [key, known] = [await source.key(layer), await metricData(source, layer, options)];
    return runtime.heap.scratch((frame) => {
      const keysPtr = loadTensor(runtime, frame, `layer ${layer} key`, key, range.tokens * rowDim(geometry));
      const metric = putMetric(runtime, frame, layer, known, source);
      return analyseKeys(runtime, geometry, rotary, options, range, keysPtr, metric);
    });
  });
}

/** Codes of the keys of every layer. */
export async function compressKeys(
  runtime: Runtime,
  source: CacheSource,
  options: CodecOptions,
  work: WorkOptions = {},
): Promise<CodedTensor[]> {
  const bases = await analyseAllKeys(runtime, source, options, work);
  return encodeAllKeys(runtime, source, options, bases, work);
}

/** Codes of the keys of every layer on bases that were found before, bits as the options say. */
export async function encodeAllKeys(
  runtime: Runtime,
  source: CacheSource,
  options: CodecOptions,
  bases: KeyBasis[][],
  work: WorkOptions = {},
): Promise<CodedTensor[]> {
  const { geometry, rotary } = source;
  const range = rangeOf(source.tokenCount, options);
  const plans = planKeys(bases, options, range.count);
  return eachLayer(source, "encode keys", work, async (layer) => {
    const key = await source.key(layer);
    return runtime.heap.scratch((frame) => {
      const keysPtr = loadTensor(runtime, frame, `layer ${layer} key`, key, range.tokens * rowDim(geometry));
      const groups = encodeKeys(runtime, geometry, rotary, options, range, keysPtr, bases[layer], plans[layer]);
      return { groups, exact: exactEnds(key, source, options), type: key.type };
    });
  });
}

/** Codes of the values of every layer. Where layers share bits or a step, values take two passes as keys do. */
export async function compressValues(
  runtime: Runtime,
  source: CacheSource,
  options: CodecOptions,
  work: WorkOptions = {},
): Promise<CodedTensor[]> {
  const isShared = options.entropy || weighsValues(source, options);
  const all = isShared ? await analyseAllValues(runtime, source, options, work) : undefined;
  return encodeAllValues(runtime, source, options, all, work);
}

/** Codes of the values of every layer on bases that were found before; a layer's are found in its turn where not. */
export async function encodeAllValues(
  runtime: Runtime,
  source: CacheSource,
  options: CodecOptions,
  all: ValueBasis[][] | undefined,
  work: WorkOptions = {},
): Promise<CodedTensor[]> {
  const { geometry } = source;
  const range = rangeOf(source.tokenCount, options);
  const plans = all && planValues(all, options, range.count);
  return eachLayer(source, "encode values", work, async (layer) => {
    const value = await source.value(layer);
    const groups = runtime.heap.scratch((frame) => {
      const valuesPtr = loadTensor(runtime, frame, `layer ${layer} value`, value, range.tokens * rowDim(geometry));
      const bases = all?.[layer] ?? analyseValues(runtime, geometry, options, range, valuesPtr);
      return encodeValues(runtime, geometry, options, range, valuesPtr, bases, plans?.[layer]);
    });
    return { groups, exact: exactEnds(value, source, options), type: value.type };
  });
}

/** Bases of the directions of the values of every layer, of its head groups. */
export async function analyseAllValues(
  runtime: Runtime,
  source: CacheSource,
  options: CodecOptions,
  work: WorkOptions = {},
): Promise<ValueBasis[][]> {
  const { geometry } = source;
  const range = rangeOf(source.tokenCount, options);
  return eachLayer(source, "analyse values", work, async (layer) => {
    const [value, fisher] = [await source.value(layer), await fisherOf(source, layer, options)];
    return runtime.heap.scratch((frame) => {
      const valuesPtr = loadTensor(runtime, frame, `layer ${layer} value`, value, range.tokens * rowDim(geometry));
      return analyseValues(runtime, geometry, options, range, valuesPtr, fisher?.values);
    });
  });
}

/** Results of every layer in turn, with progress, stopping where the signal says so. */
export async function eachLayer<T>(
  source: Pick<CacheSource, "geometry">,
  phase: Progress["phase"],
  work: WorkOptions,
  run: (layer: number) => Promise<T>,
): Promise<T[]> {
  const { layerCount } = source.geometry;
  const results: T[] = [];
  let turn = performance.now();
  for (let layer = 0; layer < layerCount; layer++) {
    turn = await breathe(turn, work.signal);
    work.signal?.throwIfAborted();
    results.push(await run(layer));
    work.onProgress?.({ phase, layer, layerCount });
  }
  return results;
}

function planKeys(bases: KeyBasis[][], options: CodecOptions, tokens: number): ChannelPlan[][] {
  if (options.entropy) return inSteps(bases, options.keyBits, tokens);
  return allocateKeys(bases, options).map((groups) => groups.map((widths) => ({ widths })));
}

function planValues(bases: ValueBasis[][], { entropy, valueBits }: CodecOptions, tokens: number): ChannelPlan[][] {
  if (entropy) return inSteps(bases, valueBits, tokens);
  const widths = allocateAllValues(
    bases.map((groups) => groups.map(({ basis }) => basis)),
    valueBits,
  );
  return widths.map((groups) => groups.map((own) => ({ widths: own })));
}

function inSteps(bases: { basis: Basis }[][], bits: number, tokens: number): ChannelPlan[][] {
  const all = bases.flat().map(({ basis }) => basis);
  const step = commonStep(all, bits, tokens);
  return bases.map((groups) => groups.map(() => ({ step })));
}

/** Bits of every channel of every group: over all layers at once, or the schedule of the paper in each. */
export function allocateKeys(bases: KeyBasis[][], options: CodecOptions): Uint8Array[][] {
  const all = bases.flat().map(({ basis }) => basis);
  const spectra = all.map(({ variance }) => variance);
  const dims = all.reduce((sum, basis) => sum + basis.dim, 0);
  const { schedule: widths, keyBits } = options;
  const flat = widths
    ? spectra.map((variance) => schedule(variance.length, widths))
    : allocate(spectra, Math.floor(keyBits * dims));
  let next = 0;
  return bases.map((groups) => groups.map(() => flat[next++]));
}

/** The tokens between sinks and recent. */
export function rangeOf(tokens: number, options: Pick<CodecOptions, "sinks" | "recent">): CodedRange {
  const least = options.sinks + options.recent + 1;
  if (!Number.isInteger(tokens) || tokens < least) {
    throw new RangeError(
      `tokens: expected at least ${least} (${options.sinks} sinks + ${options.recent} recent + 1 to code), got ${tokens}`,
    );
  }
  return { tokens, first: options.sinks, count: tokens - options.sinks - options.recent };
}

function exactEnds(tensor: TensorData, source: CacheSource, options: CodecOptions): Uint8Array {
  const tokenBytes = source.geometry.headDim * ELEMENT_BYTES[tensor.type];
  return endsOfHeads(tensor.bytes, source.geometry.kvHeads, options.sinks * tokenBytes, options.recent * tokenBytes);
}
