/** A decoder of two layers that was never trained, and token ids to give it. */
import { type DecoderConfig, decoderModel } from "../../scripts/onnx/decoder.ts";
import { randomWeights } from "../../scripts/onnx/random-weights.ts";

export const TINY: DecoderConfig & Record<string, unknown> = {
  ...{ model_type: "llama", architectures: ["LlamaForCausalLM"], bos_token_id: 1, eos_token_id: 2 },
  ...{ hidden_size: 128, intermediate_size: 192, num_hidden_layers: 2, vocab_size: 256 },
  ...{ num_attention_heads: 4, num_key_value_heads: 2, head_dim: 32 },
  ...{ max_position_embeddings: 512, rope_theta: 10000, rms_norm_eps: 1e-5 },
};

export const tinyDecoder = (type: "float32" | "float16" = "float32"): Uint8Array =>
  decoderModel(TINY, randomWeights(TINY), type);

/** Ids from 3, so that none ends a text. */
export const tinyTokens = (count: number): number[] =>
  Array.from({ length: count }, (_, i) => 3 + ((i * i * 7 + i) % 250));
