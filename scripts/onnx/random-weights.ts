/** Weights of a tiny decoder that was never trained: seeded noise, large enough for tokens to differ. */
import type { DecoderConfig, DecoderWeights } from "./decoder.ts";
import type { OnnxGraph } from "./graph.ts";

/** Numbers from -1 to 1 (mulberry32). */
function noise(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 31 - 1;
  };
}

export function randomWeights(config: DecoderConfig, seed = 1): DecoderWeights {
  const { hidden_size, intermediate_size, num_attention_heads, num_key_value_heads, head_dim, vocab_size } = config;
  const next = noise(seed);
  const random = (length: number, scale: number) => Float32Array.from({ length }, () => scale * next());
  const kv = num_key_value_heads * head_dim;
  const sizes: Record<string, [rows: number, columns: number]> = {
    attn_q: [num_attention_heads * head_dim, hidden_size],
    ...{ attn_k: [kv, hidden_size], attn_v: [kv, hidden_size] },
    attn_output: [hidden_size, num_attention_heads * head_dim],
    ...{ ffn_gate: [intermediate_size, hidden_size], ffn_up: [intermediate_size, hidden_size] },
    ffn_down: [hidden_size, intermediate_size],
  };
  return {
    vector: () => new Float32Array(hidden_size).fill(1),
    linear(graph: OnnxGraph, x, names, out) {
      const shapes = names.map((name) => sizes[name.split(".")[2]]);
      const rows = shapes.reduce((sum, [count]) => sum + count, 0);
      const columns = shapes[0][1];
      // As MatMul has it: (columns, rows).
      const weight = graph.floats(`${out}.weight`, random(rows * columns, 3 / Math.sqrt(columns)), [columns, rows]);
      return graph.node("MatMul", [x, weight], out);
    },
    embedding: (graph) => graph.floats("token_embd", random(vocab_size * hidden_size, 1), [vocab_size, hidden_size]),
  };
}
