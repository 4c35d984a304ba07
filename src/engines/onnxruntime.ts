/**
 * Caches as ONNX decoders hold them: one tensor a layer and kind, float32 or float16, keys after RoPE,
 *
 *   present.N.key, present.N.value                   what a session gives  \  (1, kvHeads, tokens, headDim)
 *   past_key_values.N.key, past_key_values.N.value   what it takes         /
 *
 * onnxruntime-web and onnxruntime-node hand such tensors out; so does Transformers.js. No class of theirs is imported:
 * tensors are known by their fields, and the caller passes the class to make new ones with. What a name says about the
 * model is from the exports of optimum, onnxruntime-genai and Transformers.js 4.
 */
import type { CodedCache } from "../codec/coded.ts";
import { restoreLayer } from "../codec/restore.ts";
import type { Rotary } from "../codec/rotary.ts";
import type { CacheSource, ElementType, TensorData } from "../codec/source.ts";
import { brief, DisposedError, UnsupportedError } from "../errors.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { supportedGeometry } from "./limits.ts";

export { exposeQueries, type QueryOutput, type QueryOutputs, queriesOf } from "./onnx-queries.ts";
export { rotaryOfConfig } from "./rope-config.ts";

/** The fields of an onnxruntime or Transformers.js tensor that are read. */
export interface EngineTensor {
  readonly type: string;
  readonly dims: readonly number[];
  /** Throws where the data are on a GPU. */
  readonly data?: unknown;
  /** Data from wherever they are; true gives a GPU buffer back to the engine once they are downloaded. */
  getData?(release?: boolean): Promise<unknown>;
  /** What a Transformers.js tensor wraps; where it is there, data are read from it. */
  readonly ort_tensor?: { getData?(release?: boolean): Promise<unknown> };
}

/** A class of the engine: the data are an array that owns its whole buffer. */
export type TensorClass<T> = new (type: "float32" | "float16", data: never, dims: number[]) => T;

/** What tensors do not say of themselves. */
export interface TensorFacts {
  rotary: Rotary;
  /** Identifies model and geometry; empty unless given. */
  model?: string;
  /** Ids of the tokens that the cache holds. */
  tokens?: ArrayLike<number | bigint>;
}

export interface EngineCache<T> {
  source: CacheSource;
  /** Everything that is neither key nor value, untouched: conv, ssm and recurrent state, logits of a `session.run`. */
  others: Record<string, T>;
}

export interface TensorOptions<T> {
  Tensor: TensorClass<T>;
  /** The type that the cache came in unless given; bf16 caches come back as f32. */
  type?: "f32" | "f16";
  /** In front of `.N.key`; "past_key_values" unless given. */
  prefix?: string;
}

const NAME = /^(?:present|past_key_values)\.(\d+)\.(key|value)$/;
const TYPES: Record<string, ElementType> = { float32: "f32", float16: "f16" };
const DATA_BYTES: Record<string, number> = { f32: 4, f16: 2 };
type Part = "key" | "value";
type Pair = Partial<Record<Part, EngineTensor>>;

/**
 * A cache to compress, and what stands beside it. Tensors are looked at now and read when they are asked for, so they
 * must live until then; reading a GPU tensor moves its data to the CPU, where the engine can go on with it.
 *
 * UnsupportedError: batch over 1, multi-query, encoder-decoder, quantized and latent (MLA) caches. RangeError: no cache
 * at all, no tokens, tensors that do not belong together. DisposedError, when read: a tensor disposed before.
 */
export function fromTensors<T extends EngineTensor>(tensors: Record<string, T>, facts: TensorFacts): EngineCache<T> {
  const pairs = new Map<number, Pair>();
  const others: Record<string, T> = {};
  for (const [name, tensor] of Object.entries(tensors)) {
    refuseByName(name);
    const match = NAME.exec(name);
    if (!match) {
      others[name] = tensor;
      continue;
    }
    const [number, part] = [Number(match[1]), match[2] as Part];
    const pair: Pair = pairs.get(number) ?? {};
    if (pair[part]) throw new RangeError(`tensors: expected one ${part} of layer ${number}, got two`);
    pair[part] = tensor;
    pairs.set(number, pair);
  }
  if (pairs.size === 0) {
    const got = `${Object.keys(others).length} tensors, none of that name`;
    throw new RangeError(`tensors: expected present.N.key or past_key_values.N.key, got ${got}`);
  }
  const layerNumbers = [...pairs.keys()].sort((a, b) => a - b);
  const layers = layerNumbers.map((number) => completePair(number, pairs.get(number)!));
  return { source: sourceOf(layers, layerNumbers, facts), others };
}

function refuseByName(name: string): void {
  const refuse = (what: string): never => {
    throw new UnsupportedError(`${name}: expected keys and values of a decoder's own heads, got ${what}`);
  };
  if (/\.key_value$/.test(name)) refuse("a multi-query cache, keys and values in one tensor");
  if (/\.(?:encoder|decoder)\.(?:key|value)$/.test(name)) refuse("a cache of an encoder-decoder");
  if (/(?:^|[._])(?:compressor|indexer|latent|ckv|k_pe)(?:[._]|$)/.test(name)) refuse("a latent (MLA) cache");
  if (/\.(?:key|value)_(?:scales?|zero_points?)$/.test(name)) refuse("a quantized cache");
}

function completePair(number: number, { key, value }: Pair): Record<Part, EngineTensor> {
  if (key && value) return { key, value };
  throw new RangeError(`layer ${number}: expected a key and a value, got a ${key ? "key" : "value"} only`);
}

function sourceOf(layers: Record<Part, EngineTensor>[], layerNumbers: number[], facts: TensorFacts): CacheSource {
  const first = layers[0].key;
  const type = typeOf(`layer ${layerNumbers[0]} key`, first);
  layers.forEach((pair, i) => {
    const name = (part: Part): string => `layer ${layerNumbers[i]} ${part}`;
    for (const part of ["key", "value"] as const) {
      const got = typeOf(name(part), pair[part]);
      if (got !== type) throw new RangeError(`${name(part)}: expected ${type} as in the first layer, got ${got}`);
      checkDims(name(part), pair[part].dims);
    }
    expectDims(name("value"), pair.value.dims, pair.key.dims, "as its keys have (latent caches differ here)");
    expectDims(name("key"), pair.key.dims, first.dims, "as in the first layer");
  });
  const [, kvHeads, tokenCount, headDim] = first.dims;
  const geometry = supportedGeometry({ layerCount: layers.length, kvHeads, headDim });
  const tokens = facts.tokens && tokenIds(facts.tokens, tokenCount);
  const count = kvHeads * tokenCount * headDim;
  const read = async (layer: number, part: Part): Promise<TensorData> => {
    const bytes = await bytesOf(`layer ${layerNumbers[layer]} ${part}`, layers[layer][part], type, count);
    return { type, bytes };
  };
  return {
    geometry, tokenCount, layerNumbers,
    rotary: facts.rotary,
    model: facts.model ?? "",
    ...(tokens && { tokens }),
    key: (layer) => read(layer, "key"),
    value: (layer) => read(layer, "value"),
  }; // biome-ignore format: names first
}

function typeOf(name: string, tensor: EngineTensor): ElementType {
  const type = TYPES[tensor.type];
  if (type) return type;
  const hint = /^u?int/.test(String(tensor.type)) ? " (a quantized cache)" : "";
  throw new UnsupportedError(`${name}: expected float32 or float16, got ${brief(tensor.type)}${hint}`);
}

function checkDims(name: string, dims: readonly number[]): void {
  const shape = `[${dims.join(", ")}]`;
  if (dims.length !== 4) {
    const hint = "; three dimensions are a latent or a multi-query cache";
    throw new UnsupportedError(`${name}: expected [1, kvHeads, tokens, headDim], got ${shape}${hint}`);
  }
  if (dims[0] !== 1) throw new UnsupportedError(`${name}: expected a batch of 1, got ${dims[0]} in ${shape}`);
  if (dims[2] === 0) throw new RangeError(`${name}: expected at least one token, got an empty cache ${shape}`);
}

function expectDims(name: string, got: readonly number[], expected: readonly number[], why: string): void {
  if (expected.every((n, i) => got[i] === n)) return;
  throw new UnsupportedError(`${name}: expected [${expected.join(", ")}] ${why}, got [${got.join(", ")}]`);
}

function tokenIds(tokens: ArrayLike<number | bigint>, tokenCount: number): Int32Array {
  if (tokens.length !== tokenCount) {
    throw new RangeError(`tokens: expected ${tokenCount} ids, as many as the cache holds, got ${tokens.length}`);
  }
  return Int32Array.from(tokens, Number);
}

/** A view of the engine's data where they are on the CPU. */
async function bytesOf(name: string, tensor: EngineTensor, type: ElementType, count: number): Promise<Uint8Array> {
  const data = await dataOf(name, tensor);
  if (!ArrayBuffer.isView(data) || !("BYTES_PER_ELEMENT" in data) || data.BYTES_PER_ELEMENT !== DATA_BYTES[type]) {
    const expected = type === "f32" ? "a Float32Array" : "a Float16Array, or a Uint16Array of its bits";
    throw new TypeError(`${name}: data: expected ${expected}, got ${data?.constructor?.name ?? String(data)}`);
  }
  const expected = count * DATA_BYTES[type];
  if (data.byteLength !== expected) {
    throw new RangeError(`${name}: data: expected ${expected} bytes, got ${data.byteLength}`);
  }
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

async function dataOf(name: string, tensor: EngineTensor): Promise<object | null | undefined> {
  const holder = tensor.ort_tensor ?? tensor;
  try {
    const data = holder.getData ? await holder.getData(true) : tensor.data;
    return data as object | null | undefined;
  } catch (cause) {
    if (!/disposed/.test((cause as Error)?.message)) throw cause;
    throw new DisposedError(`${name}: expected a tensor with data, got one disposed before`, { cause });
  }
}

/**
 * Tensors of every layer for the next run, each over a buffer of its own: Transformers.js reads the whole buffer of a
 * float16 array, wherever the array begins.
 */
export function toTensors<T>(runtime: Runtime, coded: CodedCache, options: TensorOptions<T>): Record<string, T> {
  const { Tensor, prefix = "past_key_values", type = coded.exactType === "f16" ? "f16" : "f32" } = options;
  if (typeof Tensor !== "function") throw new TypeError(`Tensor: expected the engine's class, got ${brief(Tensor)}`);
  const { kvHeads, headDim } = coded.geometry;
  const dims = () => [1, kvHeads, coded.tokenCount, headDim];
  const make = (bytes: Uint8Array): T =>
    type === "f32"
      ? new Tensor("float32", new Float32Array(bytes.buffer) as never, dims())
      : new Tensor("float16", halves(bytes.buffer as ArrayBuffer) as never, dims());
  const tensors: Record<string, T> = {};
  coded.layerNumbers.forEach((number, layer) => {
    const { key, value } = restoreLayer(runtime, coded, layer, type);
    tensors[`${prefix}.${number}.key`] = make(key);
    tensors[`${prefix}.${number}.value`] = make(value);
  });
  return tensors;
}

/** onnxruntime wants the array type that the host has, asked for when it is called. */
function halves(buffer: ArrayBuffer): ArrayBufferView {
  const { Float16Array } = globalThis as { Float16Array?: new (buffer: ArrayBuffer) => ArrayBufferView };
  return Float16Array ? new Float16Array(buffer) : new Uint16Array(buffer);
}
