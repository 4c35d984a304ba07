/**
 * Caches of Transformers.js 4 (@huggingface/transformers): a `DynamicCache` is an object whose own fields are tensors
 * named as in onnxruntime.ts. Its constructor takes tensors of its own copy of the library only, so both classes are
 * passed in. `token i` stands at position i: no padding on the left.
 */
import { expectFingerprint, fingerprintOf } from "../archive/checksum.ts";
import { decodeArchive } from "../archive/reader.ts";
import type { CodedCache } from "../codec/coded.ts";
import { compress, type WorkOptions } from "../codec/compress.ts";
import type { CodecOptions } from "../codec/options.ts";
import { brief, MismatchError } from "../errors.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { type EngineTensor, fromTensors, type TensorClass, toTensors } from "./onnxruntime.ts";
import { rotaryOfConfig, shapeOfConfig, textConfig } from "./rope-config.ts";

/** What `model.config` says; every field is checked where it is used. */
export type ModelConfig = object;

export interface CompressCacheOptions extends WorkOptions {
  /** `model.config`. */
  config: ModelConfig;
  /** Tells models of one shape apart, for instance "HuggingFaceTB/SmolLM2-135M-Instruct"; see `modelOf`. */
  name?: string;
  /** Ids of the tokens that the cache holds; they travel in the archive. */
  tokens?: ArrayLike<number | bigint>;
  options?: Partial<CodecOptions>;
}

export interface CompressedCache<T> {
  coded: CodedCache;
  /** Conv, ssm and recurrent state of a hybrid model, untouched; an archive has no place for it. */
  others: Record<string, T>;
}

export interface RestoreCacheOptions<T extends object, C> {
  Tensor: TensorClass<T>;
  DynamicCache: new (entries: Record<string, T>) => C;
  /** `model.config` of the model that shall go on, checked against the one that the cache came from. */
  config?: ModelConfig;
  /** As given to `compressCache`. */
  name?: string;
  /** As `compressCache` gave it. */
  others?: Record<string, T>;
  /** The type that the cache came in unless given. */
  type?: "f32" | "f16";
}

/**
 * What identifies the model in an archive: the name, if given, and the fields of the config that give its shape. Two
 * fine-tunes of one model have the same fields; only a name tells them apart.
 */
export function modelOf(config: ModelConfig, name = ""): string {
  const text = textConfig(config);
  const { layers, queryHeads, kvHeads, headDim } = shapeOfConfig(config);
  const shape = [text.model_type, layers, queryHeads, kvHeads, headDim, text.hidden_size, text.vocab_size];
  return `${name}#${shape.map((field) => (field === undefined ? "" : String(field))).join("/")}`;
}

/**
 * Codes of a cache that generation has filled; the cache can be used on. Throws as `fromTensors` and `compress` do, and
 * MismatchError where the cache is not of the config's model.
 */
export async function compressCache<T extends EngineTensor>(
  runtime: Runtime,
  cache: object,
  given: CompressCacheOptions,
): Promise<CompressedCache<T>> {
  const { config, name, tokens, options, ...work } = given;
  const facts = { rotary: rotaryOfConfig(config), model: modelOf(config, name), ...(tokens && { tokens }) };
  const { source, others } = fromTensors(tensorsOf<T>(cache), facts);
  const { kvHeads, headDim } = shapeOfConfig(config);
  const got = source.geometry;
  if (got.kvHeads !== kvHeads || got.headDim !== headDim) {
    throw new MismatchError(
      `cache: expected ${kvHeads} kv heads of ${headDim} as config has, got ${got.kvHeads} of ${got.headDim}`,
    );
  }
  return { coded: await compress(runtime, source, options, work), others };
}

/** The tensors of a DynamicCache, or of a plain object of tensors. */
function tensorsOf<T extends EngineTensor>(cache: unknown): Record<string, T> {
  if (typeof cache !== "object" || cache === null) {
    throw new TypeError(`cache: expected a DynamicCache, got ${brief(cache)}`);
  }
  const bad = Object.entries(cache).find(([, tensor]) => !Array.isArray(tensor?.dims));
  if (bad) throw new TypeError(`cache: expected tensors, got ${brief(bad[1])} in ${brief(bad[0])}`);
  return cache as Record<string, T>;
}

/**
 * A cache to pass as `past_key_values`, from codes or from the bytes of an archive. MismatchError where a config is
 * given that is not of the same model; FormatError for bytes that are no sound archive.
 */
export function restoreCache<T extends object, C>(
  runtime: Runtime,
  from: CodedCache | Uint8Array,
  given: RestoreCacheOptions<T, C>,
): C {
  const { DynamicCache, config, name, others = {}, ...options } = given;
  if (typeof DynamicCache !== "function") {
    throw new TypeError(`DynamicCache: expected the class of Transformers.js, got ${brief(DynamicCache)}`);
  }
  const coded = from instanceof Uint8Array ? decodeArchive(from) : from;
  if (config) expectModel(coded, config, name);
  return new DynamicCache({ ...toTensors(runtime, coded, options), ...others });
}

function expectModel(coded: CodedCache, config: ModelConfig, name?: string): void {
  const { kvHeads, headDim } = shapeOfConfig(config);
  const { layerNumbers } = coded;
  const geometry = { layerCount: layerNumbers.length, kvHeads, headDim };
  const expected = { model: modelOf(config, name), geometry, rotary: rotaryOfConfig(config), layerNumbers };
  expectFingerprint(coded, fingerprintOf(expected));
}
