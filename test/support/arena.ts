/**
 * Memory for one kernel call: inputs copied in, outputs surrounded by 64 guard bytes that `check` looks at, so that
 * a write outside the range its caller reserved is seen (invariant 6).
 */
import { expect } from "vitest";
import type { Runtime } from "../../src/runtime/runtime.ts";

export { noise } from "./noise.ts";

const GUARD_BYTES = 64;
const GUARD = 0xc3;

type Numbers = Float32Array | Float64Array | Int32Array | Uint8Array | Uint16Array | Uint32Array;

export class Arena {
  readonly #runtime: Runtime;
  readonly #ranges: { ptr: number; bytes: number }[] = [];

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  /** Address of a copy of `values`. */
  put(values: Numbers): number {
    const ptr = this.out(values.byteLength);
    this.putIn(ptr, values);
    return ptr;
  }

  /** A copy of `values` at an address that `out` gave. */
  putIn(ptr: number, values: Numbers): void {
    this.#runtime.heap
      .u8(ptr, values.byteLength)
      .set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }

  /**
   * Address of a copy of `values` that ends where memory ends, so that a read past it traps. Not reserved: call it last,
   * because the next reserve may grow memory or take the place.
   */
  putAtEnd(values: Numbers): number {
    const ptr = this.#runtime.heap.bytesHeld - values.byteLength;
    this.putIn(ptr, values);
    return ptr;
  }

  /** Address of `bytes` undefined bytes (filled with 0xEE) between guards. */
  out(bytes: number): number {
    const start = this.#runtime.heap.reserve(bytes + 2 * GUARD_BYTES + 16);
    const all = this.#runtime.heap.u8(start, bytes + 2 * GUARD_BYTES + 16);
    all.fill(GUARD);
    all.fill(0xee, GUARD_BYTES, GUARD_BYTES + bytes);
    this.#ranges.push({ ptr: start, bytes });
    return start + GUARD_BYTES;
  }

  f32 = (ptr: number, count: number): Float32Array => this.#runtime.heap.f32(ptr, count).slice();
  f64 = (ptr: number, count: number): Float64Array => this.#runtime.heap.f64(ptr, count).slice();
  u8 = (ptr: number, count: number): Uint8Array => this.#runtime.heap.u8(ptr, count).slice();
  u32 = (ptr: number, count: number): Uint32Array => this.#runtime.heap.u32(ptr, count).slice();
  u16 = (ptr: number, count: number): Uint16Array => this.#runtime.heap.u16(ptr, count).slice();

  /** Guards untouched; everything released; bytes in use back at the start. */
  finish(): void {
    for (const { ptr, bytes } of this.#ranges) {
      const all = this.#runtime.heap.u8(ptr, bytes + 2 * GUARD_BYTES + 16);
      expect(
        all.subarray(0, GUARD_BYTES).every((x) => x === GUARD),
        "guard before an output",
      ).toBe(true);
      expect(
        all.subarray(GUARD_BYTES + bytes).every((x) => x === GUARD),
        "guard after an output",
      ).toBe(true);
      this.#runtime.heap.release(ptr);
    }
    this.#ranges.length = 0;
    expect(this.#runtime.heap.bytesInUse, "bytes in use return to the start").toBe(0);
  }
}

/** Runs `work` with an arena on `runtime`, then checks the guards. */
export function withArena<T>(runtime: Runtime, work: (arena: Arena) => T): T {
  const arena = new Arena(runtime);
  const result = work(arena);
  arena.finish();
  return result;
}
