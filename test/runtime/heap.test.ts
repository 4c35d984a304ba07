import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CapacityError } from "../../src/errors.ts";
import { ALIGNMENT, Heap, type HeapOptions, INITIAL_PAGES } from "../../src/runtime/heap.ts";
import { createMemory } from "../../src/runtime/runtime.ts";

const PAGE_BYTES = 65536;
const BASE = 1024;
const INITIAL_BYTES = INITIAL_PAGES * PAGE_BYTES;

const createHeap = (options: HeapOptions = {}, base = BASE): Heap =>
  new Heap(createMemory(options.maximumBytes), base, options);

describe("heap", () => {
  it("starts at the base rounded up, aligns every address, gives even 0 bytes a place of its own", () => {
    const heap = createHeap({}, BASE + 1);
    const ptrs = [1, 0, 17, 16, 3].map((bytes) => heap.reserve(bytes));
    expect(ptrs).toEqual([0, 16, 32, 64, 80].map((offset) => BASE + ALIGNMENT + offset));
    expect(heap.bytesInUse).toBe(96);
  });

  it("takes the first range that fits and coalesces neighbours in any order of release", () => {
    for (const order of [
      [0, 1, 2],
      [2, 1, 0],
      [0, 2, 1],
      [1, 0, 2],
    ]) {
      const heap = createHeap();
      const ptrs = [32, 48, 64].map((bytes) => heap.reserve(bytes));
      const wall = heap.reserve(16);
      for (const i of order) heap.release(ptrs[i]);
      expect(heap.reserve(144), `released in the order ${order}`).toBe(ptrs[0]);
      expect(heap.reserve(16)).toBe(wall + 16);
    }
  });

  it("grows by whole pages and uses the free end of memory for it", () => {
    const heap = createHeap();
    const ptr = heap.reserve(INITIAL_BYTES);
    expect(ptr).toBe(BASE);
    expect(heap.bytesHeld).toBe(INITIAL_BYTES + PAGE_BYTES);
    expect(heap.reserve(PAGE_BYTES - BASE)).toBe(BASE + INITIAL_BYTES);
    expect(heap.bytesHeld).toBe(INITIAL_BYTES + PAGE_BYTES);
  });

  it("throws CapacityError before anything changes, at its own limit and at the host's", () => {
    const limited = new Heap(createMemory(), BASE, { maximumBytes: INITIAL_BYTES });
    const refused = new Heap(new WebAssembly.Memory({ initial: INITIAL_PAGES, maximum: INITIAL_PAGES }), BASE);
    for (const heap of [limited, refused]) {
      const ptr = heap.reserve(64);
      heap.u8(ptr, 64).fill(9);
      expect(() => heap.reserve(INITIAL_BYTES)).toThrow(CapacityError);
      expect([heap.bytesInUse, heap.bytesHeld]).toEqual([64, INITIAL_BYTES]);
      expect(heap.u8(ptr, 64).every((x) => x === 9)).toBe(true);
      expect(heap.reserve(INITIAL_BYTES - BASE - 64), "all that is left").toBe(BASE + 64);
    }
  });

  it("refuses sizes that are not counts, and addresses that it did not give", () => {
    const heap = createHeap();
    for (const bytes of [-1, 1.5, Number.NaN, Infinity]) {
      expect(() => heap.reserve(bytes)).toThrow(`bytes: expected an integer from 0 to 9007199254740991, got ${bytes}`);
    }
    const ptr = heap.reserve(64);
    expect(() => heap.release(ptr + 16)).toThrow(`ptr: expected a reserved address, got ${ptr + 16}`);
    heap.release(ptr);
    expect(() => heap.release(ptr), "a second time").toThrow(RangeError);
    expect(heap.bytesInUse).toBe(0);
  });

  it("grow-on-every-reserve detaches the views made before", () => {
    const heap = createHeap({ growOnReserve: true });
    const view = heap.u8(heap.reserve(16), 16);
    heap.reserve(16);
    expect(view.length).toBe(0);
  });

  it("poisons what was released, and nothing beside it", () => {
    const heap = createHeap({ poison: true });
    const ptrs = [32, 32, 32].map((bytes) => heap.reserve(bytes));
    heap.u8(ptrs[0], 96).fill(1);
    heap.release(ptrs[1]);
    expect(Array.from(heap.u8(ptrs[0], 96))).toEqual(Array.from({ length: 96 }, (_, i) => (i >> 5 === 1 ? 0xa5 : 1)));
  });

  it("scratch ends its reservations with the frame, also on a throw, and gives the result", () => {
    const heap = createHeap();
    const kept = heap.reserve(16);
    const inside = heap.scratch((frame) => {
      frame.reserve(100);
      heap.scratch((inner) => inner.reserve(1000));
      return heap.bytesInUse;
    });
    expect(inside).toBe(16 + 112);
    const failure = new Error("work failed");
    const work = () =>
      heap.scratch((frame) => {
        frame.reserve(100);
        throw failure;
      });
    expect(work).toThrow(failure);
    expect(heap.bytesInUse).toBe(16);
    expect(heap.reserve(16), "the frame's range is free again").toBe(kept + 16);
  });
});

/** First fit, unit by unit: what the heap must do, written as simply as can be. */
class NaiveHeap {
  readonly taken: boolean[] = [];
  readonly options: HeapOptions;
  endUnits = (INITIAL_BYTES - BASE) / ALIGNMENT;
  constructor(options: HeapOptions) {
    this.options = options;
  }

  /** Undefined where the limit would be passed. */
  reserve(bytes: number): number | undefined {
    const size = Math.max(1, Math.ceil(bytes / ALIGNMENT));
    const grown = this.endUnits + (this.options.growOnReserve ? PAGE_BYTES / ALIGNMENT : 0);
    let first = 0;
    for (let i = 0; i < first + size; i++) if (this.taken[i]) first = i + 1;
    const pages = Math.max(0, Math.ceil(((first + size - grown) * ALIGNMENT) / PAGE_BYTES));
    const end = grown + (pages * PAGE_BYTES) / ALIGNMENT;
    if (BASE + end * ALIGNMENT > (this.options.maximumBytes ?? Infinity)) return undefined;
    this.endUnits = end;
    this.taken.fill(true, first, first + size);
    for (let i = this.taken.length; i < first + size; i++) this.taken[i] = true;
    return BASE + first * ALIGNMENT;
  }

  release(ptr: number, bytes: number): void {
    const first = (ptr - BASE) / ALIGNMENT;
    this.taken.fill(false, first, first + Math.max(1, Math.ceil(bytes / ALIGNMENT)));
  }

  get bytesInUse(): number {
    return this.taken.filter(Boolean).length * ALIGNMENT;
  }
}

/** Reserve so many bytes, or release the live range of that number (modulo how many there are). */
type Step = { reserve: number } | { release: number };

const steps = fc.array(
  fc.oneof(
    fc.record({ reserve: fc.oneof(fc.integer({ min: 0, max: 200 }), fc.integer({ min: 0, max: 6 * PAGE_BYTES })) }),
    fc.record({ release: fc.nat(1000) }),
  ) as fc.Arbitrary<Step>,
  { maxLength: 60 },
);

describe("heap against a naive allocator", () => {
  it.each<[string, HeapOptions]>([
    ["as it is", {}],
    ["with a limit", { maximumBytes: INITIAL_BYTES + 2 * PAGE_BYTES }],
    ["in the test modes", { growOnReserve: true, poison: true }],
  ])("gives the same addresses, keeps every byte in use: %s", (_, options) => {
    const run = (script: Step[]): void => {
      const [heap, naive] = [createHeap(options), new NaiveHeap(options)];
      const live: { ptr: number; bytes: number; mark: number }[] = [];
      script.forEach((step, i) => {
        if ("reserve" in step) {
          const expected = naive.reserve(step.reserve);
          if (expected === undefined) {
            expect(() => heap.reserve(step.reserve)).toThrow(CapacityError);
          } else {
            const ptr = heap.reserve(step.reserve);
            expect(ptr).toBe(expected);
            heap.u8(ptr, step.reserve).fill(i);
            live.push({ ptr, bytes: step.reserve, mark: i });
          }
        } else if (live.length) {
          const [{ ptr, bytes }] = live.splice(step.release % live.length, 1);
          heap.release(ptr);
          naive.release(ptr, bytes);
        }
        expect(heap.bytesInUse).toBe(naive.bytesInUse);
        expect(heap.bytesHeld).toBe(BASE + naive.endUnits * ALIGNMENT);
      });
      for (const { ptr, bytes, mark } of live) expect(heap.u8(ptr, bytes).every((x) => x === mark)).toBe(true);
    };
    fc.assert(fc.property(steps, run), { numRuns: 60 });
  });
});
