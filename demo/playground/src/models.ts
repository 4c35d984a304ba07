/**
 * Shapes of well-known models' caches, from the config.json that each repository on Hugging Face has:
 * num_hidden_layers, num_key_value_heads, and head_dim or hidden_size / num_attention_heads.
 */
import type { Geometry } from "../../../src/codec/geometry.ts";

export interface KnownModel extends Geometry {
  name: string;
  /** Repository with the config.json. */
  source: string;
}

const model = (name: string, source: string, layerCount: number, kvHeads: number, headDim: number): KnownModel => ({
  ...{ name, source, layerCount, kvHeads, headDim },
});

export const KNOWN_MODELS: KnownModel[] = [
  model("SmolLM2 135M", "HuggingFaceTB/SmolLM2-135M-Instruct", 30, 3, 64),
  model("Qwen2.5 0.5B", "Qwen/Qwen2.5-0.5B-Instruct", 24, 2, 64),
  model("Qwen3 0.6B", "Qwen/Qwen3-0.6B", 28, 8, 128),
  model("Llama 3.2 1B", "meta-llama/Llama-3.2-1B-Instruct", 16, 8, 64),
  model("Llama 3.2 3B", "meta-llama/Llama-3.2-3B-Instruct", 28, 8, 128),
  model("Phi-3 mini", "microsoft/Phi-3-mini-4k-instruct", 32, 32, 96),
  model("Mistral 7B", "mistralai/Mistral-7B-Instruct-v0.3", 32, 8, 128),
  model("Qwen2.5 7B", "Qwen/Qwen2.5-7B-Instruct", 28, 4, 128),
  model("Llama 3.1 8B", "meta-llama/Llama-3.1-8B-Instruct", 32, 8, 128),
  model("Qwen3 8B", "Qwen/Qwen3-8B", 36, 8, 128),
  model("Mistral Nemo 12B", "mistralai/Mistral-Nemo-Instruct-2407", 40, 8, 128),
  model("Llama 3.1 70B", "meta-llama/Llama-3.1-70B-Instruct", 80, 8, 128),
];

/** Lengths that the projection is offered for. */
export const LENGTHS = [2048, 4096, 8192, 16384, 32768, 65536, 131072];
