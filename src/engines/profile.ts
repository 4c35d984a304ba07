/**
 * A model's profile as a safetensors file: what its queries are like and what errors of its keys and values cost it, so
 * that caches are compressed under its metric whatever their engine hands out.
 *
 *   layers.N.query_moment   (kvHeads, headDim (headDim + 1) / 2) F16, upper triangles by row of E[q q'] before RoPE
 *   layers.N.query_scale    (kvHeads) F32, what they are to be multiplied by
 *   layers.N.key_fisher, layers.N.key_fisher_scale, layers.N.value_fisher, layers.N.value_fisher_scale
 *                           the same of the Fisher information (codec/fisher.ts); of all layers or of none
 *   bases                   U8, an archive without tokens: bases, allocation and books
 *
 * Each of the three may be missing. Metadata: svdq_profile "1", model, kv_heads, head_dim, rope_layout. N is the layer's number in the model.
 */

import type { ByteSource } from "../archive/random-access.ts";
import { decodeArchive } from "../archive/reader.ts";
import { encodeArchive } from "../archive/writer.ts";
import { joinChunks } from "../codec/chunks.ts";
import type { CodedCache } from "../codec/coded.ts";
import type { FisherData } from "../codec/fisher.ts";
import { checkGeometry } from "../codec/geometry.ts";
import { fromHalf, toHalf } from "../codec/half.ts";
import { momentsInLayout } from "../codec/query-moments.ts";
import type { RotaryLayout } from "../codec/rotary.ts";
import type { CacheSource } from "../codec/source.ts";
import { brief, FormatError, MismatchError } from "../errors.ts";
import {
  type Dtype,
  openSafetensors,
  type SafetensorsFile,
  type TensorToWrite,
  writeSafetensors,
} from "./safetensors.ts";

export interface ModelProfile {
  /** Name, or "". */
  model: string;
  kvHeads: number;
  headDim: number;
  /** Order of the dimensions of `moments` and of keys in `fisher`. */
  layout: RotaryLayout;
  /** By the layer's number in the model: (kvHeads, headDim, headDim) f32, see codec/query-moments.ts. May be empty. */
  moments: Map<number, Float32Array>;
  /** By the layer's number in the model, keys in the order of `layout`; empty where it was not measured. */
  fisher: Map<number, FisherData>;
  /** A cache without tokens, as `createProfile` gives it. */
  bases?: CodedCache;
}

const VERSION = "1";

/** Reads and checks a whole profile. FormatError for a file that is none. */
export async function readProfile(source: ByteSource): Promise<ModelProfile> {
  const file = await openSafetensors(source);
  try {
    return await profileOf(file);
  } finally {
    await file.close();
  }
}

async function profileOf(file: SafetensorsFile): Promise<ModelProfile> {
  const { metadata, tensors, name } = file;
  const fail = (what: string, expected: string, got: unknown): never => {
    throw new FormatError(`${name}: ${what}: expected ${expected}, got ${brief(got)}`, 8);
  };
  if (metadata.svdq_profile !== VERSION) fail("metadata svdq_profile", `"${VERSION}"`, metadata.svdq_profile);
  const [kvHeads, headDim] = [Number(metadata.kv_heads), Number(metadata.head_dim)];
  try {
    checkGeometry({ layerCount: 1, kvHeads, headDim });
  } catch (cause) {
    throw new FormatError(`${name}: ${(cause as Error).message}`, 8);
  }
  const layout = metadata.rope_layout as RotaryLayout;
  if (layout !== "half-split" && layout !== "interleaved") {
    fail("metadata rope_layout", '"half-split" or "interleaved"', layout);
  }
  const read = (number: string, part: Part) => readSquares(file, number, part, kvHeads, headDim);
  const moments = new Map<number, Float32Array>();
  const fisher = new Map<number, FisherData>();
  for (const tensor of tensors.keys()) {
    const [, number, part] = /^layers\.(0|[1-9]\d{0,4})\.(query_moment|key_fisher|value_fisher)$/.exec(tensor) ?? [];
    if (part === "query_moment") moments.set(Number(number), await read(number, QUERY));
    if (part === "key_fisher" || part === "value_fisher") {
      fisher.set(Number(number), { keys: await read(number, KEY), values: await read(number, VALUE) });
    }
  }
  const bases = tensors.has("bases") ? decodeArchive(await file.read("bases")) : undefined;
  if (moments.size + fisher.size === 0 && !bases) {
    fail("tensors", "layers.N.query_moment, layers.N.key_fisher or bases", tensors.size);
  }
  return { model: metadata.model ?? "", kvHeads, headDim, layout, moments, fisher, ...(bases && { bases }) };
}

/** Names of a tensor of triangles and of their scales. */
interface Part {
  squares: string;
  scales: string;
}

const QUERY: Part = { squares: "query_moment", scales: "query_scale" };
const KEY: Part = { squares: "key_fisher", scales: "key_fisher_scale" };
const VALUE: Part = { squares: "value_fisher", scales: "value_fisher_scale" };

/** True for a file that says it is a profile. */
export async function isProfile(source: ByteSource): Promise<boolean> {
  const file = await openSafetensors(source);
  await file.close();
  return file.metadata.svdq_profile !== undefined;
}

/** Mean Fisher information of profiles of one model, in the layout of `like`; MismatchError where layers differ. */
export function mergeFisher(profiles: ModelProfile[], like: Omit<ModelProfile, "bases">): ModelProfile["fisher"] {
  const merged: ModelProfile["fisher"] = new Map();
  for (const [i, other] of profiles.entries()) expectShape(`profiles[${i}]`, like, "the others have", other);
  for (const number of profiles[0]?.fisher.keys() ?? []) {
    const own = profiles.map(({ fisher, layout }, i) => {
      const found = fisher.get(number);
      if (!found || fisher.size !== profiles[0].fisher.size) {
        const numbers = (of: ModelProfile): string => [...of.fisher.keys()].join(" ");
        throw new MismatchError(
          `profiles[${i}]: expected Fisher information of layers ${numbers(profiles[0])}, got ${brief(numbers(profiles[i]))}`,
        );
      }
      return { ...found, keys: momentsInLayout(found.keys, like, like.headDim / 2, layout, like.layout) };
    });
    merged.set(number, { keys: mean(own.map(({ keys }) => keys)), values: mean(own.map(({ values }) => values)) });
  }
  return merged;
}

const mean = (all: Float32Array[]): Float32Array =>
  all[0].map((_, i) => all.reduce((sum, one) => sum + one[i] / all.length, 0));

type Shape = Pick<ModelProfile, "kvHeads" | "headDim">;

/** MismatchError where two are not of one shape; `whose`: who has the expected one. */
export function expectShape(what: string, expected: Shape, whose: string, got: Shape): void {
  const [own, other] = [expected, got].map(({ kvHeads, headDim }) => `${kvHeads} kv heads of ${headDim}`);
  if (own !== other) throw new MismatchError(`${what}: expected ${own} as ${whose}, got ${other}`);
}

/** A tensor of a layer in the shape that it must have. */
async function readPart(
  file: SafetensorsFile,
  number: string,
  part: string,
  dtype: Dtype,
  shape: number[],
): Promise<Uint8Array> {
  const tensor = `layers.${number}.${part}`;
  const entry = file.tensors.get(tensor);
  const got = entry && `${entry.dtype} [${entry.shape.join(", ")}]`;
  const expected = `${dtype} [${shape.join(", ")}]`;
  if (got !== expected) throw new FormatError(`${file.name}: ${tensor}: expected ${expected}, got ${brief(got)}`, 8);
  return file.read(tensor);
}

async function readSquares(
  file: SafetensorsFile,
  number: string,
  part: Part,
  kvHeads: number,
  headDim: number,
): Promise<Float32Array> {
  const triangle = (headDim * (headDim + 1)) / 2;
  const halves = new Uint16Array((await readPart(file, number, part.squares, "F16", [kvHeads, triangle])).buffer);
  const scales = new Float32Array((await readPart(file, number, part.scales, "F32", [kvHeads])).buffer);
  const squares = new Float32Array(kvHeads * headDim * headDim);
  for (let head = 0, i = 0; head < kvHeads; head++) {
    const square = squares.subarray(head * headDim * headDim, (head + 1) * headDim * headDim);
    for (let a = 0; a < headDim; a++) {
      for (let b = a; b < headDim; b++, i++) {
        square[a * headDim + b] = square[b * headDim + a] = fromHalf(halves[i]) * scales[head];
      }
    }
  }
  const bad = squares.findIndex((x) => !Number.isFinite(x));
  if (bad < 0) return squares;
  const name = `layers.${number}.${part.squares}`;
  throw new FormatError(`${file.name}: ${name}: expected finite numbers, got ${squares[bad]}`, 8);
}

/** Writes a profile in one step. Node, Deno and Bun only. */
export async function writeProfile(
  path: string,
  profile: ModelProfile,
  options: { signal?: AbortSignal } = {},
): Promise<void> {
  const { model, kvHeads, headDim, layout, moments, fisher, bases } = profile;
  const tensors: TensorToWrite[] = [];
  const put = (number: number, part: Part, squares: Float32Array): void => {
    const { halves, scales } = packedSquares(squares, kvHeads, headDim);
    const add = (name: string, dtype: Dtype, shape: number[], { buffer }: Uint16Array | Float32Array) =>
      tensors.push({ name: `layers.${number}.${name}`, dtype, shape, read: async () => new Uint8Array(buffer) });
    add(part.squares, "F16", [kvHeads, (headDim * (headDim + 1)) / 2], halves);
    add(part.scales, "F32", [kvHeads], scales);
  };
  for (const [number, squares] of moments) put(number, QUERY, squares);
  for (const [number, { keys, values }] of fisher) {
    put(number, KEY, keys);
    put(number, VALUE, values);
  }
  if (bases) {
    const bytes = joinChunks(encodeArchive(bases));
    tensors.push({ name: "bases", dtype: "U8", shape: [bytes.length], read: async () => bytes });
  }
  const metadata = {
    svdq_profile: VERSION,
    model,
    kv_heads: String(kvHeads),
    head_dim: String(headDim),
    rope_layout: layout,
  };
  await writeSafetensors(path, metadata, tensors, options);
}

/** Upper triangles in f16, divided by the largest element of each head. */
function packedSquares(squares: Float32Array, kvHeads: number, headDim: number) {
  const halves = new Uint16Array((kvHeads * headDim * (headDim + 1)) / 2);
  const scales = new Float32Array(kvHeads);
  for (let head = 0, i = 0; head < kvHeads; head++) {
    const square = squares.subarray(head * headDim * headDim, (head + 1) * headDim * headDim);
    scales[head] = square.reduce((top, x) => Math.max(top, Math.abs(x)), 0);
    for (let a = 0; a < headDim; a++) {
      for (let b = a; b < headDim; b++)
        halves[i++] = toHalf(scales[head] > 0 ? square[a * headDim + b] / scales[head] : 0);
    }
  }
  return { halves, scales };
}

/**
 * The cache with what the profile knows: the model's Fisher information, or else its queries where the cache has none of
 * its own. MismatchError where the profile is of a model of another shape, or knows neither of a layer.
 */
export function withProfile(source: CacheSource, profile: ModelProfile): CacheSource {
  const { geometry, rotary, layerNumbers } = source;
  expectShape("profile", geometry, "the cache has", profile);
  const inLayout = (squares: Float32Array): Float32Array =>
    momentsInLayout(squares, geometry, rotary.frequencies.length, profile.layout, rotary.layout);
  const of = <T>(known: Map<number, T>, layer: number): T => known.get(layerNumbers[layer]) as T;
  if (layerNumbers.every((number) => profile.fisher.has(number))) {
    const fisherOf = (layer: number): FisherData => {
      const { keys, values } = of(profile.fisher, layer);
      return { keys: inLayout(keys), values };
    };
    return { ...source, fisher: async (layer) => fisherOf(layer) };
  }
  const known = profile.moments.size ? profile.moments : profile.fisher;
  const missing = layerNumbers.find((number) => !known.has(number));
  if (missing !== undefined) {
    const what = profile.moments.size ? "queries" : "Fisher information";
    throw new MismatchError(`profile: expected ${what} of layer ${missing}, got that of ${known.size} others`);
  }
  return { ...source, queryMoments: async (layer) => inLayout(of(profile.moments, layer)) };
}
