/**
 * Caches saved as safetensors:
 *
 *   layers.N.key, layers.N.value   (kvHeads, tokens, headDim) F16, BF16 or F32, keys after RoPE
 *   layers.N.query                 (queryHeads, count, headDim), the same types; all layers or none
 *   tokens                         (tokens) I32, if known
 *
 * Metadata, each checked against the tensors where both say it, and all but a rotary theta dispensable: model, text,
 * layers, stored_layers, kv_heads, query_heads, head_dim, context_tokens, continuation_tokens, query_first_token,
 * rope_theta, rope_frequencies (JSON array, radians a position of each pair; goes before theta), rope_layout,
 * rope_applied.
 */

import type { ByteSource } from "../archive/random-access.ts";
import { checkGeometry, type Geometry } from "../codec/geometry.ts";
import { checkRotary, frequenciesOf, type Rotary, type RotaryLayout } from "../codec/rotary.ts";
import type { CacheSource, ElementType, QueryData, TensorData } from "../codec/source.ts";
import { brief, expectInteger, FormatError, UnsupportedError } from "../errors.ts";
import { openSafetensors, type SafetensorsFile, type TensorEntry } from "./safetensors.ts";

export interface DumpOptions {
  /** Tokens to compress, from the start; as many as `context_tokens` says, or all, unless given. */
  tokens?: number;
  /** Goes before `rope_layout`; where neither is there, half-split, as in transformers. */
  layout?: RotaryLayout;
  /** Goes before `rope_theta`. */
  theta?: number;
}

export interface Dump extends CacheSource {
  /** Tokens in the file, continuation included. */
  readonly heldTokens: number;
  /** What the text is, or "". */
  readonly text: string;
  query(layer: number): Promise<QueryData | undefined>;
  /** All queries of a layer, those of the continuation too; undefined where the file has none. */
  queryTensor(layer: number): Promise<QueryData | undefined>;
  close(): Promise<void>;
}

const TYPES: Record<string, ElementType> = { F16: "f16", BF16: "bf16", F32: "f32" };
/** Where the header starts; metadata faults are said to be there. */
const HEADER_AT = 8;

/** Opens and checks a dump; tensors are read when asked for. */
export async function openDump(source: ByteSource, options: DumpOptions = {}): Promise<Dump> {
  const file = await openSafetensors(source);
  try {
    return await dumpOf(file, options);
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function dumpOf(file: SafetensorsFile, options: DumpOptions): Promise<Dump> {
  const reader = new DumpReader(file);
  reader.checkRope();
  const layerNumbers = reader.layerNumbers();
  const { geometry, heldTokens, type } = reader.geometry(layerNumbers);
  const queries = reader.queries(layerNumbers, geometry, heldTokens);
  const context = reader.integer("context_tokens", 1, heldTokens) ?? heldTokens;
  const tokenCount = expectInteger("options.tokens", options.tokens ?? context, 1, heldTokens);
  const rotary = reader.rotary(geometry.headDim, options);
  const tokens = await reader.tokens(heldTokens);
  const tokenBytes = geometry.headDim * (type === "f32" ? 4 : 2);

  const tensor = async (layer: number, part: "key" | "value"): Promise<TensorData> => {
    const bytes = await file.read(nameOf(layerNumbers, layer, part));
    return { type, bytes: firstOfHeads(bytes, geometry.kvHeads, heldTokens * tokenBytes, tokenCount * tokenBytes) };
  };
  const queryTensor = async (layer: number): Promise<QueryData | undefined> =>
    queries && { ...queries, bytes: await file.read(nameOf(layerNumbers, layer, "query")) };
  return {
    geometry, rotary, tokenCount, heldTokens, layerNumbers, queryTensor,
    model: file.metadata.model ?? "",
    text: file.metadata.text ?? "",
    ...(tokens && { tokens: tokens.slice(0, tokenCount) }),
    key: (layer) => tensor(layer, "key"),
    value: (layer) => tensor(layer, "value"),
    async query(layer) {
      const count = queries ? Math.min(queries.count, tokenCount - queries.firstToken) : 0;
      const all = count > 0 ? await queryTensor(layer) : undefined;
      if (!all) return undefined;
      const rowBytes = all.bytes.length / all.queryHeads / all.count;
      return { ...all, count, bytes: firstOfHeads(all.bytes, all.queryHeads, all.count * rowBytes, count * rowBytes) };
    },
    close: () => file.close(),
  }; // biome-ignore format: names first
}

function nameOf(layerNumbers: number[], layer: number, part: "key" | "value" | "query"): string {
  return `layers.${layerNumbers[expectInteger("layer", layer, 0, layerNumbers.length - 1)]}.${part}`;
}

/** The first `kept` of the `held` bytes of each head. */
function firstOfHeads(bytes: Uint8Array, heads: number, held: number, kept: number): Uint8Array {
  if (held === kept) return bytes;
  const out = new Uint8Array(heads * kept);
  for (let h = 0; h < heads; h++) out.set(bytes.subarray(h * held, h * held + kept), h * kept);
  return out;
}

/** Everything that a dump says about itself, checked. */
class DumpReader {
  readonly #file: SafetensorsFile;
  readonly #metadata: SafetensorsFile["metadata"];

  constructor(file: SafetensorsFile) {
    this.#file = file;
    this.#metadata = file.metadata;
  }

  #fail(what: string, expected: string, got: unknown, at = HEADER_AT): never {
    throw new FormatError(`${this.#file.name}: ${what}: expected ${expected}, got ${brief(got)}`, at);
  }

  #unsupported(what: string, expected: string, got: unknown): never {
    throw new UnsupportedError(`${this.#file.name}: ${what}: expected ${expected}, got ${brief(got)}`);
  }

  /** A metadata integer, or undefined where it is missing. */
  integer(key: string, low: number, high: number): number | undefined {
    const text = this.#metadata[key];
    if (text === undefined) return undefined;
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= low && value <= high)) this.#fail(`metadata ${key}`, `an integer from ${low} to ${high}`, text);
    return value;
  }

  /** Fails where the metadata give another number than the tensors. */
  #agree(key: string, value: number, tensor: string): void {
    const said = this.integer(key, 0, Number.MAX_SAFE_INTEGER);
    if (said !== undefined && said !== value) {
      this.#fail(tensor, `${key} ${said} as the metadata say`, value, this.#at(tensor));
    }
  }

  #at = (tensor: string): number => this.#file.tensors.get(tensor)?.offsets[0] ?? HEADER_AT;

  checkRope(): void {
    const applied = this.#metadata.rope_applied ?? "true";
    if (applied === "false") this.#unsupported("metadata rope_applied", "keys after RoPE", applied);
    if (applied !== "true") this.#fail("metadata rope_applied", '"true" or "false"', applied);
  }

  /** Rising, as `stored_layers` and the names of the tensors both say. */
  layerNumbers(): number[] {
    const found = new Set<number>();
    for (const name of this.#file.tensors.keys()) {
      const match = /^layers\.(0|[1-9]\d{0,4})\.(key|value|query)$/.exec(name);
      if (match) found.add(Number(match[1]));
    }
    if (found.size === 0) this.#fail("tensors", "layers.N.key and layers.N.value", `${this.#file.tensors.size} others`);
    const numbers = [...found].sort((a, b) => a - b);
    const stored = this.#metadata.stored_layers;
    const listed = stored?.split(",").map((part) => part.trim());
    if (listed?.some((part) => !/^\d+$/.test(part)))
      this.#fail("metadata stored_layers", "integers with commas", stored);
    for (const n of listed ?? []) {
      if (!found.has(Number(n)))
        this.#fail(`layers.${n}.key`, "a tensor, since stored_layers lists the layer", undefined);
    }
    for (const n of numbers) {
      if (listed && !listed.some((part) => Number(part) === n)) {
        this.#fail("metadata stored_layers", `layer ${n}, which has tensors, among them`, stored);
      }
    }
    const layers = this.integer("layers", 1, 65536) ?? 65536;
    if (numbers[numbers.length - 1] >= layers) this.#fail("metadata layers", `more than ${numbers.at(-1)}`, layers);
    return numbers;
  }

  /** A tensor of three dimensions and a type that we read. */
  #tensor(name: string): { entry: TensorEntry; type: ElementType } {
    const entry = this.#file.tensors.get(name) ?? this.#fail(name, "a tensor of this name", undefined);
    const type = TYPES[entry.dtype] ?? this.#unsupported(`${name}: dtype`, "F16, BF16 or F32", entry.dtype);
    if (entry.shape.length !== 3) this.#fail(`${name}: shape`, "3 dimensions", entry.shape, entry.offsets[0]);
    return { entry, type };
  }

  /** A tensor of the same shape and type as another. */
  #tensorLike(name: string, like: string): void {
    const { entry } = this.#tensor(name);
    const { entry: first } = this.#tensor(like);
    if (String(entry.shape) !== String(first.shape)) {
      this.#fail(`${name}: shape`, `[${first.shape.join(", ")}] as ${like} has`, entry.shape, entry.offsets[0]);
    }
    if (entry.dtype !== first.dtype) this.#unsupported(`${name}: dtype`, `${first.dtype} as ${like} has`, entry.dtype);
  }

  geometry(layerNumbers: number[]): { geometry: Geometry; heldTokens: number; type: ElementType } {
    const first = nameOf(layerNumbers, 0, "key");
    const { entry, type } = this.#tensor(first);
    for (let layer = 0; layer < layerNumbers.length; layer++) {
      this.#tensorLike(nameOf(layerNumbers, layer, "key"), first);
      this.#tensorLike(nameOf(layerNumbers, layer, "value"), nameOf(layerNumbers, layer, "key"));
    }
    const [kvHeads, heldTokens, headDim] = entry.shape;
    const geometry = { layerCount: layerNumbers.length, kvHeads, headDim };
    this.#agree("kv_heads", kvHeads, first);
    this.#agree("head_dim", headDim, first);
    if (heldTokens === 0) this.#fail(`${first}: shape`, "at least 1 token", entry.shape, entry.offsets[0]);
    const continuation = this.integer("continuation_tokens", 0, heldTokens);
    const context = this.integer("context_tokens", 1, heldTokens);
    if (continuation !== undefined && context !== undefined) {
      const sum = context + continuation;
      if (sum !== heldTokens)
        this.#fail(first, `context_tokens + continuation_tokens = ${sum} tokens`, heldTokens, this.#at(first));
    }
    try {
      checkGeometry(geometry);
    } catch (cause) {
      throw new UnsupportedError(`${this.#file.name}: ${first}: ${(cause as Error).message}`, { cause });
    }
    return { geometry, heldTokens, type };
  }

  /** What holds for the queries of every layer, or undefined where there are none. */
  queries(layerNumbers: number[], geometry: Geometry, heldTokens: number): Omit<QueryData, "bytes"> | undefined {
    const names = layerNumbers.map((_, layer) => nameOf(layerNumbers, layer, "query"));
    const first = names.find((name) => this.#file.tensors.has(name));
    if (first === undefined) return undefined;
    for (const name of names) this.#tensorLike(name, first);
    const { entry, type } = this.#tensor(first);
    const [queryHeads, count, headDim] = entry.shape;
    if (headDim !== geometry.headDim || queryHeads === 0 || queryHeads % geometry.kvHeads !== 0 || count === 0) {
      const expected = `[a multiple of ${geometry.kvHeads}, at least 1, ${geometry.headDim}]`;
      this.#fail(`${first}: shape`, expected, entry.shape, entry.offsets[0]);
    }
    this.#agree("query_heads", queryHeads, first);
    if (count > heldTokens) this.#fail(`${first}: shape`, `at most ${heldTokens} queries`, count, entry.offsets[0]);
    // Unless told otherwise the queries are those of the last tokens.
    const firstToken = this.integer("query_first_token", 0, heldTokens - count) ?? heldTokens - count;
    return { type, firstToken, count, queryHeads };
  }

  rotary(headDim: number, options: DumpOptions): Rotary {
    const layout = options.layout ?? this.#metadata.rope_layout ?? "half-split";
    if (layout !== "half-split" && layout !== "interleaved") {
      this.#fail("metadata rope_layout", '"half-split" or "interleaved"', layout);
    }
    const list = this.#metadata.rope_frequencies;
    if (list !== undefined) return this.#listedRotary(list, layout, headDim);
    if (options.theta !== undefined) return { layout, frequencies: frequenciesOf(options.theta, headDim / 2) };
    const text = this.#metadata.rope_theta;
    if (text === undefined) {
      this.#fail("metadata rope_theta", "a rotary theta here, rope_frequencies, or options.theta", undefined);
    }
    const theta = Number(text);
    if (text.trim() === "" || !(theta >= 1 && theta <= 1e12)) {
      this.#fail("metadata rope_theta", "a number from 1 to 1e12", text);
    }
    return { layout, frequencies: frequenciesOf(theta, headDim / 2) };
  }

  #listedRotary(text: string, layout: RotaryLayout, headDim: number): Rotary {
    const key = "metadata rope_frequencies";
    let list: unknown;
    try {
      list = JSON.parse(text);
    } catch {
      this.#fail(key, "a JSON array of numbers", text);
    }
    if (!Array.isArray(list) || !list.every((f) => typeof f === "number"))
      this.#fail(key, "a JSON array of numbers", list);
    try {
      return checkRotary({ layout, frequencies: Float64Array.from(list) }, headDim);
    } catch (cause) {
      throw new FormatError(`${this.#file.name}: ${key}: ${(cause as Error).message}`, HEADER_AT);
    }
  }

  async tokens(heldTokens: number): Promise<Int32Array | undefined> {
    const entry = this.#file.tensors.get("tokens");
    if (!entry) return undefined;
    if (entry.dtype !== "I32") this.#fail("tokens: dtype", "I32", entry.dtype, entry.offsets[0]);
    if (entry.shape.length !== 1 || entry.shape[0] !== heldTokens) {
      this.#fail("tokens: shape", `[${heldTokens}] as the keys have`, entry.shape, entry.offsets[0]);
    }
    const bytes = await this.#file.read("tokens");
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return new Int32Array(heldTokens).map((_, i) => view.getInt32(4 * i, true));
  }
}
