/**
 * A model's profile as a safetensors file: what its queries are like, so that caches of engines that hand out none are
 * compressed under the metric too.
 *
 *   layers.N.query_moment   (kvHeads, headDim (headDim + 1) / 2) F16, upper triangles by row of E[q q'] before RoPE
 *   layers.N.query_scale    (kvHeads) F32, what they are to be multiplied by
 *   layers.N.weights        (2) F32, what squared errors of its keys and of its values count; of all layers or of none
 *   bases                   U8, an archive without tokens: bases, allocation and books; may be missing
 *
 * Metadata: svdq_profile "1", model, kv_heads, head_dim, rope_layout. N is the layer's number in the model.
 */

import type { ByteSource } from "../archive/random-access.ts";
import { decodeArchive } from "../archive/reader.ts";
import { encodeArchive } from "../archive/writer.ts";
import { joinChunks } from "../codec/chunks.ts";
import type { CodedCache } from "../codec/coded.ts";
import { checkGeometry } from "../codec/geometry.ts";
import { fromHalf, toHalf } from "../codec/half.ts";
import type { LayerWeights } from "../codec/layer-weights.ts";
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
  /** Order of the dimensions of `moments`. */
  layout: RotaryLayout;
  /** By the layer's number in the model: (kvHeads, headDim, headDim) f32, see codec/query-moments.ts. */
  moments: Map<number, Float32Array>;
  /** By the layer's number in the model: what errors there cost, see codec/layer-weights.ts. */
  weights?: Map<number, ErrorWeights>;
  /** A cache without tokens, as `createProfile` gives it. */
  bases?: CodedCache;
}

/** Of squared errors of one layer. */
export interface ErrorWeights {
  keys: number;
  values: number;
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
  const moments = new Map<number, Float32Array>();
  const weights = new Map<number, ErrorWeights>();
  for (const tensor of tensors.keys()) {
    const [, number, part] = /^layers\.(0|[1-9]\d{0,4})\.(query_moment|weights)$/.exec(tensor) ?? [];
    if (part === "query_moment") moments.set(Number(number), await readMoments(file, number, kvHeads, headDim));
    if (part === "weights") weights.set(Number(number), await readWeights(file, number));
  }
  const bases = tensors.has("bases") ? decodeArchive(await file.read("bases")) : undefined;
  if (moments.size === 0 && !bases) fail("tensors", "layers.N.query_moment or bases", tensors.size);
  return {
    model: metadata.model ?? "",
    kvHeads,
    headDim,
    layout,
    moments,
    ...(weights.size && { weights }),
    ...(bases && { bases }),
  };
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

async function readWeights(file: SafetensorsFile, number: string): Promise<ErrorWeights> {
  const [keys, values] = new Float32Array((await readPart(file, number, "weights", "F32", [2])).buffer);
  const bad = [keys, values].find((weight) => !(weight > 0 && weight < Infinity));
  if (bad === undefined) return { keys, values };
  throw new FormatError(`${file.name}: layers.${number}.weights: expected finite numbers above 0, got ${bad}`, 8);
}

async function readMoments(
  file: SafetensorsFile,
  number: string,
  kvHeads: number,
  headDim: number,
): Promise<Float32Array> {
  const triangle = (headDim * (headDim + 1)) / 2;
  const halves = new Uint16Array((await readPart(file, number, "query_moment", "F16", [kvHeads, triangle])).buffer);
  const scales = new Float32Array((await readPart(file, number, "query_scale", "F32", [kvHeads])).buffer);
  const moments = new Float32Array(kvHeads * headDim * headDim);
  for (let head = 0, i = 0; head < kvHeads; head++) {
    const square = moments.subarray(head * headDim * headDim, (head + 1) * headDim * headDim);
    for (let a = 0; a < headDim; a++) {
      for (let b = a; b < headDim; b++, i++) {
        square[a * headDim + b] = square[b * headDim + a] = fromHalf(halves[i]) * scales[head];
      }
    }
  }
  const bad = moments.findIndex((x) => !Number.isFinite(x));
  if (bad < 0) return moments;
  throw new FormatError(`${file.name}: layers.${number}.query_moment: expected finite numbers, got ${moments[bad]}`, 8);
}

/** Writes a profile in one step. Node, Deno and Bun only. */
export async function writeProfile(
  path: string,
  profile: ModelProfile,
  options: { signal?: AbortSignal } = {},
): Promise<void> {
  const { model, kvHeads, headDim, layout, moments, weights, bases } = profile;
  const tensors: TensorToWrite[] = [];
  for (const [number, square] of moments) {
    const { halves, scales } = packedMoments(square, kvHeads, headDim);
    const put = (part: string, dtype: Dtype, shape: number[], { buffer }: Uint16Array | Float32Array) =>
      tensors.push({ name: `layers.${number}.${part}`, dtype, shape, read: async () => new Uint8Array(buffer) });
    put("query_moment", "F16", [kvHeads, (headDim * (headDim + 1)) / 2], halves);
    put("query_scale", "F32", [kvHeads], scales);
  }
  for (const [number, { keys, values }] of weights ?? []) {
    const bytes = new Uint8Array(Float32Array.of(keys, values).buffer);
    tensors.push({ name: `layers.${number}.weights`, dtype: "F32", shape: [2], read: async () => bytes });
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
function packedMoments(moments: Float32Array, kvHeads: number, headDim: number) {
  const halves = new Uint16Array((kvHeads * headDim * (headDim + 1)) / 2);
  const scales = new Float32Array(kvHeads);
  for (let head = 0, i = 0; head < kvHeads; head++) {
    const square = moments.subarray(head * headDim * headDim, (head + 1) * headDim * headDim);
    scales[head] = square.reduce((top, x) => Math.max(top, Math.abs(x)), 0);
    for (let a = 0; a < headDim; a++) {
      for (let b = a; b < headDim; b++)
        halves[i++] = toHalf(scales[head] > 0 ? square[a * headDim + b] / scales[head] : 0);
    }
  }
  return { halves, scales };
}

/** What the profile says of a cache's layers, where it says it of all. */
function layerWeights({ layerNumbers }: CacheSource, { weights }: ModelProfile): LayerWeights | undefined {
  const found = layerNumbers.flatMap((number) => weights?.get(number) ?? []);
  if (found.length < layerNumbers.length) return undefined;
  return { keys: found.map(({ keys }) => keys), values: found.map(({ values }) => values) };
}

/**
 * The cache with the profile's queries where it has none of its own, and with its weights of layers. MismatchError where the profile is of a model of
 * another shape, or lacks a layer.
 */
export function withProfile(source: CacheSource, profile: ModelProfile): CacheSource {
  const { geometry, rotary, layerNumbers } = source;
  const describe = (of: { kvHeads: number; headDim: number }) => `${of.kvHeads} kv heads of ${of.headDim}`;
  if (describe(profile) !== describe(geometry)) {
    throw new MismatchError(`profile: expected ${describe(geometry)} as the cache has, got ${describe(profile)}`);
  }
  const missing = layerNumbers.find((number) => !profile.moments.has(number));
  if (missing !== undefined) {
    throw new MismatchError(
      `profile: expected queries of layer ${missing}, got those of ${profile.moments.size} others`,
    );
  }
  const pairs = rotary.frequencies.length;
  const weights = layerWeights(source, profile);
  return {
    ...source,
    ...(weights && { layerWeights: weights }),
    queryMoments: async (layer) =>
      momentsInLayout(
        profile.moments.get(layerNumbers[layer]) as Float32Array,
        geometry,
        pairs,
        profile.layout,
        rotary.layout,
      ),
  };
}
