/**
 * Owns linear memory: reserves and releases address ranges, grows in one place, and is the only maker of typed-array
 * views. Views go stale whenever memory grows: make them again after any reserve, never keep them.
 *
 * Free ranges are kept sorted by address and coalesced; a reserve takes the first that fits, else memory grows.
 */
import { CapacityError, expectInteger } from "../errors.ts";

const PAGE_BYTES = 65536;
export const ALIGNMENT = 16;

/** Makes typed-array views of linear memory; nothing else does (invariant 2). */
export class Views {
  readonly memory: WebAssembly.Memory;
  constructor(memory: WebAssembly.Memory) {
    this.memory = memory;
  }
  u8(ptr: number, count: number): Uint8Array {
    return new Uint8Array(this.memory.buffer, ptr, count);
  }
  u16(ptr: number, count: number): Uint16Array {
    return new Uint16Array(this.memory.buffer, ptr, count);
  }
  u32(ptr: number, count: number): Uint32Array {
    return new Uint32Array(this.memory.buffer, ptr, count);
  }
  i32(ptr: number, count: number): Int32Array {
    return new Int32Array(this.memory.buffer, ptr, count);
  }
  f32(ptr: number, count: number): Float32Array {
    return new Float32Array(this.memory.buffer, ptr, count);
  }
  f64(ptr: number, count: number): Float64Array {
    return new Float64Array(this.memory.buffer, ptr, count);
  }
}

interface FreeRange {
  ptr: number;
  bytes: number;
}

export interface HeapOptions {
  /** Limit of linear memory in bytes; a reserve past it throws CapacityError. Default 4 GiB less one page. */
  maximumBytes?: number;
  /** Test mode: grow (and so detach every view) on every reserve. */
  growOnReserve?: boolean;
  /** Test mode: fill released ranges with 0xA5. */
  poison?: boolean;
}

/** A scratch frame: every range that it reserves is released when the frame ends. */
export interface Frame {
  reserve(bytes: number): number;
}

export const DEFAULT_MAXIMUM_BYTES = 65535 * PAGE_BYTES;
export const INITIAL_PAGES = 16;

export class Heap extends Views {
  readonly #options: Required<HeapOptions>;
  readonly #free: FreeRange[] = [];
  readonly #sizes = new Map<number, number>();
  #bytesInUse = 0;
  #end: number;

  constructor(memory: WebAssembly.Memory, heapBase: number, options: HeapOptions = {}) {
    super(memory);
    this.#options = { maximumBytes: DEFAULT_MAXIMUM_BYTES, growOnReserve: false, poison: false, ...options };
    const base = Math.ceil(heapBase / ALIGNMENT) * ALIGNMENT;
    this.#end = memory.buffer.byteLength;
    this.#free.push({ ptr: base, bytes: this.#end - base });
  }

  /** Bytes reserved at this moment. */
  get bytesInUse(): number {
    return this.#bytesInUse;
  }

  /** Bytes of linear memory held from the host, in use or free. */
  get bytesHeld(): number {
    return this.memory.buffer.byteLength;
  }

  /** Reserves `bytes`, aligned to 16; the content is undefined. Throws CapacityError before anything changes. */
  reserve(bytes: number): number {
    expectInteger("bytes", bytes, 0, Number.MAX_SAFE_INTEGER);
    const size = Math.max(ALIGNMENT, Math.ceil(bytes / ALIGNMENT) * ALIGNMENT);
    if (this.#options.growOnReserve) this.#grow(PAGE_BYTES);
    let index = this.#free.findIndex((range) => range.bytes >= size);
    if (index < 0) {
      this.#grow(size - this.#tailBytes());
      index = this.#free.length - 1;
    }
    const range = this.#free[index];
    const ptr = range.ptr;
    range.ptr += size;
    range.bytes -= size;
    if (range.bytes === 0) this.#free.splice(index, 1);
    this.#sizes.set(ptr, size);
    this.#bytesInUse += size;
    return ptr;
  }

  /** Gives a reserved range back. */
  release(ptr: number): void {
    const bytes = this.#sizes.get(ptr);
    if (bytes === undefined) throw new RangeError(`ptr: expected a reserved address, got ${ptr}`);
    this.#sizes.delete(ptr);
    this.#bytesInUse -= bytes;
    if (this.#options.poison) this.u8(ptr, bytes).fill(0xa5);
    this.#insertFree({ ptr, bytes });
  }

  /** Runs `work` with a frame whose reservations end with it, also on a throw. */
  scratch<T>(work: (frame: Frame) => T): T {
    const reserved: number[] = [];
    const frame: Frame = {
      reserve: (bytes) => {
        const ptr = this.reserve(bytes);
        reserved.push(ptr);
        return ptr;
      },
    };
    try {
      return work(frame);
    } finally {
      for (const ptr of reserved.reverse()) this.release(ptr);
    }
  }

  /** Bytes of the free range that ends where memory ends, or 0. */
  #tailBytes(): number {
    const last = this.#free.at(-1);
    return last && last.ptr + last.bytes === this.#end ? last.bytes : 0;
  }

  #grow(bytes: number): void {
    const pages = Math.ceil(bytes / PAGE_BYTES);
    const wanted = this.#end + pages * PAGE_BYTES;
    if (wanted > this.#options.maximumBytes) {
      throw new CapacityError(`linear memory: ${wanted} bytes needed, limit is ${this.#options.maximumBytes}`);
    }
    try {
      this.memory.grow(pages);
    } catch {
      throw new CapacityError(`linear memory: the host refused to grow from ${this.#end} to ${wanted} bytes`);
    }
    this.#insertFree({ ptr: this.#end, bytes: pages * PAGE_BYTES });
    this.#end = wanted;
  }

  #insertFree(range: FreeRange): void {
    let low = 0;
    let high = this.#free.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#free[middle].ptr < range.ptr) low = middle + 1;
      else high = middle;
    }
    this.#free.splice(low, 0, range);
    this.#mergeWithNext(low);
    if (low > 0) this.#mergeWithNext(low - 1);
  }

  #mergeWithNext(index: number): void {
    const range = this.#free[index];
    const next = this.#free[index + 1];
    if (next && range.ptr + range.bytes === next.ptr) {
      range.bytes += next.bytes;
      this.#free.splice(index + 1, 1);
    }
  }
}
