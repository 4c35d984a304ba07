/**
 * The metadata of a GGUF file, version 2 or 3, and where its tensors lie; the weights themselves stay where they are.
 * From ggml's docs/gguf.md, all little-endian:
 *
 *   0 "GGUF" | 4 u32 version | 8 u64 tensorCount | 16 u64 keyCount
 *   keyCount    times: string key, u32 type, value
 *   tensorCount times: string name, u32 dimensionCount, u64 dimensions…, u32 type, u64 offset
 *   zeros up to a multiple of general.alignment (32 unless said), then the data that offsets count from
 *   string: u64 bytes, UTF-8; array: u32 type, u64 count, elements
 */

import { type ByteSource, openSource, type RandomAccess } from "../archive/random-access.ts";
import { brief, FormatError } from "../errors.ts";

/** An array: its numbers, or how many elements there are where they are strings or more than 4,096. */
export interface GgufArray {
  count: number;
  numbers?: number[];
}

export type GgufValue = number | bigint | boolean | string | GgufArray;

export interface GgufTensor {
  dimensions: number[];
  /** Number of the ggml type: 0 is f32, 1 is f16. */
  type: number;
  /** From the start of the file. */
  offset: number;
}

export interface GgufFile {
  /** Path, or what kind of source it is; stands in messages. */
  readonly name: string;
  readonly version: number;
  readonly values: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
  /** Fresh bytes from an offset in the file. FormatError where it is shorter. */
  read(offset: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

const MOST_KEYS = 1 << 16;
const MOST_TENSORS = 1 << 20;
const MOST_KEPT = 4096;
const MOST_STRING_BYTES = 1 << 26;
const WINDOW_BYTES = 1 << 20;
const MAGIC = 0x46554747;
/** Least bytes of a key with its value, and of a tensor without dimensions. */
const [LEAST_KEY_BYTES, LEAST_TENSOR_BYTES] = [13, 24];

const STRING = 8;
const ARRAY = 9;
type Scalar = { name: string; bytes: number; read(view: DataView, at: number): number | bigint | boolean };
/** By the number of the type. */
const SCALARS: Record<number, Scalar> = {
  0: { name: "u8", bytes: 1, read: (view, at) => view.getUint8(at) },
  1: { name: "i8", bytes: 1, read: (view, at) => view.getInt8(at) },
  2: { name: "u16", bytes: 2, read: (view, at) => view.getUint16(at, true) },
  3: { name: "i16", bytes: 2, read: (view, at) => view.getInt16(at, true) },
  4: { name: "u32", bytes: 4, read: (view, at) => view.getUint32(at, true) },
  5: { name: "i32", bytes: 4, read: (view, at) => view.getInt32(at, true) },
  6: { name: "f32", bytes: 4, read: (view, at) => view.getFloat32(at, true) },
  7: { name: "bool", bytes: 1, read: (view, at) => view.getUint8(at) !== 0 },
  10: { name: "u64", bytes: 8, read: (view, at) => narrow(view.getBigUint64(at, true)) },
  11: { name: "i64", bytes: 8, read: (view, at) => narrow(view.getBigInt64(at, true)) },
  12: { name: "f64", bytes: 8, read: (view, at) => view.getFloat64(at, true) },
};

const narrow = (x: bigint): number | bigint => (BigInt.asIntN(54, x) === x ? Number(x) : x);

/** Reads keys and the list of tensors, a megabyte at a time. Throws FormatError, and RangeError for a path that is none. */
export async function openGguf(source: ByteSource): Promise<GgufFile> {
  const { access, name } = await openSource(source);
  try {
    const reader = new Reader(access, name);
    const version = await reader.version();
    const tensorCount = await reader.count("tensors", MOST_TENSORS, LEAST_TENSOR_BYTES);
    const keyCount = await reader.count("keys", MOST_KEYS, LEAST_KEY_BYTES);
    const values = await reader.values(keyCount);
    const tensors = await reader.tensors(tensorCount, values);
    return {
      ...{ name, version, values, tensors },
      read: (offset, length) => reader.bytesAt(offset, length),
      close: async () => access.close?.(),
    };
  } catch (error) {
    await access.close?.();
    throw error;
  }
}

/** Reads forwards through a window; `#at` counts from the start of the file. */
class Reader {
  readonly #access: RandomAccess;
  readonly #name: string;
  #at = 0;
  #start = 0;
  #window: Uint8Array = new Uint8Array(0);

  constructor(access: RandomAccess, name: string) {
    this.#access = access;
    this.#name = name;
  }

  #fail(what: string, expected: string, got: unknown, at: number): never {
    throw new FormatError(`${this.#name}: ${what}: expected ${expected}, got ${brief(got)}`, at);
  }

  async bytesAt(offset: number, length: number): Promise<Uint8Array> {
    const bytes = await this.#access.read(offset, length);
    if (bytes.length < length)
      this.#fail("data", `${length} bytes`, bytes.length, Math.min(offset + bytes.length, this.#access.size));
    return bytes;
  }

  /** A view of the next `length` bytes, good until the next call. */
  async #take(what: string, length: number): Promise<DataView> {
    const at = this.#at;
    if (at + length > this.#access.size) this.#fail(what, `${length} bytes`, this.#access.size - at, at);
    if (at < this.#start || at + length > this.#start + this.#window.length) {
      this.#window = await this.bytesAt(at, Math.min(Math.max(length, WINDOW_BYTES), this.#access.size - at));
      this.#start = at;
    }
    this.#at = at + length;
    return new DataView(this.#window.buffer, this.#window.byteOffset + at - this.#start, length);
  }

  async #u32(what: string): Promise<number> {
    return (await this.#take(what, 4)).getUint32(0, true);
  }

  /** A u64 up to `most`. */
  async #size(what: string, most: number): Promise<number> {
    const size = (await this.#take(what, 8)).getBigUint64(0, true);
    if (size > BigInt(most)) this.#fail(what, `at most ${most}`, size, this.#at - 8);
    return Number(size);
  }

  async #string(what: string): Promise<string> {
    const at = this.#at;
    const length = await this.#size(`${what}: length`, MOST_STRING_BYTES);
    const bytes = await this.#take(what, length);
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      this.#fail(what, "UTF-8", "other bytes", at + 8);
    }
  }

  async version(): Promise<number> {
    const magic = await this.#u32("magic");
    if (magic !== MAGIC) this.#fail("magic", '"GGUF"', `0x${magic.toString(16)}`, 0);
    const version = await this.#u32("version");
    const swapped = version !== 0 && (version & 0xffff) === 0;
    if (version !== 2 && version !== 3) {
      this.#fail("version", "2 or 3", swapped ? "a big-endian file" : version, 4);
    }
    return version;
  }

  /** A count that the file has room for. */
  async count(what: string, most: number, leastBytes: number): Promise<number> {
    return this.#size(`count of ${what}`, Math.min(most, Math.floor(this.#access.size / leastBytes)));
  }

  async values(count: number): Promise<Map<string, GgufValue>> {
    const values = new Map<string, GgufValue>();
    for (let i = 0; i < count; i++) {
      const at = this.#at;
      const key = await this.#string(`key ${i}`);
      if (values.has(key)) this.#fail(`key ${i}`, "a name that is new", key, at);
      values.set(key, await this.#value(key));
    }
    return values;
  }

  async #value(key: string): Promise<GgufValue> {
    const type = await this.#u32(`${key}: type`);
    if (type === STRING) return this.#string(key);
    if (type === ARRAY) return this.#array(key);
    const scalar = this.#scalar(key, type);
    return scalar.read(await this.#take(key, scalar.bytes), 0);
  }

  #scalar(what: string, type: number): Scalar {
    return SCALARS[type] ?? this.#fail(`${what}: type`, "0 to 12", type, this.#at - 4);
  }

  async #array(key: string): Promise<GgufArray> {
    const type = await this.#u32(`${key}: element type`);
    if (type === ARRAY) this.#fail(`${key}: element type`, "no array in an array", type, this.#at - 4);
    const scalar = type === STRING ? undefined : this.#scalar(`${key}: element`, type);
    const left = this.#access.size - this.#at - 8;
    const count = await this.#size(`${key}: count`, Math.max(0, Math.floor(left / (scalar?.bytes ?? 8))));
    if (!scalar) {
      for (let i = 0; i < count; i++) {
        const length = await this.#size(`${key}[${i}]: length`, MOST_STRING_BYTES);
        await this.#skip(`${key}[${i}]`, length);
      }
      return { count };
    }
    if (count > MOST_KEPT) {
      await this.#skip(key, count * scalar.bytes);
      return { count };
    }
    const view = await this.#take(key, count * scalar.bytes);
    return { count, numbers: Array.from({ length: count }, (_, i) => Number(scalar.read(view, i * scalar.bytes))) };
  }

  async #skip(what: string, length: number): Promise<void> {
    if (this.#at + length > this.#access.size) {
      this.#fail(what, `${length} bytes`, this.#access.size - this.#at, this.#at);
    }
    this.#at += length;
  }

  async tensors(count: number, values: Map<string, GgufValue>): Promise<Map<string, GgufTensor>> {
    const alignment = values.get("general.alignment") ?? 32;
    if (typeof alignment !== "number" || !(alignment >= 1 && alignment <= 1 << 20) || alignment % 1 !== 0) {
      this.#fail("general.alignment", `an integer from 1 to ${1 << 20}`, alignment, this.#at);
    }
    const tensors = new Map<string, GgufTensor>();
    for (let i = 0; i < count; i++) {
      const at = this.#at;
      const name = await this.#string(`tensor ${i}`);
      if (tensors.has(name)) this.#fail(`tensor ${i}`, "a name that is new", name, at);
      tensors.set(name, await this.#tensor(name));
    }
    const start = Math.ceil(this.#at / alignment) * alignment;
    for (const tensor of tensors.values()) tensor.offset += start;
    return tensors;
  }

  async #tensor(name: string): Promise<GgufTensor> {
    const rank = await this.#u32(`${name}: dimensions`);
    if (rank > 8) this.#fail(`${name}: dimensions`, "at most 8", rank, this.#at - 4);
    const dimensions: number[] = [];
    for (let i = 0; i < rank; i++) dimensions.push(await this.#size(`${name}: dimension`, 2 ** 40));
    const type = await this.#u32(`${name}: type`);
    return { dimensions, type, offset: await this.#size(`${name}: offset`, this.#access.size) };
  }
}
