/** Rotary frequencies of configs as models publish them, and configs that are refused. */
import { describe, expect, it } from "vitest";
import { frequenciesOf } from "../../src/codec/rotary.ts";
import { rotaryOfConfig, shapeOfConfig } from "../../src/engines/rope-config.ts";
import { UnsupportedError } from "../../src/errors.ts";
import { failureOf } from "../support/failure.ts";

const SMOLLM2 = {
  ...{ model_type: "llama", hidden_size: 576, num_hidden_layers: 30, num_attention_heads: 9, num_key_value_heads: 3 },
  ...{ rope_theta: 100000, rope_scaling: null, max_position_embeddings: 8192, vocab_size: 49152 },
};
const LLAMA32 = {
  ...{ model_type: "llama", hidden_size: 2048, num_hidden_layers: 16, num_attention_heads: 32, num_key_value_heads: 8 },
  ...{ head_dim: 64, rope_theta: 500000, max_position_embeddings: 131072 },
  rope_scaling: {
    ...{ rope_type: "llama3", factor: 32, low_freq_factor: 1, high_freq_factor: 4 },
    original_max_position_embeddings: 8192,
  },
};
const QWEN25 = {
  ...{ model_type: "qwen2", hidden_size: 3584, num_hidden_layers: 28, num_attention_heads: 28, num_key_value_heads: 4 },
  ...{ rope_theta: 1000000, max_position_embeddings: 32768, rope_scaling: { type: "yarn", factor: 4 } },
};
const GPT_OSS = {
  ...{ model_type: "gpt_oss", hidden_size: 2880, num_hidden_layers: 24, num_attention_heads: 64 },
  ...{ num_key_value_heads: 8, head_dim: 64, max_position_embeddings: 131072 },
  rope_parameters: {
    ...{ rope_type: "yarn", rope_theta: 150000, factor: 32, beta_fast: 32, beta_slow: 1, truncate: false },
    original_max_position_embeddings: 4096,
  },
};
const LINEAR = {
  ...{ model_type: "llama", hidden_size: 4096, num_hidden_layers: 32, num_attention_heads: 32 },
  ...{ rope_theta: 10000, rope_scaling: { type: "linear", factor: 4 } },
};
const PHI = {
  ...{ model_type: "phi", hidden_size: 2048, num_hidden_layers: 24, num_attention_heads: 32, head_dim: null },
  ...{ rope_theta: 10000, partial_rotary_factor: 0.5 },
};

describe("frequencies of", () => {
  /** Some pairs each, by the formulas of modeling_rope_utils.py in numpy, f64, rounded to 12 digits. */
  it.each<[string, object, number, Record<number, number>]>([
    ["SmolLM2, plain", SMOLLM2, 32,
      { 0: 1, 1: 0.69783058486, 8: 0.056234132519, 16: 0.00316227766017, 31: 1.43301257024e-5 }],
    ["Llama 3.2, llama3", LLAMA32, 32,
      { 0: 1, 12: 0.00729266473722, 16: 0.000429556796559, 20: 8.57025548988e-6, 31: 9.41830672543e-8 }],
    ["Qwen 2.5, yarn", QWEN25, 64,
      { 0: 1, 16: 0.0316227766017, 24: 0.00537532149079, 32: 0.000602941176471, 40: 4.4456985251e-5,
        63: 3.10234440188e-7 }],
    ["gpt-oss, yarn with the ends of its ramp between pairs", GPT_OSS, 32,
      { 0: 1, 8: 0.0508132748155, 12: 0.00679495948973, 16: 0.000456483919223, 31: 3.02351142812e-7 }],
    ["a llama with linear scaling", LINEAR, 64, { 0: 0.25, 1: 0.21649108084, 32: 0.0025, 63: 2.88695496172e-5 }],
    ["Phi, half of each head", PHI, 16, { 0: 1, 1: 0.56234132519, 8: 0.01, 15: 0.000177827941004 }],
  ])("%s", (_, config, pairs, expected) => {
    const { layout, frequencies } = rotaryOfConfig(config);
    expect([layout, frequencies.length]).toEqual(["half-split", pairs]);
    for (const [i, f] of Object.entries(expected)) {
      // Twelve digits; the grid of an untruncated ramp moves a frequency by less than one part in a million.
      expect(Math.abs(frequencies[Number(i)] / f - 1), `pair ${i}`).toBeLessThan(config === GPT_OSS ? 1e-6 : 1e-11);
    }
  }); // biome-ignore format: a table

  it("a yarn that turns nothing slower than it was: a ramp without length", () => {
    const { frequencies } = rotaryOfConfig({
      ...{ ...QWEN25, head_dim: 32, rope_theta: 1.5, max_position_embeddings: 1000 },
      rope_scaling: { rope_type: "yarn", factor: 2, beta_fast: 1e9, beta_slow: 1e9 },
    });
    expect(frequencies.every(Number.isFinite)).toBe(true);
  });

  it("models that pair neighbours", () => {
    for (const model_type of ["cohere", "glm4", "gptj"]) {
      expect(rotaryOfConfig({ ...SMOLLM2, model_type }).layout).toBe("interleaved");
    }
  });

  it("configs that say it in other places", () => {
    const { rope_theta, rope_scaling, ...rest } = SMOLLM2;
    const plain = rotaryOfConfig(SMOLLM2);
    expect(rotaryOfConfig({ model_type: "llava", text_config: SMOLLM2 })).toEqual(plain);
    expect(rotaryOfConfig({ ...rest, rope_parameters: { rope_theta, rope_type: "default" } })).toEqual(plain);
    expect(rotaryOfConfig({ ...rest, rotary_emb_base: rope_theta })).toEqual(plain);
    // Llama 1 and 2 were published before there was a field.
    expect(rotaryOfConfig(rest).frequencies).toEqual(frequenciesOf(10000, 32));
    const gptj = { model_type: "gptj", n_embd: 4096, n_head: 16, n_layer: 28, rotary_dim: 64 };
    expect(rotaryOfConfig(gptj)).toEqual({ layout: "interleaved", frequencies: frequenciesOf(10000, 32) });
    const share = { rope_theta, partial_rotary_factor: 0.25 };
    expect(rotaryOfConfig({ ...rest, rope_parameters: share }).frequencies).toEqual(frequenciesOf(1e5, 8));
  });
});

it("shapes", () => {
  expect(shapeOfConfig(SMOLLM2)).toEqual({ layers: 30, queryHeads: 9, kvHeads: 3, headDim: 64 });
  expect(shapeOfConfig(LINEAR)).toEqual({ layers: 32, queryHeads: 32, kvHeads: 32, headDim: 128 });
  expect(shapeOfConfig({ ...LINEAR, num_kv_heads: 8 }).kvHeads).toBe(8);
  expect(shapeOfConfig({ ...LINEAR, multi_query: true }).kvHeads).toBe(1);
});

describe("refused:", () => {
  const scaled = (rope_scaling: object) => ({ ...SMOLLM2, rope_scaling });
  it.each<[string, object, RegExp]>([
    ["dynamic", scaled({ type: "dynamic", factor: 2 }), /got "dynamic" \(its frequencies depend on the length\)/],
    ["longrope", scaled({ type: "longrope" }), /depend on the length/],
    ["unknown scalings", scaled({ type: "new" }), /expected default, linear, llama3 or yarn, got "new"/],
    ["three positions a token", scaled({ type: "default", mrope_section: [16, 24, 24] }), /one position a token/],
    ["local and global theta", { ...SMOLLM2, rope_local_base_freq: 10000 }, /one rotary embedding for all layers/],
    ["models known to mix", { ...SMOLLM2, model_type: "gemma3_text" }, /"gemma3_text", whose layers turn in/],
    ["layers without RoPE", { ...SMOLLM2, no_rope_layers: [1, 1, 1, 0] }, /whose layers turn in different ways/],
    ["parameters of layer types", { ...SMOLLM2, rope_parameters: { full_attention: {} } }, /for each layer type/],
    ["latent caches", { ...SMOLLM2, kv_lora_rank: 512 }, /latent \(MLA\)/],
  ])("%s", async (_, config, message) => {
    const error = await failureOf(() => rotaryOfConfig(config));
    expect(error).toBeInstanceOf(UnsupportedError);
    expect(error.message).toMatch(message);
  });

  it.each<[string, object, RegExp]>([
    [
      "no theta",
      { ...SMOLLM2, model_type: "gpt2", rope_theta: undefined },
      /config\.rope_theta: expected a number, got/,
    ],
    ["a theta below 1", { ...SMOLLM2, rope_theta: 0.5 }, /config\.rope_theta: expected a number from 1/],
    ["a theta in words", { ...SMOLLM2, rope_theta: "1e5" }, /config\.rope_theta: expected a number/],
    ["no heads", { ...SMOLLM2, num_attention_heads: undefined }, /config\.num_attention_heads/],
    ["heads in parts", { ...SMOLLM2, num_attention_heads: 4.5 }, /config\.num_attention_heads: expected an integer/],
    ["no width", { ...SMOLLM2, hidden_size: undefined }, /config\.hidden_size/],
    ["no layers", { ...SMOLLM2, num_hidden_layers: undefined }, /config\.num_hidden_layers/],
    ["more rotary than head", { ...SMOLLM2, rotary_dim: 128 }, /config\.rotary_dim: expected an integer from 1 to 64/],
    ["a share above 1", { ...SMOLLM2, partial_rotary_factor: 1.5 }, /config\.partial_rotary_factor/],
    ["linear without a factor", scaled({ type: "linear" }), /config\.rope_scaling\.factor/],
    ["a factor of 0", scaled({ type: "linear", factor: 0 }), /config\.factor: expected a number from 1e-9/],
    ["llama3 without its fields", scaled({ rope_type: "llama3", factor: 8 }), /low_freq_factor/],
  ])("%s (RangeError)", async (_, config, message) => {
    const error = await failureOf(() => rotaryOfConfig(config));
    expect(error).toBeInstanceOf(RangeError);
    expect(error.message).toMatch(message);
  });

  it("no config (TypeError)", async () => {
    for (const config of [undefined, null, "llama", []]) {
      expect(await failureOf(() => rotaryOfConfig(config))).toBeInstanceOf(TypeError);
    }
  });
});
