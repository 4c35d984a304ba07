/** Shapes of well-known models' caches; compared with the configs in litgpt 0.5.13, which are those of Hugging Face. */
import type { Geometry } from "../codec/geometry.ts";

export interface KnownModel extends Geometry {
  name: string;
  /** What it is called on the command line. */
  key: string;
}

const model = (name: string, key: string, layerCount: number, kvHeads: number, headDim: number): KnownModel => ({
  ...{ name, key, layerCount, kvHeads, headDim },
});

export const KNOWN_MODELS: KnownModel[] = [
  model("SmolLM2 135M", "smollm2-135m", 30, 3, 64),
  model("SmolLM2 360M", "smollm2-360m", 32, 5, 64),
  model("SmolLM2 1.7B", "smollm2-1.7b", 24, 32, 64),
  model("TinyLlama 1.1B", "tinyllama-1.1b", 22, 4, 64),
  model("Qwen2.5 0.5B", "qwen2.5-0.5b", 24, 2, 64),
  model("Qwen2.5 1.5B", "qwen2.5-1.5b", 28, 2, 128),
  model("Qwen2.5 7B", "qwen2.5-7b", 28, 4, 128),
  model("Qwen3 0.6B", "qwen3-0.6b", 28, 8, 128),
  model("Qwen3 4B", "qwen3-4b", 36, 8, 128),
  model("Qwen3 8B", "qwen3-8b", 36, 8, 128),
  model("Llama 3.2 1B", "llama-3.2-1b", 16, 8, 64),
  model("Llama 3.2 3B", "llama-3.2-3b", 28, 8, 128),
  model("Llama 3.1 8B", "llama-3.1-8b", 32, 8, 128),
  model("Llama 3.1 70B", "llama-3.1-70b", 80, 8, 128),
  model("Phi-3 mini", "phi-3-mini", 32, 32, 96),
  model("Mistral 7B v0.3", "mistral-7b-v0.3", 32, 8, 128),
];
