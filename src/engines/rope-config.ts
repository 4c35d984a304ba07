/**
 * Rotary frequencies from what a model says of itself: the `config.json` of Hugging Face models here, GGUF metadata in
 * gguf.ts. The formulas are those of transformers, src/transformers/modeling_rope_utils.py (ROPE_INIT_FUNCTIONS).
 *
 * YaRN and its kin multiply cos and sin by an attention factor too: rotated dimensions of a cached key are that much
 * larger. The codec takes keys as they come, turns them back, and turns them again, which a factor does not change; so
 * it is left out of what follows.
 */
import { frequenciesOf, type Rotary, type RotaryLayout } from "../codec/rotary.ts";
import { brief, expectInteger, expectNumber, UnsupportedError } from "../errors.ts";

export type RopeScaling =
  | { kind: "linear"; factor: number }
  | { kind: "llama3"; factor: number; lowFactor: number; highFactor: number; originalContext: number }
  | {
      kind: "yarn";
      factor: number;
      originalContext: number;
      betaFast: number;
      betaSlow: number;
      /** Ends of the ramp at whole pairs, as in the paper's code. */
      truncate: boolean;
    };

/** Frequencies of `pairs` pairs, radians a position. */
export function scaledFrequencies(theta: number, pairs: number, scaling?: RopeScaling): Float64Array {
  const plain = frequenciesOf(theta, pairs);
  switch (scaling?.kind) {
    case undefined:
      return plain;
    case "linear":
      return plain.map((f) => f / scaling.factor);
    case "llama3":
      return plain.map((f) => llama3(f, scaling));
    case "yarn": {
      const [low, high] = yarnRamp(theta, pairs, scaling);
      return plain.map((f, i) => {
        const slow = Math.min(1, Math.max(0, (i - low) / (high - low)));
        return (f / scaling.factor) * slow + f * (1 - slow);
      });
    }
  }
}

/** Long waves slow down by the factor, short ones stay, those between are mixed (_compute_llama3_parameters). */
function llama3(f: number, scaling: RopeScaling & { kind: "llama3" }): number {
  const { factor, lowFactor, highFactor, originalContext } = scaling;
  const turns = (originalContext * f) / (2 * Math.PI);
  if (turns < lowFactor) return f / factor;
  if (turns > highFactor) return f;
  const smooth = (turns - lowFactor) / (highFactor - lowFactor);
  return ((1 - smooth) * f) / factor + smooth * f;
}

/** First and last pair of the ramp between full speed and slow (_compute_yarn_parameters; llama.cpp has the same). */
function yarnRamp(theta: number, pairs: number, scaling: RopeScaling & { kind: "yarn" }): [number, number] {
  const { originalContext, betaFast, betaSlow, truncate } = scaling;
  const pairOf = (turns: number) => (pairs * Math.log(originalContext / (turns * 2 * Math.PI))) / Math.log(theta);
  // Hosts may differ in the last bit of a logarithm; the grid takes it away, so that fingerprints agree.
  const grid = (x: number) => Math.round(x * 2 ** 20) / 2 ** 20;
  const [first, last] = [pairOf(betaFast), pairOf(betaSlow)];
  const low = Math.max(truncate ? Math.floor(first) : grid(first), 0);
  const high = Math.min(truncate ? Math.ceil(last) : grid(last), 2 * pairs - 1);
  return [low, low === high ? high + 0.001 : high];
}

type Fields = Readonly<Record<string, unknown>>;

/**
 * Models that pair dimensions 2i and 2i + 1 in transformers too; all others pair halves. Keys come back turned as they
 * came in either way: a model missing here costs bits, not sense.
 */
const INTERLEAVED = ["codegen", "cohere", "ernie4_5", "ernie4_5_moe", "glm", "glm4", "gptj", "helium"];
/** Models whose configs may lack a theta, because it was never another. */
const THETA_10000 = ["codegen", "gptj", "llama"];
/** Models whose layers do not all turn alike: local and global theta, layers without RoPE, positions in a plane. */
const MIXED = [
  "cohere2",
  "exaone4",
  "gemma3",
  "gemma3_text",
  "gemma3n",
  "gemma3n_text",
  "llama4",
  "llama4_text",
  "modernbert",
];

/** The part of a config that describes the decoder: multimodal models keep it in `text_config`. */
export function textConfig(config: unknown): Fields {
  if (!isFields(config)) throw new TypeError(`config: expected the model's config object, got ${brief(config)}`);
  return isFields(config.text_config) ? config.text_config : config;
}

const isFields = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Query heads, kv heads, head dim and layers of a config. TypeError and RangeError name the field that is wrong. */
export function shapeOfConfig(config: unknown) {
  const text = textConfig(config);
  if (typeof text.kv_lora_rank === "number") {
    throw new UnsupportedError("config.kv_lora_rank: expected full keys and values, got a latent (MLA) cache");
  }
  const queryHeads = count(text, "num_attention_heads") ?? count(text, "n_head") ?? missing("num_attention_heads");
  const layers = count(text, "num_hidden_layers") ?? count(text, "n_layer") ?? missing("num_hidden_layers");
  // Falcon has a name of its own, and in its first form a flag.
  const own = count(text, "num_kv_heads") ?? (text.multi_query === true ? 1 : queryHeads);
  const kvHeads = count(text, "num_key_value_heads") ?? own;
  const headDim = count(text, "head_dim") ?? Math.floor(widthOf(text) / queryHeads);
  return { layers, queryHeads, kvHeads, headDim };
}

const widthOf = (text: Fields): number => count(text, "hidden_size") ?? count(text, "n_embd") ?? missing("hidden_size");

/**
 * The rotary embedding of a config. UnsupportedError for those that depend on the length of the text (dynamic,
 * longrope) or on the layer, and for scalings not known here; RangeError for values out of range.
 */
export function rotaryOfConfig(config: unknown): Rotary {
  const text = textConfig(config);
  const { headDim } = shapeOfConfig(config);
  const model = String(text.model_type ?? "");
  const local = number(text, "rope_local_base_freq") !== undefined;
  if (MIXED.includes(model) || local || hasLayersWithoutRope(text)) {
    const what = `model ${brief(model)}, whose layers turn in different ways`;
    throw new UnsupportedError(`config: expected one rotary embedding for all layers, got ${what}`);
  }
  // rope_parameters (transformers 5) holds theta too; rope_scaling (before) the scaling alone.
  const rope = firstFields(text.rope_parameters, text.rope_scaling);
  if (Object.values(rope).some(isFields)) {
    throw new UnsupportedError("config.rope_parameters: expected those of all layers, got some for each layer type");
  }
  const theta =
    number(rope, "rope_theta") ??
    number(text, "rope_theta") ??
    number(text, "rotary_emb_base") ??
    (THETA_10000.includes(model) ? 10000 : missing("rope_theta"));
  const scaling = scalingOf(rope, text);
  const pairs = Math.floor(rotaryDims(rope, text, headDim) / 2);
  const layout: RotaryLayout = INTERLEAVED.includes(model) ? "interleaved" : "half-split";
  return { layout, frequencies: scaledFrequencies(expectNumber("config.rope_theta", theta, 1, 1e12), pairs, scaling) };
}

/** SmolLM3 and others: 0 in `no_rope_layers` marks a layer that does not turn. */
const hasLayersWithoutRope = (text: Fields): boolean =>
  Array.isArray(text.no_rope_layers) && text.no_rope_layers.includes(0);

const firstFields = (...values: unknown[]): Fields => values.find(isFields) ?? {};

/** Dimensions of a head that turn. */
function rotaryDims(rope: Fields, text: Fields, headDim: number): number {
  const dims = count(text, "rotary_dim");
  if (dims !== undefined) return expectInteger("config.rotary_dim", dims, 1, headDim);
  const share =
    number(rope, "partial_rotary_factor") ?? number(text, "partial_rotary_factor") ?? number(text, "rotary_pct") ?? 1;
  return Math.floor(headDim * expectNumber("config.partial_rotary_factor", share, 0, 1));
}

function scalingOf(rope: Fields, text: Fields): RopeScaling | undefined {
  const kind = rope.rope_type ?? rope.type ?? "default";
  if (rope.mrope_section !== undefined) {
    throw new UnsupportedError("config.rope_scaling: expected one position a token, got mrope_section (three)");
  }
  const factor = () => positive(rope, "factor") ?? missing("rope_scaling.factor");
  const original = positive(rope, "original_max_position_embeddings");
  const context = positive(text, "max_position_embeddings");
  switch (kind) {
    case "default":
      return undefined;
    case "linear":
      return { kind: "linear", factor: factor() };
    case "llama3":
      return {
        kind: "llama3",
        factor: factor(),
        lowFactor: positive(rope, "low_freq_factor") ?? missing("rope_scaling.low_freq_factor"),
        highFactor: positive(rope, "high_freq_factor") ?? missing("rope_scaling.high_freq_factor"),
        originalContext: original ?? missing("rope_scaling.original_max_position_embeddings"),
      };
    case "yarn":
      return {
        kind: "yarn",
        factor: factor(),
        originalContext: original ?? context ?? missing("rope_scaling.original_max_position_embeddings"),
        betaFast: positive(rope, "beta_fast") ?? 32,
        betaSlow: positive(rope, "beta_slow") ?? 1,
        truncate: rope.truncate !== false,
      };
    default: {
      const known = "default, linear, llama3 or yarn";
      const hint = kind === "dynamic" || kind === "longrope" ? " (its frequencies depend on the length)" : "";
      throw new UnsupportedError(`config.rope_scaling: expected ${known}, got ${brief(kind)}${hint}`);
    }
  }
}

function missing(field: string): never {
  throw new RangeError(`config.${field}: expected a number, got nothing`);
}

function number(fields: Fields, name: string): number | undefined {
  const value = fields[name];
  if (value === undefined || value === null) return undefined;
  return expectNumber(`config.${name}`, value, -1e15, 1e15);
}

function positive(fields: Fields, name: string): number | undefined {
  const value = number(fields, name);
  return value === undefined ? undefined : expectNumber(`config.${name}`, value, 1e-9, 1e15);
}

function count(fields: Fields, name: string): number | undefined {
  const value = number(fields, name);
  return value === undefined ? undefined : expectInteger(`config.${name}`, value, 1, 1 << 30);
}
