/**
 * Methods on the state of a sequence: keys and values of the tokens between sinks and recent ones to bytes and back,
 * and a state file that holds what came back. The tokens at both ends stay as they are, bit for bit, in every method.
 */
import { withoutRows } from "../../archive/profile-rows.ts";
import type { Baseline } from "../../baselines/baseline.ts";
import { BASELINES } from "../../baselines/index.ts";
import { bitsOf, bytesOf } from "../../codec/bytes.ts";
import { choicesOf, chooseForKl } from "../../codec/choose.ts";
import type { CodedCache } from "../../codec/coded.ts";
import { codedCache, compress, compressKeys, rangeOf, type WorkOptions } from "../../codec/compress.ts";
import { rowDim } from "../../codec/geometry.ts";
import { compressOnBases } from "../../codec/given-bases.ts";
import { type CodecOptions, checkOptions } from "../../codec/options.ts";
import { type RestoredLayer, restoreLayer } from "../../codec/restore.ts";
import { type CacheSource, ELEMENT_BYTES, type TensorData } from "../../codec/source.ts";
import { spectraOf } from "../../codec/spectra.ts";
import { endsOfHeads, storeTensor } from "../../codec/tensors.ts";
import type { GgufModel } from "../../engines/gguf-model.ts";
import { llamaStateOf, sourceOfLlamaState } from "../../engines/llama-cpp.ts";
import type { LlamaSkeleton, LlamaState } from "../../engines/llama-state.ts";
import { type ModelProfile, withProfile } from "../../engines/profile.ts";
import type { Runtime } from "../../runtime/runtime.ts";
import { loadF32, middleOf } from "../tensors.ts";
import { rounding } from "./floor.ts";

/** Tokens that every method leaves exact. */
export const ENDS = { sinks: 4, recent: 64 };

export interface Restored {
  /** Of an element of the coded tokens, keys and values together: what grows with tokens, and everything. */
  bits: number;
  bitsWithBasis: number;
  /** A state file to load. */
  file: Uint8Array;
}

export interface EvalMethod {
  name: string;
  apply(runtime: Runtime, state: LlamaState, source: CacheSource, work: WorkOptions): Promise<Restored>;
}

/** A parsed state with its cache; MismatchError where it is not of the model, or the profile is not. */
export function cacheOf(state: LlamaState, model: GgufModel, profile?: ModelProfile): CacheSource {
  const source = sourceOfLlamaState(state, model);
  return profile ? withProfile(source, profile) : source;
}

const ours = (family: string, keyBits: number, valueBits: number, options: Partial<CodecOptions>): EvalMethod => ({
  name: `${family} K ${keyBits} V ${valueBits}`,
  apply: codec({ keyBits, valueBits, ...options }),
});

/** The paper codes keys alone, which `valueBits` of EXACT_BITS repeats. */
const paper = (schedule: number[], valueBits: number): EvalMethod => ({
  name: `SVDq paper [${schedule.join(", ")}] V ${valueBits}`,
  apply: codec({ schedule, anchorSpan: 1, valueBits }),
});

/** A peer on keys and on values. */
const pair = (key: Baseline, value: Baseline): EvalMethod => ({ name: key.name.slice(2), apply: peer(key, value) });

const peers = (): EvalMethod[] => {
  const [keys, values] = (["key", "value"] as const).map((kind) => BASELINES.filter((one) => one.kind === kind));
  return keys.map((key, i) => pair(key, values[i]));
};

/** Settings of one codec, which a chart joins by a line; undefined for a peer. */
export const familyOf = (name: string): string | undefined => /^(codec .*) (?:K [\d.]+ V|KL) [\d.e-]+$/.exec(name)?.[1];

/** Values of so many bits are not coded: what a state in f16 holds. */
export const EXACT_BITS = 16;

/** Mean bits of an element. */
export interface BitPair {
  keyBits: number;
  /** Or EXACT_BITS. */
  valueBits: number;
}

export const FLOOR: EvalMethod = pair(rounding("key"), rounding("value"));
export const WINDOW = "window only";
export const EVICT = "evict middle";

const DEFAULT_FAMILY = "codec layer span 1";
const DEFAULT_PAIRS: BitPair[] = [
  { keyBits: 0.5, valueBits: 0.75 },
  { keyBits: 0.75, valueBits: 1 },
  { keyBits: 1.25, valueBits: 2 },
  { keyBits: 2, valueBits: 3 },
];

/** The codec with the bits that it chooses itself for each cache; UnsupportedError without Fisher information. */
const forTarget = (target: number, entropy: boolean): EvalMethod => ({
  name: `codec ${entropy ? "entropy " : ""}chosen for KL ${target}`,
  async apply(runtime, state, source, work) {
    const options = checkOptions({ ...ENDS, entropy });
    const spectra = await spectraOf(runtime, source, { ...options, keyBits: 4, valueBits: 4 }, work);
    const coded = rangeOf(source.tokenCount, ENDS).count;
    const { keyBits, valueBits } = chooseForKl(choicesOf(spectra, options, coded), target);
    return codec({ keyBits, valueBits, entropy })(runtime, state, source, work);
  },
});

/** The codec on the bases of a profile, in planes and at entropy: channels are the profile's, bits the cache's own. */
export const methodsOnBases = (bases: CodedCache, pairs: BitPair[] = [{ keyBits: 1.25, valueBits: 2 }]): EvalMethod[] =>
  [false, true].flatMap((entropy) =>
    pairs.map(({ keyBits, valueBits }) => ({
      name: `codec ${entropy ? "entropy " : ""}on the profile's bases K ${keyBits} V ${valueBits}`,
      async apply(runtime, state, source, work): Promise<Restored> {
        const given = { keyBits, valueBits, entropy, ...ENDS };
        const cache = await compressOnBases(runtime, source, bases, given, work);
        return restored(runtime, state, source, cache, withoutRows(cache, bases));
      },
    })),
  );

/** In planes and at entropy. */
export const forTargets = (targets: number[]): EvalMethod[] =>
  [false, true].flatMap((entropy) => targets.map((target) => forTarget(target, entropy)));

const PAPER_VALUE_BITS = [2];

/** In the order of the table, with the codec at these settings; the floor comes first whatever is chosen. */
export const methodsWith = (
  pairs: BitPair[],
  others: EvalMethod[] = [],
  paperValueBits: number[] = PAPER_VALUE_BITS,
): EvalMethod[] => [
  FLOOR,
  { name: WINDOW, apply: without(0, 1) },
  { name: EVICT, apply: without(1 / 4, 3 / 4) },
  ...pairs.map(({ keyBits, valueBits }) => ours(DEFAULT_FAMILY, keyBits, valueBits, {})),
  ...others,
  ...paperValueBits.flatMap((bits) => [paper([8, 4, 2, 1, 1, 0, 0, 0], bits), paper([4, 4, 2, 0, 0, 0, 0, 0], bits)]),
  ...peers(),
];

const ENTROPY_FAMILY = "codec entropy span 1";
const ENTROPY_PAIRS: BitPair[] = [
  { keyBits: 0.5, valueBits: 0.75 },
  { keyBits: 0.75, valueBits: 1.25 },
  { keyBits: 1.25, valueBits: 1.75 },
];

const atEntropy = ({ keyBits, valueBits }: BitPair): EvalMethod =>
  ours(ENTROPY_FAMILY, keyBits, valueBits, { entropy: true });

/** The codec at settings of the user's, in planes and at entropy, and the paper's keys beside the same values. */
export const methodsAt = (pairs: BitPair[]): EvalMethod[] =>
  methodsWith(pairs, pairs.map(atEntropy), [...new Set(pairs.map(({ valueBits }) => valueBits))]);

export const EVAL_METHODS: EvalMethod[] = methodsWith(DEFAULT_PAIRS, [
  ...ENTROPY_PAIRS.map(atEntropy),
  ours("codec layer span 256", 1.25, 2, { anchorSpan: 256 }),
  ours("codec head span 1", 1.25, 2, { grouping: "head" }),
]);

function codec({
  valueBits,
  ...options
}: Partial<CodecOptions> & Pick<CodecOptions, "valueBits">): EvalMethod["apply"] {
  const exact = valueBits === EXACT_BITS;
  return async (runtime, state, source, work) => {
    const given = { ...options, ...ENDS };
    const cache = await (exact
      ? compressKeysAlone(runtime, source, given, work)
      : compress(runtime, source, { ...given, valueBits }, work));
    return restored(runtime, state, source, cache, cache, exact ? await exactLayers(source) : undefined);
  };
}

/** The state with what `cache` restores, or with values as they are in `exact`; bits are those of what is `stored`. */
function restored(
  runtime: Runtime,
  state: LlamaState,
  { geometry }: CacheSource,
  cache: CodedCache,
  stored: CodedCache,
  exact?: RestoredLayer[],
): Restored {
  const bytes = bytesOf(stored);
  const keys = bitsOf(bytes.keys, stored);
  const asTheyAre = 8 * ELEMENT_BYTES[state.type];
  const values = exact ? { bits: asTheyAre, bitsWithBasis: asTheyAre } : bitsOf(bytes.values, stored);
  return {
    bits: (keys.bits + values.bits) / 2,
    bitsWithBasis: (keys.bitsWithBasis + values.bitsWithBasis) / 2,
    file: llamaStateOf(state, geometry, state.type, (layer) => {
      const own = restoreLayer(runtime, cache, layer, state.type);
      return exact ? { ...own, value: exact[layer].value } : own;
    }),
  };
}

/** Without codes of values; their exact tokens are not worth keeping either. */
async function compressKeysAlone(
  runtime: Runtime,
  source: CacheSource,
  given: Partial<CodecOptions>,
  work: WorkOptions,
): Promise<CodedCache> {
  const options = checkOptions(given);
  const keys = await compressKeys(runtime, source, options, work);
  const layers = keys.map(({ groups, exact }) => ({
    ...{ keys: groups, values: [] },
    ...{ exactKeys: exact, exactValues: exact },
  }));
  return codedCache(source, options, keys[0].type, layers);
}

/** All layers as they are, in the type of the source. */
function exactLayers(source: CacheSource): Promise<RestoredLayer[]> {
  const layers = Array.from({ length: source.geometry.layerCount }, async (_, layer) => ({
    key: (await source.key(layer)).bytes,
    value: (await source.value(layer)).bytes,
  }));
  return Promise.all(layers);
}

function peer(key: Baseline, value: Baseline): EvalMethod["apply"] {
  return async (runtime, state, source, { signal }) => {
    const { geometry, tokenCount } = source;
    const layers: { key: Uint8Array; value: Uint8Array }[] = [];
    let codedBytes = 0;
    const through = (baseline: Baseline, tensor: TensorData): Uint8Array => {
      const { bytes, coded } = throughPeer(runtime, source, tensor, baseline);
      codedBytes += coded.length;
      return bytes;
    };
    for (let layer = 0; layer < geometry.layerCount; layer++) {
      signal?.throwIfAborted();
      layers.push({
        key: through(key, await source.key(layer)),
        value: through(value, await source.value(layer)),
      });
    }
    const elements = 2 * geometry.layerCount * rangeOf(tokenCount, ENDS).count * rowDim(geometry);
    const bits = (8 * codedBytes) / elements;
    return { bits, bitsWithBasis: bits, file: llamaStateOf(state, geometry, state.type, (layer) => layers[layer]) };
  };
}

/** A tensor (kvHeads, tokenCount, headDim) through a peer's bytes; the ends are copied as bytes. */
function throughPeer(runtime: Runtime, source: CacheSource, tensor: TensorData, baseline: Baseline) {
  const { kvHeads: heads, headDim } = source.geometry;
  const range = rangeOf(source.tokenCount, ENDS);
  const shape = { heads, tokens: range.count, headDim };
  const coded = baseline.encode(middleOf(loadF32(runtime, tensor, source), heads, headDim, range), shape);
  const decoded = baseline.decode(coded, shape);
  const middle = runtime.heap.scratch((frame) => {
    const ptr = frame.reserve(decoded.byteLength);
    runtime.heap.f32(ptr, decoded.length).set(decoded);
    return storeTensor(runtime, ptr, decoded.length, tensor.type);
  });
  const bytes = tensor.bytes.slice();
  const rowBytes = headDim * ELEMENT_BYTES[tensor.type];
  const middleBytes = range.count * rowBytes;
  for (let h = 0; h < heads; h++) {
    const to = (h * range.tokens + range.first) * rowBytes;
    bytes.set(middle.subarray(h * middleBytes, (h + 1) * middleBytes), to);
  }
  return { bytes, coded };
}

/**
 * A cache without part of its coded tokens, `from` to `to` of their count. Without all of them it shows what the far
 * context is worth on this text, beside which every divergence is to be read.
 */
function without(from: number, to: number): EvalMethod["apply"] {
  return async (_runtime, state, source) => {
    const { geometry } = source;
    const { first, count } = rangeOf(source.tokenCount, ENDS);
    const [start, end] = [first + Math.floor(from * count), first + Math.floor(to * count)];
    const kept = (_: number, cell: number): boolean => cell < start || cell >= end;
    const skeleton: LlamaSkeleton = {
      ...state,
      positions: state.positions.filter(kept),
      sequences: state.sequences.filter(kept),
    };
    const rowBytes = geometry.headDim * ELEMENT_BYTES[state.type];
    const ends = ({ bytes }: TensorData): Uint8Array =>
      endsOfHeads(bytes, geometry.kvHeads, start * rowBytes, (source.tokenCount - end) * rowBytes);
    const layers: { key: Uint8Array; value: Uint8Array }[] = [];
    for (let layer = 0; layer < geometry.layerCount; layer++) {
      layers.push({ key: ends(await source.key(layer)), value: ends(await source.value(layer)) });
    }
    const bits = (8 * ELEMENT_BYTES[state.type] * (count - (end - start))) / count;
    return { bits, bitsWithBasis: bits, file: llamaStateOf(skeleton, geometry, state.type, (layer) => layers[layer]) };
  };
}
