/**
 * A decoder of the llama family as an ONNX model, with the inputs and outputs that Transformers.js expects of one:
 * input_ids, attention_mask, num_logits_to_keep, past_key_values.N.key and .value; logits, present.N.key and .value.
 * Keys are cached after RoPE, by onnxruntime's GroupQueryAttention; there are no position_ids.
 */
import { frequenciesOf } from "../../src/codec/rotary.ts";
import { MICROSOFT, OnnxGraph } from "./graph.ts";

/** Fields of a Hugging Face config.json. */
export interface DecoderConfig {
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  num_key_value_heads: number;
  head_dim: number;
  vocab_size: number;
  max_position_embeddings: number;
  rope_theta: number;
  rms_norm_eps: number;
}

/** Where weights come from: each adds what it needs to the graph. Names are those of GGUF, without ".weight". */
export interface DecoderWeights {
  vector(name: string): Float32Array;
  /** x W' for the rows of one or more matrices under one another; gives the output's name, `out`. */
  linear(graph: OnnxGraph, x: string, names: string[], out: string): string;
  /** The name of the table (vocabulary, hidden) f32. */
  embedding(graph: OnnxGraph): string;
}

/** The file. The cache, and attention with it, is of `type`; everything else is f32. */
export function decoderModel(config: DecoderConfig, weights: DecoderWeights, type: "float32" | "float16"): Uint8Array {
  const graph = new OnnxGraph();
  const decoder = new Decoder(graph, config, weights, type);
  decoder.ends();
  let state = decoder.start();
  for (let layer = 0; layer < config.num_hidden_layers; layer++) state = decoder.layer(layer, state);
  decoder.logits(state.normed);
  return graph.bytes("decoder");
}

/** Names of what flows between layers: the residual stream, and the same after its norm. */
interface State {
  stream: string;
  normed: string;
}

class Decoder {
  readonly #graph: OnnxGraph;
  readonly #config: DecoderConfig;
  readonly #weights: DecoderWeights;
  readonly #type: "float32" | "float16";
  readonly #table: string;

  constructor(graph: OnnxGraph, config: DecoderConfig, weights: DecoderWeights, type: "float32" | "float16") {
    this.#graph = graph;
    this.#config = config;
    this.#weights = weights;
    this.#type = type;
    this.#table = weights.embedding(graph);
  }

  ends(): void {
    const { num_hidden_layers, num_key_value_heads, head_dim, vocab_size } = this.#config;
    this.#graph.input("input_ids", "int64", ["batch_size", "sequence_length"]);
    this.#graph.input("attention_mask", "int64", ["batch_size", "total_sequence_length"]);
    this.#graph.input("num_logits_to_keep", "int64", []);
    this.#graph.output("logits", "float32", ["batch_size", "num_logits", vocab_size]);
    for (let layer = 0; layer < num_hidden_layers; layer++) {
      for (const part of ["key", "value"]) {
        const dims = (tokens: string) => ["batch_size", num_key_value_heads, tokens, head_dim];
        this.#graph.input(`past_key_values.${layer}.${part}`, this.#type, dims("past_sequence_length"));
        this.#graph.output(`present.${layer}.${part}`, this.#type, dims("total_sequence_length"));
      }
    }
  }

  start(): State {
    const graph = this.#graph;
    const { rms_norm_eps } = this.#config;
    const stream = graph.node("Gather", [this.#table, "input_ids"], "stream");
    // What GroupQueryAttention wants of the mask: the last position, and the length with the past.
    const sum = graph.node("ReduceSum", ["attention_mask", graph.integers(1)], "mask.sum", { keepdims: 0 });
    const last = graph.node("Sub", [sum, graph.integers(1)], "mask.last");
    graph.node("Cast", [last], "last_positions", { to: 6 });
    const one = graph.constant("one", "int64", [], BigInt64Array.of(1n));
    const length = graph.node("Gather", [graph.node("Shape", ["attention_mask"], "mask.shape"), one], "mask.length");
    graph.node("Cast", [length], "length", { to: 6 });
    this.#angles();
    const norm = graph.floats("norm", this.#weights.vector("blk.0.attn_norm"));
    const attributes = { axis: 2, epsilon: { float: rms_norm_eps } };
    return { stream, normed: graph.node("SimplifiedLayerNormalization", [stream, norm], "normed", attributes) };
  }

  /** Tables of cos and sin (positions, pairs), in the cache's type. */
  #angles(): void {
    const { max_position_embeddings, rope_theta, head_dim } = this.#config;
    const frequencies = frequenciesOf(rope_theta, head_dim / 2);
    for (const [name, turn] of [
      ["cos", Math.cos],
      ["sin", Math.sin],
    ] as const) {
      const table = Float32Array.from({ length: max_position_embeddings * frequencies.length }, (_, i) =>
        turn(Math.floor(i / frequencies.length) * frequencies[i % frequencies.length]),
      ); // biome-ignore format: a pair
      const dims = [max_position_embeddings, frequencies.length];
      this.#cast(this.#graph.floats(`${name}.f32`, table, dims), name, this.#type);
    }
  }

  #cast = (from: string, to: string, type: "float32" | "float16"): string =>
    this.#graph.node("Cast", [from], to, { to: type === "float32" ? 1 : 10 });

  layer(layer: number, { stream, normed }: State): State {
    const { num_hidden_layers, num_attention_heads, num_key_value_heads } = this.#config;
    const graph = this.#graph;
    const weight = (name: string) => `blk.${layer}.${name}`;
    const linear = (x: string, names: string[]): string =>
      this.#weights.linear(graph, x, names.map(weight), `layers.${layer}.${names.join("_")}`);
    const qkv = this.#cast(linear(normed, ["attn_q", "attn_k", "attn_v"]), `layers.${layer}.qkv`, this.#type);
    const past = ["key", "value"].map((part) => `past_key_values.${layer}.${part}`);
    const present = ["key", "value"].map((part) => `present.${layer}.${part}`);
    graph.node(
      "GroupQueryAttention",
      [qkv, "", "", ...past, "last_positions", "length", "cos", "sin"],
      [`layers.${layer}.heads`, ...present],
      { num_heads: num_attention_heads, kv_num_heads: num_key_value_heads, do_rotary: 1 },
      MICROSOFT,
    );
    const heads = this.#cast(`layers.${layer}.heads`, `layers.${layer}.attention`, "float32");
    const middle = this.#add(stream, linear(heads, ["attn_output"]), weight("ffn_norm"));
    const gate = linear(middle.normed, ["ffn_gate"]);
    const open = graph.node("Mul", [gate, graph.node("Sigmoid", [gate], `${gate}.sigmoid`)], `${gate}.silu`);
    const hidden = graph.node("Mul", [open, linear(middle.normed, ["ffn_up"])], `layers.${layer}.hidden`);
    const next = layer + 1 < num_hidden_layers ? `blk.${layer + 1}.attn_norm` : "output_norm";
    return this.#add(middle.stream, linear(hidden, ["ffn_down"]), next);
  }

  /** Adds to the residual stream, and the norm of the sum. */
  #add(stream: string, change: string, norm: string): State {
    const weight = this.#graph.floats(norm, this.#weights.vector(norm));
    const [normed, sum] = [`${norm}.normed`, `${norm}.stream`];
    const epsilon = { float: this.#config.rms_norm_eps };
    const outputs = [normed, "", "", sum];
    const inputs = [stream, change, weight];
    this.#graph.node("SkipSimplifiedLayerNormalization", inputs, outputs, { epsilon }, MICROSOFT);
    return { stream: sum, normed };
  }

  /** Logits of the last `num_logits_to_keep` tokens, of all for 0 (the slice begins at -0). */
  logits(normed: string): void {
    const graph = this.#graph;
    const negative = graph.node("Neg", ["num_logits_to_keep"], "keep.negative");
    const start = graph.node("Unsqueeze", [negative, graph.integers(0)], "keep.start");
    const kept = graph.node("Slice", [normed, start, graph.integers(2 ** 31), graph.integers(1)], "kept");
    graph.node(
      "MatMul",
      [kept, graph.node("Transpose", [this.#table], "table.turned", { perm: { ints: [1, 0] } })],
      "logits",
    );
  }
}
