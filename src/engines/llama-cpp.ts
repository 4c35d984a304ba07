/**
 * llama.cpp, through node-llama-cpp or any other binding that saves a sequence to a file. The model's GGUF file says
 * how keys are turned; the state file holds them. See llama-state.ts and gguf-model.ts.
 */
import { expectFingerprint, fingerprintOf } from "../archive/checksum.ts";
import { decodeArchive } from "../archive/reader.ts";
import type { CodedCache } from "../codec/coded.ts";
import { compress, type WorkOptions } from "../codec/compress.ts";
import type { Geometry } from "../codec/geometry.ts";
import type { CodecOptions } from "../codec/options.ts";
import { type RestoredLayer, restoreLayer } from "../codec/restore.ts";
import { type CacheSource, ELEMENT_BYTES, type ElementType } from "../codec/source.ts";
import { MismatchError, UnsupportedError } from "../errors.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { GgufModel } from "./gguf-model.ts";
import { type LlamaSkeleton, type LlamaState, parseLlamaState, serialiseLlamaState } from "./llama-state.ts";
import { type ModelProfile, withProfile } from "./profile.ts";

export { type GgufArray, type GgufFile, type GgufTensor, type GgufValue, openGguf } from "./gguf.ts";
export { type GgufModel, readGgufModel } from "./gguf-model.ts";
export { type LlamaSkeleton, type LlamaState, parseLlamaState, serialiseLlamaState } from "./llama-state.ts";
export { type ModelProfile, readProfile, withProfile } from "./profile.ts";

export interface CompressStateOptions extends WorkOptions {
  /** As `readGgufModel` gave it. */
  model: GgufModel;
  /** As `readProfile` gave it: what errors cost the model, or its queries, which no state has. Without it there is no metric. */
  profile?: ModelProfile;
  options?: Partial<CodecOptions>;
}

export interface CompressedState {
  coded: CodedCache;
  /** Gives back the file's own positions, token ids past the cells and streams; a plain one need not be kept. */
  skeleton: LlamaSkeleton;
}

export interface RestoreStateOptions {
  /** Checked against the model that the cache came from. */
  model?: GgufModel;
  /** As `compressLlamaState` gave it. Unless given, one is made of the cache's token ids, for a context of one sequence. */
  skeleton?: LlamaSkeleton;
  /** Of the context that shall load the file; as the skeleton says unless given. */
  flashAttention?: boolean;
  /** Of the context's cache; the type that the cache came in unless given. */
  type?: ElementType;
}

/**
 * Codes of a state file. Throws as `parseLlamaState` and `compress` do, and MismatchError where the state is not of
 * the model.
 */
export async function compressLlamaState(
  runtime: Runtime,
  bytes: Uint8Array,
  given: CompressStateOptions,
): Promise<CompressedState> {
  const { model, profile, options, ...work } = given;
  const state = parseLlamaState(bytes);
  const source = sourceOfLlamaState(state, model);
  const coded = await compress(runtime, profile ? withProfile(source, profile) : source, options, work);
  const { type: _type, keys: _keys, values: _values, ...skeleton } = state;
  return { coded, skeleton };
}

/** A parsed state as a cache to compress. Cells must stand at positions that follow one another. */
export function sourceOfLlamaState(state: LlamaState, model: GgufModel): CacheSource {
  const { geometry, rotary } = model;
  const { positions, tokens, type } = state;
  const cells = positions.length;
  const expected = [geometry.layerCount, geometry.kvHeads * geometry.headDim];
  const got = [state.keys.length, state.keys[0].length / cells / ELEMENT_BYTES[type]];
  if (got.some((n, i) => n !== expected[i])) {
    const [a, b] = [expected, got].map(([layers, row]) => `${layers} layers of ${row} elements a token`);
    throw new MismatchError(`state: expected ${a} as the model has, got ${b}`);
  }
  const gap = positions.findIndex((position, i) => position !== positions[0] + i);
  if (gap >= 0) {
    const where = `cell ${gap} at ${positions[gap]} after ${positions[gap - 1]}`;
    throw new UnsupportedError(`state: expected positions that follow one another, got ${where}`);
  }
  const known = positions[0] === 0 && tokens.length >= cells;
  const elements = (bytes: Uint8Array) => arrayOf(type, new Uint8Array(bytes));
  const heads = (bytes: Uint8Array, transposed: boolean) => ({
    type,
    bytes: bytesOf((transposed ? headsOfColumns : headsOfRows)(elements(bytes), geometry, cells)),
  });
  return {
    geometry,
    rotary,
    tokenCount: cells,
    layerNumbers: Array.from({ length: geometry.layerCount }, (_, i) => i),
    model: model.model,
    ...(known && { tokens: tokens.slice(0, cells) }),
    key: async (layer) => heads(state.keys[layer], false),
    value: async (layer) => heads(state.values[layer], state.valuesTransposed),
  };
}

/**
 * A state file to load, from codes or from the bytes of an archive. MismatchError for a model or a skeleton that does
 * not belong to the cache, RangeError where neither says what the file needs.
 */
export function restoreLlamaState(
  runtime: Runtime,
  from: CodedCache | Uint8Array,
  given: RestoreStateOptions = {},
): Uint8Array {
  const coded = from instanceof Uint8Array ? decodeArchive(from) : from;
  const { model, type = coded.exactType } = given;
  const { geometry } = coded;
  if (model) {
    const layerNumbers = Array.from({ length: model.geometry.layerCount }, (_, i) => i);
    expectFingerprint(coded, fingerprintOf({ ...model, layerNumbers }));
  }
  return llamaStateOf(skeletonFor(coded, given), geometry, type, (layer) => restoreLayer(runtime, coded, layer, type));
}

/** A state file of tensors (kvHeads, cells, headDim), as many cells as the skeleton has positions. */
export function llamaStateOf(
  skeleton: LlamaSkeleton,
  geometry: Geometry,
  type: ElementType,
  layerOf: (layer: number) => RestoredLayer,
): Uint8Array {
  const cells = skeleton.positions.length;
  const [keys, values]: Uint8Array[][] = [[], []];
  for (let layer = 0; layer < geometry.layerCount; layer++) {
    const { key, value } = layerOf(layer);
    const turn = skeleton.valuesTransposed ? columnsOfHeads : rowsOfHeads;
    keys.push(bytesOf(rowsOfHeads(arrayOf(type, key), geometry, cells)));
    values.push(bytesOf(turn(arrayOf(type, value), geometry, cells)));
  }
  return serialiseLlamaState({ ...skeleton, type, keys, values });
}

function skeletonFor(coded: CodedCache, given: RestoreStateOptions): LlamaSkeleton {
  const { skeleton, flashAttention } = given;
  const valuesTransposed = flashAttention === undefined ? skeleton?.valuesTransposed : !flashAttention;
  if (valuesTransposed === undefined) {
    throw new RangeError("flashAttention: expected true or false where no skeleton is given, got nothing");
  }
  const { tokens, tokenCount } = coded;
  if (skeleton) {
    const got = skeleton.positions.length;
    if (got === tokenCount) return { ...skeleton, valuesTransposed };
    throw new MismatchError(`skeleton: expected ${tokenCount} cells as the cache has tokens, got ${got}`);
  }
  if (!tokens) throw new RangeError("skeleton: expected one for a cache without token ids, got nothing");
  const positions = Int32Array.from({ length: tokenCount }, (_, i) => i);
  return { tokens, streams: 1, stream: 0, positions, sequences: new Int32Array(tokenCount), valuesTransposed };
}

/** Elements as integers of their size: they are moved, never computed with. */
type Elements = Uint16Array | Uint32Array;

const arrayOf = (type: ElementType, { buffer }: Uint8Array): Elements =>
  ELEMENT_BYTES[type] === 4 ? new Uint32Array(buffer) : new Uint16Array(buffer);

const bytesOf = (elements: Elements): Uint8Array => new Uint8Array(elements.buffer);

const alike = (elements: Elements): Elements =>
  elements instanceof Uint32Array ? new Uint32Array(elements.length) : new Uint16Array(elements.length);

/** (cells, kvHeads, headDim) to (kvHeads, cells, headDim). */
const headsOfRows = (rows: Elements, { kvHeads, headDim }: Geometry, cells: number): Elements =>
  swapped(rows, cells, kvHeads, headDim);

/** (kvHeads, cells, headDim) to (cells, kvHeads, headDim). */
const rowsOfHeads = (heads: Elements, { kvHeads, headDim }: Geometry, cells: number): Elements =>
  swapped(heads, kvHeads, cells, headDim);

/** (a, b, length) to (b, a, length). */
function swapped(from: Elements, a: number, b: number, length: number): Elements {
  const to = alike(from);
  for (let i = 0; i < a; i++) {
    for (let j = 0; j < b; j++) {
      const at = (i * b + j) * length;
      to.set(from.subarray(at, at + length), (j * a + i) * length);
    }
  }
  return to;
}

/** (kvHeads, headDim, cells) to (kvHeads, cells, headDim). */
const headsOfColumns = (columns: Elements, { kvHeads, headDim }: Geometry, cells: number): Elements =>
  transposed(columns, kvHeads, headDim, cells);

/** (kvHeads, cells, headDim) to (kvHeads, headDim, cells). */
const columnsOfHeads = (heads: Elements, { kvHeads, headDim }: Geometry, cells: number): Elements =>
  transposed(heads, kvHeads, cells, headDim);

/** (count, a, b) to (count, b, a). */
function transposed(from: Elements, count: number, a: number, b: number): Elements {
  const to = alike(from);
  for (let matrix = 0; matrix < count; matrix++) {
    const start = matrix * a * b;
    for (let i = 0; i < a; i++) {
      for (let j = 0; j < b; j++) to[start + j * a + i] = from[start + i * b + j];
    }
  }
  return to;
}
