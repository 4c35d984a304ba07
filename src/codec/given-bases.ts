/**
 * Codes on bases that a profile holds, calibrated on other texts (cache/profile.ts): no eigenvectors are looked for. The
 * cache's own are the centre of its keys, what each channel is worth, and so its bits and books.
 */
import { MismatchError } from "../errors.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Basis } from "./basis.ts";
import { basisRows, pickRows } from "./basis-codes.ts";
import type { CodedBasis, CodedCache, CodedGroup } from "./coded.ts";
import {
  checkSource,
  eachLayer,
  encodeAllKeys,
  encodeAllValues,
  joinTensors,
  rangeOf,
  type WorkOptions,
} from "./compress.ts";
import { directionRoots } from "./fisher.ts";
import { rowDim } from "./geometry.ts";
import { latentSquares } from "./group-codec.ts";
import { fromHalf } from "./half.ts";
import { anchoredRows, type CodedRange, centreOf, type KeyBasis } from "./key-codec.ts";
import { type KeyMetric, metricRoots } from "./metric.ts";
import { metricData, putMetric } from "./metric-data.ts";
import { type CodecOptions, checkOptions } from "./options.ts";
import type { CacheSource } from "./source.ts";
import { loadTensor, putF32 } from "./tensors.ts";
import { directionsOf, type ValueBasis } from "./value-codec.ts";

/** What the bases settle, and what has no place beside them. */
export type GivenBasesOptions = Omit<
  CodecOptions,
  "grouping" | "anchorSpan" | "schedule" | "basisBits" | "attentionWeights"
>;

/**
 * Compresses `source` on the bases of `profile`, a cache without tokens of the same model. Bits are shared among the
 * channels that the profile holds. Throws as `compress` does, and a MismatchError where the profile is of another model.
 */
export async function compressOnBases(
  runtime: Runtime,
  source: CacheSource,
  profile: CodedCache,
  given: Partial<GivenBasesOptions> = {},
  work: WorkOptions = {},
): Promise<CodedCache> {
  checkSource(source);
  const layers = layersFor(source, profile);
  const options = { ...checkOptions(given), anchorSpan: profile.anchorSpan };
  const range = rangeOf(source.tokenCount, options);
  const analysed = await eachLayer(source, "analyse keys", work, async (layer) => {
    const [key, value] = [await source.key(layer), await source.value(layer)];
    const known = await metricData(source, layer, { ...options, attentionWeights: false });
    return runtime.heap.scratch((frame): { keys: KeyBasis[]; values: ValueBasis[] } => {
      const elements = range.tokens * rowDim(source.geometry);
      const keysPtr = loadTensor(runtime, frame, `layer ${layer} key`, key, elements);
      const metric = putMetric(runtime, frame, layer, known, source);
      const keys = keyBasesOn(runtime, source, layers[layer].keys, options, range, keysPtr, metric);
      const valuesPtr = loadTensor(runtime, frame, `layer ${layer} value`, value, elements);
      const fisher = known && "fisher" in known ? known.fisher.values : undefined;
      const values = valueBasesOn(runtime, source, layers[layer].values, range, valuesPtr, fisher);
      return { keys, values };
    });
  });
  const [keyBases, valueBases] = [analysed.map(({ keys }) => keys), analysed.map(({ values }) => values)];
  const keys = await encodeAllKeys(runtime, source, options, keyBases, work);
  const values = await encodeAllValues(runtime, source, options, valueBases, work);
  return joinTensors(source, options, keys, values);
}

/** The profile's layer of each layer of the source. */
function layersFor({ geometry, layerNumbers, rotary, model }: CacheSource, profile: CodedCache) {
  const expect = (what: string, expected: string, got: string): void => {
    if (expected !== got) throw new MismatchError(`profile: expected ${what} ${expected} as the cache has, got ${got}`);
  };
  const shape = (of: { kvHeads: number; headDim: number }) => `${of.kvHeads} kv heads of ${of.headDim}`;
  expect("bases of", shape(geometry), shape(profile.geometry));
  expect("rotary layout", rotary.layout, profile.rotary.layout);
  expect("rotary frequencies", rotary.frequencies.join(" "), profile.rotary.frequencies.join(" "));
  if (model && profile.model) expect("model", model, profile.model);
  return layerNumbers.map((number) => {
    const at = profile.layerNumbers.indexOf(number);
    if (at < 0) throw new MismatchError(`profile: expected bases of layer ${number}, got none`);
    return profile.layers[at];
  });
}

function keyBasesOn(
  runtime: Runtime,
  { geometry, rotary }: CacheSource,
  groups: CodedGroup[],
  { anchorSpan }: CodecOptions,
  range: CodedRange,
  keysPtr: number,
  metric: KeyMetric | undefined,
): KeyBasis[] {
  const { heap } = runtime;
  const { kvHeads, headDim } = geometry;
  return groups.map(({ firstHead, headCount, basis }) =>
    heap.scratch((frame) => {
      const group = { firstHead, headCount };
      const dim = headCount * headDim;
      const rowsPtr = anchoredRows(runtime, frame, geometry, rotary, anchorSpan, range, keysPtr, group);
      const centre = centreOf(runtime, frame, rowsPtr, 0, range.count, dim);
      const centrePtr = putF32(heap, frame, Float32Array.from(centre, fromHalf));
      const roots =
        metric && metricRoots(runtime, metric, group, kvHeads, headDim, rotary, anchorSpan).map(({ root }) => root);
      return {
        ...group,
        basis: basisOn(runtime, basis, { rowsPtr, rowCount: range.count, centrePtr }, dim, roots),
        centre,
      };
    }),
  );
}

function valueBasesOn(
  runtime: Runtime,
  { geometry }: CacheSource,
  groups: CodedGroup[],
  range: CodedRange,
  valuesPtr: number,
  fisher: Float32Array | undefined,
): ValueBasis[] {
  return groups.map(({ firstHead, headCount, basis }) =>
    runtime.heap.scratch((frame) => {
      const group = { firstHead, headCount };
      const { rowsPtr, dim, norms } = directionsOf(runtime, frame, geometry, range, valuesPtr, group);
      const metric = fisher && directionRoots(runtime, frame, fisher, group, geometry.headDim, norms);
      const roots = metric?.map(({ root }) => root);
      return { ...group, basis: basisOn(runtime, basis, { rowsPtr, rowCount: range.count, centrePtr: 0 }, dim, roots) };
    }),
  );
}

/** The rows of a coded basis, the channels that matter most to these rows first. */
function basisOn(
  runtime: Runtime,
  coded: CodedBasis,
  rows: { rowsPtr: number; rowCount: number; centrePtr: number },
  dim: number,
  roots?: Float64Array[],
): Basis {
  const rank = coded.widths.length;
  const none = new Float64Array(0);
  const given = { dim, rank, variance: none, energy: 0, ...(roots && { roots }) };
  const squares = latentSquares(runtime, { ...rows, basis: { ...given, synthesis: basisRows(coded, dim) } });
  const order = Array.from(squares.keys()).sort((a, b) => squares[b] - squares[a] || a - b);
  const sorted = pickRows(coded, order, dim);
  return {
    ...given,
    variance: Float64Array.from(order, (channel) => squares[channel]),
    energy: squares.reduce((a, b) => a + b, 0),
    synthesis: basisRows(sorted, dim),
    coded: sorted,
  };
}
