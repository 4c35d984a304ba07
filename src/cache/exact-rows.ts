/** Tokens kept exact in linear memory: keys (after RoPE) and values, (count, rowDim) f32 each, oldest first. */
import { CapacityError } from "../errors.ts";
import type { Heap } from "../runtime/heap.ts";

const LEAST_CAPACITY = 16;

export class ExactRows {
  readonly #heap: Heap;
  readonly #rowBytes: number;
  #keysPtr = 0;
  #valuesPtr = 0;
  #capacity = 0;
  #count = 0;

  constructor(heap: Heap, rowDim: number) {
    this.#heap = heap;
    this.#rowBytes = 4 * rowDim;
  }

  get count(): number {
    return this.#count;
  }

  /** Bytes held from the heap. */
  get bytes(): number {
    return 2 * this.#capacity * this.#rowBytes;
  }

  keyPtr(row: number): number {
    return this.#keysPtr + row * this.#rowBytes;
  }

  valuePtr(row: number): number {
    return this.#valuesPtr + row * this.#rowBytes;
  }

  /** Room for `extra` more rows. Throws CapacityError before anything changes. */
  makeRoom(extra: number): void {
    const wanted = this.#count + extra;
    if (wanted <= this.#capacity) return;
    this.#resize(Math.max(LEAST_CAPACITY, wanted, Math.min(2 * this.#capacity, this.#capacity + 256)));
  }

  /** Takes `count` rows in, whose room was made and whose bytes the caller has written behind the last row. */
  commit(count: number): void {
    this.#count += count;
  }

  /** Copies rows from linear memory, (count, rowDim) each, in; room must have been made. */
  push(keysPtr: number, valuesPtr: number, count: number): void {
    const bytes = count * this.#rowBytes;
    this.#heap.u8(this.keyPtr(this.#count), bytes).set(this.#heap.u8(keysPtr, bytes));
    this.#heap.u8(this.valuePtr(this.#count), bytes).set(this.#heap.u8(valuesPtr, bytes));
    this.#count += count;
  }

  dropFirst(count: number): void {
    const used = this.#count * this.#rowBytes;
    const gone = count * this.#rowBytes;
    this.#heap.u8(this.#keysPtr, used).copyWithin(0, gone);
    this.#heap.u8(this.#valuesPtr, used).copyWithin(0, gone);
    this.#count -= count;
    // After a prefill most of the room is not needed again.
    if (this.#capacity > LEAST_CAPACITY + 4 * this.#count) this.#trim(2 * this.#count);
  }

  truncate(count: number): void {
    this.#count = Math.min(this.#count, count);
  }

  /** Copies the rows of another behind its own. */
  copyFrom(other: ExactRows): void {
    this.makeRoom(other.count);
    this.push(other.#keysPtr, other.#valuesPtr, other.count);
  }

  #trim(capacity: number): void {
    try {
      this.#resize(capacity);
    } catch (error) {
      // No room for the smaller copy: the large one stays.
      if (!(error instanceof CapacityError)) throw error;
    }
  }

  /** Throws CapacityError before anything changes. */
  #resize(capacity: number): void {
    const heap = this.#heap;
    const keysPtr = heap.reserve(capacity * this.#rowBytes);
    let valuesPtr: number;
    try {
      valuesPtr = heap.reserve(capacity * this.#rowBytes);
    } catch (error) {
      heap.release(keysPtr);
      throw error;
    }
    const used = this.#count * this.#rowBytes;
    if (this.#capacity > 0) {
      heap.u8(keysPtr, used).set(heap.u8(this.#keysPtr, used));
      heap.u8(valuesPtr, used).set(heap.u8(this.#valuesPtr, used));
      heap.release(this.#keysPtr);
      heap.release(this.#valuesPtr);
    }
    this.#keysPtr = keysPtr;
    this.#valuesPtr = valuesPtr;
    this.#capacity = capacity;
  }

  dispose(): void {
    if (this.#capacity === 0) return;
    this.#heap.release(this.#keysPtr);
    this.#heap.release(this.#valuesPtr);
    this.#capacity = this.#count = 0;
  }
}
