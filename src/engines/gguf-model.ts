/**
 * What the keys of a GGUF file say of a model's cache: its shape, and how llama.cpp turns its keys. Names and defaults
 * are those of llama.cpp, src/llama-model.cpp (load_hparams and llama_model_rope_type).
 */

import type { ByteSource } from "../archive/random-access.ts";
import type { Geometry } from "../codec/geometry.ts";
import type { Rotary, RotaryLayout } from "../codec/rotary.ts";
import { brief, expectInteger, expectNumber, FormatError, UnsupportedError } from "../errors.ts";
import { type GgufFile, openGguf } from "./gguf.ts";
import { supportedGeometry } from "./limits.ts";
import { type RopeScaling, scaledFrequencies } from "./rope-config.ts";

export interface GgufModel {
  architecture: string;
  geometry: Geometry;
  rotary: Rotary;
  /** Name and shape, for `CacheSource.model`. Quantizations of one model have the same. */
  model: string;
}

/**
 * Architectures with one plain cache: every layer keeps all tokens and turns them alike. llama.cpp pairs neighbours
 * (LLAMA_ROPE_TYPE_NORM) or halves (LLAMA_ROPE_TYPE_NEOX); rows of the llama family are permuted to fit.
 */
const LAYOUTS: Record<RotaryLayout, string[]> = {
  interleaved: [
    ...["llama", "mistral3", "baichuan", "internlm2", "minicpm", "xverse", "command-r", "olmo", "deepseek", "chatglm"],
    ...["granite", "granitemoe", "bailingmoe", "arcee", "ernie4_5", "ernie4_5-moe", "glm4"],
  ],
  "half-split": [
    ...["qwen", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "phi2", "phi3", "phimoe", "gemma", "stablelm", "starcoder2"],
    ...["gptneox", "falcon", "orion", "nemotron", "exaone", "olmo2", "olmoe", "seed_oss", "apertus", "codeshell"],
  ],
};

/** F32 in ggml's numbering. */
const F32 = 0;

/** Opens, reads and closes a GGUF file. FormatError; UnsupportedError for models whose caches are not plain. */
export async function readGgufModel(source: ByteSource): Promise<GgufModel> {
  const file = await openGguf(source);
  try {
    return await modelOf(file);
  } finally {
    await file.close();
  }
}

async function modelOf(file: GgufFile): Promise<GgufModel> {
  const keys = new Keys(file);
  const { architecture } = keys;
  const layout =
    (Object.keys(LAYOUTS) as RotaryLayout[]).find((name) => LAYOUTS[name].includes(architecture)) ??
    keys.refuse("general.architecture", "one whose layers keep all tokens and turn alike", architecture);
  refuseOtherCaches(keys);
  const layers = keys.integer("block_count") ?? keys.missing("block_count");
  const heads = keys.integer("attention.head_count") ?? keys.missing("attention.head_count");
  const width = keys.integer("embedding_length") ?? keys.missing("embedding_length");
  const kvHeads = keys.integer("attention.head_count_kv") ?? heads;
  const headDim = keys.integer("attention.key_length") ?? Math.floor(width / heads);
  const valueDim = keys.integer("attention.value_length") ?? Math.floor(width / heads);
  if (valueDim !== headDim) keys.refuse("attention.value_length", `${headDim} as keys have`, valueDim);
  const geometry = supportedGeometry({ layerCount: layers, kvHeads, headDim });
  const vocabulary = file.values.get("tokenizer.ggml.tokens");
  const words = typeof vocabulary === "object" ? vocabulary.count : "";
  return {
    architecture,
    geometry,
    rotary: { layout, frequencies: await frequenciesOfKeys(file, keys, headDim) },
    model: `${keys.name}#${[architecture, layers, heads, kvHeads, headDim, width, words].join("/")}`,
  };
}

function refuseOtherCaches(keys: Keys): void {
  const refuse = (key: string, what: string): void => {
    const value = keys.number(key);
    if (value) keys.refuse(key, `no ${what} cache`, value);
  };
  refuse("attention.sliding_window", "sliding-window");
  refuse("attention.kv_lora_rank", "latent (MLA)");
  refuse("attention.key_length_mla", "latent (MLA)");
  refuse("ssm.state_size", "recurrent");
  if (keys.has("rope.dimension_sections")) {
    keys.refuse("rope.dimension_sections", "one position a token", "several");
  }
}

async function frequenciesOfKeys(file: GgufFile, keys: Keys, headDim: number): Promise<Float64Array> {
  const theta = keys.number("rope.freq_base") ?? 10000;
  const dims = keys.integer("rope.dimension_count") ?? headDim;
  keys.check("rope.dimension_count", () => expectInteger("dimensions", dims, 2, headDim));
  const pairs = Math.floor(dims / 2);
  if (file.tensors.has("rope_factors_long.weight")) {
    keys.refuse("rope_factors_long.weight", "frequencies that do not depend on the length", "two sets of them");
  }
  const frequencies = keys.check("rope.freq_base", () => scaledFrequencies(theta, pairs, scalingOf(keys)));
  const factors = await ropeFactors(file, pairs);
  return factors ? frequencies.map((f, i) => f / factors[i]) : frequencies;
}

/** llama3 scaling comes as a tensor of divisors; ggml_rope divides by them. */
async function ropeFactors(file: GgufFile, pairs: number): Promise<Float32Array | undefined> {
  const name = "rope_freqs.weight";
  const tensor = file.tensors.get(name);
  if (!tensor) return undefined;
  const { type, dimensions, offset } = tensor;
  if (type !== F32 || dimensions.length !== 1 || dimensions[0] !== pairs) {
    const got = `type ${type} [${dimensions.join(", ")}]`;
    throw new FormatError(`${file.name}: ${name}: expected f32 (type 0) [${pairs}], got ${got}`, offset);
  }
  const bytes = await file.read(offset, 4 * pairs);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const factors = new Float32Array(pairs).map((_, i) => view.getFloat32(4 * i, true));
  const bad = factors.findIndex((factor) => !(factor >= 1e-6 && factor <= 1e6));
  if (bad < 0) return factors;
  throw new FormatError(`${file.name}: ${name}[${bad}]: expected a positive factor, got ${factors[bad]}`, offset);
}

function scalingOf(keys: Keys): RopeScaling | undefined {
  const type = keys.string("rope.scaling.type") ?? "linear";
  const factor = keys.number("rope.scaling.factor") ?? keys.number("rope.scale_linear") ?? 0;
  if (type === "none" || factor === 0) return undefined;
  keys.check("rope.scaling.factor", () => expectNumber("factor", factor, 1e-6, 1e6));
  if (type === "linear") return { kind: "linear", factor };
  if (type !== "yarn") keys.refuse("rope.scaling.type", "none, linear or yarn", type);
  const mixed = keys.number("rope.scaling.yarn_ext_factor") ?? 1;
  if (mixed !== 1) keys.refuse("rope.scaling.yarn_ext_factor", "1", mixed);
  const trained = keys.integer("context_length") ?? keys.missing("context_length");
  return {
    ...{ kind: "yarn", factor, truncate: true },
    originalContext: keys.integer("rope.scaling.original_context_length") ?? trained,
    betaFast: keys.number("rope.scaling.yarn_beta_fast") ?? 32,
    betaSlow: keys.number("rope.scaling.yarn_beta_slow") ?? 1,
  };
}

/** Keys of one architecture, checked. Messages name the file and the whole key. */
class Keys {
  readonly architecture: string;
  /** general.name, or "". */
  readonly name: string;
  readonly #file: GgufFile;

  constructor(file: GgufFile) {
    this.#file = file;
    const architecture = file.values.get("general.architecture");
    if (typeof architecture !== "string") this.#fail("general.architecture", "a string", architecture);
    this.architecture = architecture;
    const name = file.values.get("general.name");
    this.name = typeof name === "string" ? name : "";
  }

  /** Keys lie behind one another without an index, so the fault is said to be at the start. */
  #fail(key: string, expected: string, got: unknown): never {
    throw new FormatError(`${this.#file.name}: ${key}: expected ${expected}, got ${brief(got)}`);
  }

  #whole = (key: string): string => (key.startsWith("general.") ? key : `${this.architecture}.${key}`);

  missing(key: string): never {
    this.#fail(this.#whole(key), "a number", undefined);
  }

  refuse(key: string, expected: string, got: unknown): never {
    throw new UnsupportedError(`${this.#file.name}: ${this.#whole(key)}: expected ${expected}, got ${brief(got)}`);
  }

  /** A RangeError of a check becomes a FormatError. */
  check<T>(key: string, run: () => T): T {
    try {
      return run();
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw new FormatError(`${this.#file.name}: ${this.#whole(key)}: ${error.message}`);
    }
  }

  has(key: string): boolean {
    return this.#file.values.has(this.#whole(key));
  }

  string(key: string): string | undefined {
    const value = this.#file.values.get(this.#whole(key));
    if (value === undefined || typeof value === "string") return value;
    this.#fail(this.#whole(key), "a string", value);
  }

  /** A number, or an array with one number for each layer: all the same. */
  number(key: string): number | undefined {
    let value = this.#file.values.get(this.#whole(key));
    if (typeof value === "object" && value.numbers && value.count > 0) {
      const [first] = value.numbers;
      if (value.numbers.some((other) => other !== first)) {
        this.refuse(key, "the same in all layers", value.numbers.slice(0, 8));
      }
      value = first;
    }
    if (value === undefined || (typeof value === "number" && Number.isFinite(value))) return value;
    this.#fail(this.#whole(key), "a number", value);
  }

  /** An integer above 0. */
  integer(key: string): number | undefined {
    const value = this.number(key);
    if (value === undefined || (Number.isInteger(value) && value > 0 && value <= 2 ** 31)) return value;
    this.#fail(this.#whole(key), "an integer above 0", value);
  }
}
