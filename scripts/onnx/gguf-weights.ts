/**
 * Weights of a GGUF file (llama family, matrices Q4_1, table Q8_0) as onnxruntime takes them, without loss: Q4_1 is
 * d q + m a block of 32 (ggml-quants.h), MatMulNBits d (q - 8); the difference, m + 8 d times the block's sum of x, is
 * a small MatMul beside it. Rows of queries and keys are put back from neighbours to halves, as config.json has them.
 */
import { fromHalf } from "../../src/codec/half.ts";
import { type GgufFile, openGguf } from "../../src/engines/gguf.ts";
import type { DecoderConfig, DecoderWeights } from "./decoder.ts";
import { MICROSOFT, type OnnxGraph } from "./graph.ts";

const BLOCK = 32;
const [F32, Q4_1, Q8_0] = [0, 3, 8];
const [Q4_1_BYTES, Q8_0_BYTES] = [20, 34];

/** Every block's scale and 4-bit numbers (two a byte, neighbours), and what MatMulNBits leaves out. */
interface Matrix {
  rows: number;
  columns: number;
  packed: Uint8Array;
  scales: Float32Array;
  /** m + 8 d: (rows, blocks of a row). */
  rests: Float32Array;
}

export interface GgufDecoder {
  config: DecoderConfig & Record<string, unknown>;
  weights: DecoderWeights;
}

/** Reads all weights of a file. */
export async function readGgufDecoder(path: string): Promise<GgufDecoder> {
  const file = await openGguf(path);
  try {
    const config = configOf(file);
    const [vectors, matrices] = [new Map<string, Float32Array>(), new Map<string, Matrix>()];
    for (const [whole, { dimensions, type, offset }] of file.tensors) {
      const name = whole.replace(/\.weight$/, "");
      const count = dimensions.reduce((product, size) => product * size, 1);
      if (type === F32) {
        vectors.set(name, new Float32Array((await file.read(offset, 4 * count)).slice().buffer));
      } else if (type === Q4_1) {
        const bytes = await file.read(offset, (count / BLOCK) * Q4_1_BYTES);
        matrices.set(name, matrixOf(bytes, dimensions, /_[qk]$/.test(name) ? config.head_dim : 1));
      } else if (type !== Q8_0) throw new Error(`${path}: ${whole}: expected f32, Q4_1 or Q8_0, got type ${type}`);
    }
    const table = file.tensors.get("token_embd.weight")!;
    const count = config.vocab_size * config.hidden_size;
    const tableBytes = await file.read(table.offset, (count / BLOCK) * Q8_0_BYTES);
    return { config, weights: weightsOf(config, vectors, matrices, tableBytes) };
  } finally {
    await file.close();
  }
}

function configOf(file: GgufFile): GgufDecoder["config"] {
  const number = (key: string) => Number(file.values.get(key));
  const llama = (key: string) => number(`llama.${key}`);
  const [hidden_size, num_attention_heads] = [llama("embedding_length"), llama("attention.head_count")];
  return {
    ...{ model_type: "llama", architectures: ["LlamaForCausalLM"], hidden_act: "silu", tie_word_embeddings: true },
    ...{ hidden_size, num_attention_heads, head_dim: hidden_size / num_attention_heads },
    intermediate_size: llama("feed_forward_length"),
    num_hidden_layers: llama("block_count"),
    num_key_value_heads: llama("attention.head_count_kv"),
    vocab_size: file.tensors.get("token_embd.weight")!.dimensions[1],
    max_position_embeddings: llama("context_length"),
    rope_theta: llama("rope.freq_base"),
    // A float32 in the file; what was meant is its shortest decimal.
    rms_norm_eps: Number(llama("attention.layer_norm_rms_epsilon").toPrecision(6)),
    bos_token_id: number("tokenizer.ggml.bos_token_id"),
    eos_token_id: number("tokenizer.ggml.eos_token_id"),
  };
}

/** A block is d and m in f16, then 16 bytes: the low halves are its first 16 numbers, the high ones the others. */
function matrixOf(bytes: Uint8Array, [columns, rows]: number[], headDim: number): Matrix {
  const blocks = columns / BLOCK;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const packed = new Uint8Array((rows * columns) / 2);
  const [scales, rests] = [new Float32Array(rows * blocks), new Float32Array(rows * blocks)];
  for (let row = 0; row < rows; row++) {
    for (let block = 0; block < blocks; block++) {
      const at = (rowInFile(row, headDim) * blocks + block) * Q4_1_BYTES;
      const to = row * blocks + block;
      scales[to] = fromHalf(view.getUint16(at, true));
      rests[to] = fromHalf(view.getUint16(at + 2, true)) + 8 * scales[to];
      for (let i = 0; i < 8; i++) {
        const [first, second] = [bytes[at + 4 + 2 * i], bytes[at + 5 + 2 * i]];
        packed[16 * to + i] = (first & 15) | ((second & 15) << 4);
        packed[16 * to + 8 + i] = (first >> 4) | (second & 0xf0);
      }
    }
  }
  return { rows, columns, packed, scales, rests };
}

/** gguf[2i] = half-split[i], gguf[2i + 1] = half-split[i + headDim / 2] of each head; 1 for rows as they are. */
function rowInFile(row: number, headDim: number): number {
  if (headDim === 1) return row;
  const [i, half] = [row % headDim, headDim / 2];
  return row - i + (i < half ? 2 * i : 2 * (i - half) + 1);
}

function weightsOf(
  { vocab_size, hidden_size }: DecoderConfig,
  vectors: Map<string, Float32Array>,
  matrices: Map<string, Matrix>,
  table: Uint8Array,
): DecoderWeights {
  return {
    vector: (name) => vectors.get(name)!,
    linear: (graph, x, names, out) => linearOf(graph, x, stacked(names.map((name) => matrices.get(name)!)), out),
    embedding(graph) {
      const blocks = table.length / Q8_0_BYTES;
      const view = new DataView(table.buffer, table.byteOffset);
      const scales = new Float32Array(blocks).map((_, i) => fromHalf(view.getUint16(i * Q8_0_BYTES, true)));
      const numbers = new Uint8Array(blocks * BLOCK);
      for (let i = 0; i < blocks; i++) numbers.set(table.subarray(i * Q8_0_BYTES + 2, (i + 1) * Q8_0_BYTES), i * BLOCK);
      // onnxruntime folds these into one f32 table when it loads the model.
      const bytes = graph.constant("table.bytes", "int8", [blocks, BLOCK], numbers);
      const floats = graph.node("Cast", [bytes], "table.floats", { to: 1 });
      const scaled = graph.node("Mul", [floats, graph.floats("table.scales", scales, [blocks, 1])], "table.scaled");
      return graph.node("Reshape", [scaled, graph.integers(vocab_size, hidden_size)], "table");
    },
  };
}

function stacked(matrices: Matrix[]): Matrix {
  const { columns } = matrices[0];
  const all = <T extends Float32Array | Uint8Array>(into: T, part: (matrix: Matrix) => T): T => {
    let at = 0;
    for (const matrix of matrices) {
      into.set(part(matrix), at);
      at += part(matrix).length;
    }
    return into;
  };
  const rows = matrices.reduce((sum, matrix) => sum + matrix.rows, 0);
  const blocks = (rows * columns) / BLOCK;
  return {
    ...{ rows, columns },
    packed: all(new Uint8Array(16 * blocks), ({ packed }) => packed),
    scales: all(new Float32Array(blocks), ({ scales }) => scales),
    rests: all(new Float32Array(blocks), ({ rests }) => rests),
  };
}

function linearOf(graph: OnnxGraph, x: string, matrix: Matrix, out: string): string {
  const { rows, columns, packed, scales, rests } = matrix;
  const blocks = columns / BLOCK;
  const numbers = graph.constant(`${out}.numbers`, "uint8", [rows, blocks, BLOCK / 2], packed);
  // Activations stay f32 (accuracy_level 1): int8 ones are no test bed for caches.
  const attributes = { N: rows, K: columns, bits: 4, block_size: BLOCK, accuracy_level: 1 };
  const scale = graph.floats(`${out}.scales`, scales);
  const scaled = graph.node("MatMulNBits", [x, numbers, scale], `${out}.scaled`, attributes, MICROSOFT);
  const split = graph.node("Reshape", [x, graph.integers(0, 0, blocks, BLOCK)], `${out}.split`);
  const sums = graph.node("ReduceSum", [split, graph.integers(3)], `${out}.sums`, { keepdims: 0 });
  // (blocks of a row, rows), as MatMul has it.
  const turned = rests.map((_, i) => rests[(i % rows) * blocks + Math.floor(i / rows)]);
  const rest = graph.node("MatMul", [sums, graph.floats(`${out}.rests`, turned, [blocks, rows])], `${out}.rest`);
  return graph.node("Add", [scaled, rest], out);
}
