/**
 * Sequence state files of llama.cpp, version 3: what llama_state_seq_save_file writes, and saveStateToFile of
 * node-llama-cpp with it. From src/llama-context.cpp and src/llama-kv-cache.cpp, all little-endian:
 *
 *   0 "ggsq" (u32 0x67677371) | 4 u32 version | 8 u32 tokenCount | 12 i32 token ids
 *   u32 streams, one for each sequence of the context; a stream without cells is a u32 0; in the one that has some:
 *   u32 cells | cells times: i32 position, u32 sequences, 1, i32 sequence
 *   u32 valuesTransposed | u32 layers
 *   layers times, keys:   i32 type | u64 rowBytes | (cells, row)
 *   layers times, values: the same, or, transposed: i32 type | u32 elementBytes | u32 rowElements | (row, cells)
 *
 * A row holds the kv heads of a token side by side. Values are transposed where flash attention is off. There may be
 * fewer cells than tokens. Other memories (sliding window, recurrent, M-RoPE) have other layouts; they are refused.
 */
import type { ElementType } from "../codec/source.ts";
import { ELEMENT_BYTES } from "../codec/source.ts";
import { FormatError, UnsupportedError } from "../errors.ts";

/** What a state is but for its rows. */
export interface LlamaSkeleton {
  /** Token ids of the sequence; those past the cells are not in the cache. */
  tokens: Int32Array;
  /** Of each cell. */
  positions: Int32Array;
  /** Of each cell: the sequence that it was saved from. */
  sequences: Int32Array;
  /** Streams of the context, and which of them the cells are in. */
  streams: number;
  stream: number;
  /** True where flash attention was off; a file loads only into a context of the same kind. */
  valuesTransposed: boolean;
}

export interface LlamaState extends LlamaSkeleton {
  type: ElementType;
  /** A layer each: (cells, row). */
  keys: Uint8Array[];
  /** A layer each: (cells, row), or (row, cells) where they are transposed. */
  values: Uint8Array[];
}

const MAGIC = 0x67677371;
const VERSION = 3;
const MOST_LAYERS = 1024;
/** LLAMA_MAX_SEQ. */
const MOST_STREAMS = 256;
/** Fixed parts of the file, of a cell and of a tensor. */
const [HEAD_BYTES, STREAMS_BYTES, MIDDLE_BYTES, CELL_BYTES, TENSOR_BYTES] = [12, 4, 8, 12, 12];

/** By ggml's number of the type. */
const TYPES: Record<number, ElementType> = { 0: "f32", 1: "f16", 30: "bf16" };
const TYPE_NUMBERS: Record<ElementType, number> = { f32: 0, f16: 1, bf16: 30 };
const QUANTIZED: Record<number, string> = {
  ...{ 2: "q4_0", 3: "q4_1", 6: "q5_0", 7: "q5_1", 8: "q8_0", 20: "iq4_nl" },
};

class Cursor {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #name: string;
  at = 0;

  constructor(bytes: Uint8Array, name: string) {
    // Plain views, where the caller has a Buffer.
    this.#bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#name = name;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
  get left(): number {
    return this.#bytes.length - this.at;
  }
  fail(what: string, expected: string, got: unknown, at = this.at): never {
    throw new FormatError(`${this.#name}: ${what}: expected ${expected}, got ${got}`, at);
  }
  refuse(what: string, expected: string, got: unknown): never {
    throw new UnsupportedError(`${this.#name}: ${what}: expected ${expected}, got ${got}`);
  }
  #move(what: string, length: number): number {
    if (length > this.left) this.fail(what, `${length} bytes`, `${this.left} (cut short)`);
    this.at += length;
    return this.at - length;
  }
  u32 = (what: string): number => this.#view.getUint32(this.#move(what, 4), true);
  i32 = (what: string): number => this.#view.getInt32(this.#move(what, 4), true);
  u64 = (what: string): bigint => this.#view.getBigUint64(this.#move(what, 8), true);
  bytes(what: string, length: number): Uint8Array {
    const at = this.#move(what, length);
    return this.#bytes.subarray(at, at + length);
  }
}

/**
 * A state with views of `bytes`. `name` stands in front of messages. FormatError for damage and other versions,
 * UnsupportedError for states that are sound and not plain.
 */
export function parseLlamaState(bytes: Uint8Array, name = "state"): LlamaState {
  const cursor = new Cursor(bytes, name);
  const magic = cursor.u32("magic");
  if (magic !== MAGIC) cursor.fail("magic", '"ggsq" (0x67677371)', `0x${magic.toString(16)}`, 0);
  const version = cursor.u32("version");
  if (version !== VERSION) cursor.fail("version", `${VERSION}, the one that this svdq knows`, version, 4);
  const tokens = Int32Array.from({ length: fitting(cursor, "tokens", 4) }, () => cursor.i32("tokens"));
  const streams = cursor.u32("streams");
  if (streams < 1 || streams > MOST_STREAMS) {
    cursor.fail("streams", `1 to ${MOST_STREAMS}`, streams, cursor.at - 4);
  }
  const cells = readCells(cursor, streams);
  const transposed = cursor.u32("values transposed");
  if (transposed > 1) cursor.fail("values transposed", "0 or 1", transposed, cursor.at - 4);
  const layers = cursor.u32("layers");
  if (layers < 1 || layers > MOST_LAYERS) cursor.fail("layers", `1 to ${MOST_LAYERS}`, layers, cursor.at - 4);
  const count = cells.positions.length;
  const keys = Array.from({ length: layers }, (_, i) => readRows(cursor, `layer ${i} keys`, count));
  const values = Array.from({ length: layers }, (_, i) =>
    transposed ? readColumns(cursor, `layer ${i} values`, count) : readRows(cursor, `layer ${i} values`, count),
  );
  for (let stream = cells.stream + 1; stream < streams; stream++) {
    const more = cursor.u32(`stream ${stream}: cells`);
    if (more > 0) cursor.refuse(`stream ${stream}: cells`, "0, because one stream has some already", more);
  }
  if (cursor.left > 0) {
    const expected = "the end (a sliding-window or hybrid model has more than one cache)";
    cursor.refuse(`byte ${cursor.at}`, expected, `${cursor.left} more bytes`);
  }
  const type = commonType(cursor, keys, values);
  const rows = (tensors: Tensor[]) => tensors.map((tensor) => tensor.bytes);
  return {
    tokens,
    streams,
    ...cells,
    valuesTransposed: transposed === 1,
    type,
    keys: rows(keys),
    values: rows(values),
  };
}

/** A count of things of so many bytes, for which there is room. */
function fitting(cursor: Cursor, what: string, itemBytes: number): number {
  const count = cursor.u32(what);
  if (count * itemBytes > cursor.left) {
    cursor.fail(what, `at most ${Math.floor(cursor.left / itemBytes)}, for which there is room`, count, cursor.at - 4);
  }
  return count;
}

function readCells(cursor: Cursor, streams: number): Pick<LlamaSkeleton, "positions" | "sequences" | "stream"> {
  let [stream, count] = [0, 0];
  for (; stream < streams && (count = fitting(cursor, `stream ${stream}: cells`, CELL_BYTES)) === 0; stream++);
  if (count === 0) cursor.refuse("cells", "at least 1", "0 (an empty sequence)");
  const positions = new Int32Array(count);
  const sequences = new Int32Array(count);
  for (let i = 0; i < count; i++) {
    positions[i] = cursor.i32(`cell ${i}`);
    const owners = cursor.u32(`cell ${i}`);
    if (owners !== 1) {
      cursor.fail(`cell ${i}: sequences`, "1 (recurrent and M-RoPE models have other cells)", owners, cursor.at - 4);
    }
    sequences[i] = cursor.i32(`cell ${i}`);
  }
  return { positions, sequences, stream };
}

interface Tensor {
  type: ElementType;
  bytes: Uint8Array;
}

function readType(cursor: Cursor, what: string): ElementType {
  const number = cursor.i32(what);
  if (QUANTIZED[number]) {
    const hint = "llama.cpp rotates the rows of quantized caches; save the state of a context whose cache is f16";
    cursor.refuse(what, "f32, f16 or bf16", `${QUANTIZED[number]} (${hint})`);
  }
  return TYPES[number] ?? cursor.fail(`${what}: type`, "f32, f16 or bf16 (0, 1 or 30)", number, cursor.at - 4);
}

function readRows(cursor: Cursor, what: string, cells: number): Tensor {
  const type = readType(cursor, what);
  const rowBytes = cursor.u64(what);
  if (rowBytes === 0n || rowBytes % BigInt(ELEMENT_BYTES[type]) !== 0n) {
    cursor.fail(`${what}: row`, `a multiple of ${ELEMENT_BYTES[type]} bytes`, rowBytes, cursor.at - 8);
  }
  const most = Math.floor(cursor.left / cells);
  if (rowBytes > BigInt(most)) cursor.fail(`${what}: row`, `at most ${most} bytes`, rowBytes, cursor.at - 8);
  return { type, bytes: cursor.bytes(what, Number(rowBytes) * cells) };
}

function readColumns(cursor: Cursor, what: string, cells: number): Tensor {
  const type = readType(cursor, what);
  const elementBytes = cursor.u32(what);
  if (elementBytes !== ELEMENT_BYTES[type]) {
    cursor.fail(`${what}: element`, `${ELEMENT_BYTES[type]} bytes`, elementBytes, cursor.at - 4);
  }
  const elements = fitting(cursor, `${what}: row`, cells * elementBytes);
  if (elements === 0) cursor.fail(`${what}: row`, "at least 1 element", 0, cursor.at - 4);
  return { type, bytes: cursor.bytes(what, elements * cells * elementBytes) };
}

function commonType(cursor: Cursor, keys: Tensor[], values: Tensor[]): ElementType {
  const [{ type, bytes }] = keys;
  for (const tensor of [...keys, ...values]) {
    if (tensor.type !== type) cursor.refuse("types", `${type} throughout`, tensor.type);
    if (tensor.bytes.length !== bytes.length) {
      cursor.refuse("rows", `${bytes.length} bytes of keys and of values in every layer`, tensor.bytes.length);
    }
  }
  return type;
}

/** The bytes of a state; those of a parsed one as they were. */
export function serialiseLlamaState(state: LlamaState): Uint8Array {
  const { tokens, streams, stream, positions, sequences, valuesTransposed, type, keys, values } = state;
  const cells = positions.length;
  const headBytes = HEAD_BYTES + 4 * tokens.length + STREAMS_BYTES + 4 * streams + CELL_BYTES * cells + MIDDLE_BYTES;
  const tensorBytes = [...keys, ...values].reduce((sum, { length }) => sum + TENSOR_BYTES + length, 0);
  const out = new Uint8Array(headBytes + tensorBytes);
  const view = new DataView(out.buffer);
  let at = 0;
  const put = (...numbers: number[]): void => {
    for (const number of numbers) {
      view.setInt32(at, number, true);
      at += 4;
    }
  };
  const putBytes = (bytes: Uint8Array): void => {
    out.set(bytes, at);
    at += bytes.length;
  };
  put(MAGIC, VERSION, tokens.length);
  for (const token of tokens) put(token);
  put(streams, ...new Array<number>(stream).fill(0), cells);
  for (let i = 0; i < cells; i++) put(positions[i], 1, sequences[i]);
  put(valuesTransposed ? 1 : 0, keys.length);
  const rowBytes = keys[0].length / cells;
  for (const bytes of keys) {
    put(TYPE_NUMBERS[type], rowBytes, 0);
    putBytes(bytes);
  }
  for (const bytes of values) {
    if (valuesTransposed) put(TYPE_NUMBERS[type], ELEMENT_BYTES[type], rowBytes / ELEMENT_BYTES[type]);
    else put(TYPE_NUMBERS[type], rowBytes, 0);
    putBytes(bytes);
  }
  // The streams after it are empty: zeros, as `out` came.
  return out;
}
