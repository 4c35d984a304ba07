/** Little-endian reading and writing in order, at any alignment. */
import { FormatError } from "../errors.ts";

/** Writes into an array of known size; a write past its end throws, which a wrong size function would cause. */
export class ByteWriter {
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
    this.#view = new DataView(this.bytes.buffer);
  }

  /** Claims `count` bytes and returns where they start. */
  skip(count: number): number {
    const at = this.#at;
    this.#at += count;
    return at;
  }

  u8(values: Uint8Array): void {
    this.bytes.set(values, this.skip(values.length));
  }

  u16(values: ArrayLike<number>): void {
    for (let i = 0; i < values.length; i++) this.#view.setUint16(this.skip(2), values[i], true);
  }

  i32(values: ArrayLike<number>): void {
    for (let i = 0; i < values.length; i++) this.#view.setInt32(this.skip(4), values[i], true);
  }

  f32(values: ArrayLike<number>): void {
    for (let i = 0; i < values.length; i++) this.#view.setFloat32(this.skip(4), values[i], true);
  }

  f64(values: ArrayLike<number>): void {
    for (let i = 0; i < values.length; i++) this.#view.setFloat64(this.skip(8), values[i], true);
  }
}

/** Reads bytes `at` to `end` of a file; sizes are checked before anything is allocated. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #end: number;
  readonly #base: number;
  /** Put before each message: file and section. */
  readonly where: string;
  /** In the file, as `end` is; `base`: where in it `bytes` starts. */
  at: number;

  constructor(bytes: Uint8Array, at: number, end: number, where: string, base = 0) {
    this.#bytes = bytes;
    this.#base = base;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#end = end;
    this.where = where;
    this.at = at;
  }

  get left(): number {
    return this.#end - this.at;
  }

  /** Claims `count` bytes for `part` and returns where they start in `bytes`. */
  skip(count: number, part: string): number {
    if (count > this.left) {
      throw new FormatError(`${this.where}: ${part}: expected ${count} bytes, got ${this.left}`, this.at);
    }
    const at = this.at - this.#base;
    this.at += count;
    return at;
  }

  /** Nothing of what is not wanted. */
  pass(count: number, part: string): Uint8Array {
    this.skip(count, part);
    return new Uint8Array(0);
  }

  /** A copy. */
  u8(count: number, part: string): Uint8Array {
    const at = this.skip(count, part);
    return this.#bytes.slice(at, at + count);
  }

  u16(count: number, part: string): Uint16Array {
    const at = this.skip(2 * count, part);
    return new Uint16Array(count).map((_, i) => this.#view.getUint16(at + 2 * i, true));
  }

  u32(count: number, part: string): Uint32Array {
    const at = this.skip(4 * count, part);
    return new Uint32Array(count).map((_, i) => this.#view.getUint32(at + 4 * i, true));
  }

  i32(count: number, part: string): Int32Array {
    const at = this.skip(4 * count, part);
    return new Int32Array(count).map((_, i) => this.#view.getInt32(at + 4 * i, true));
  }

  f32(count: number, part: string): Float32Array {
    const at = this.skip(4 * count, part);
    return new Float32Array(count).map((_, i) => this.#view.getFloat32(at + 4 * i, true));
  }

  f64(count: number, part: string): Float64Array {
    const at = this.skip(8 * count, part);
    return new Float64Array(count).map((_, i) => this.#view.getFloat64(at + 8 * i, true));
  }
}
