/** A made-up cache as the state file of a llama.cpp sequence, and the model that it is of. */
import { type GgufModel, llamaStateOf } from "../../src/engines/llama-cpp.ts";
import { TinyCache } from "./tiny-cache.ts";

/** The model of `llamaKeys`: 2 layers, 2 kv heads, head dim 32. */
export const tinyLlama = (tokens: number): TinyCache => new TinyCache({ layout: "interleaved", tokens });

export const modelOfTiny = ({ geometry, rotary }: TinyCache): GgufModel => ({
  ...{ architecture: "llama", geometry, rotary, model: "Tiny#llama" },
});

export function tinyState(cache: TinyCache, valuesTransposed = false, tokens = cache.tokens!): Uint8Array {
  const cells = cache.tokenCount;
  const skeleton = {
    ...{ tokens, streams: 1, stream: 0, valuesTransposed },
    positions: Int32Array.from({ length: cells }, (_, i) => i),
    sequences: new Int32Array(cells),
  };
  const { type } = cache.layers[0].key;
  return llamaStateOf(skeleton, cache.geometry, type, (layer) => ({
    key: cache.layers[layer].key.bytes,
    value: cache.layers[layer].value.bytes,
  }));
}
