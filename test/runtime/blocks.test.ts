import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CapacityError, DisposedError } from "../../src/errors.ts";
import { BlockPool } from "../../src/runtime/blocks.ts";
import { Heap, type HeapOptions, INITIAL_PAGES } from "../../src/runtime/heap.ts";
import { createMemory } from "../../src/runtime/runtime.ts";

const createHeap = (options: HeapOptions = {}): Heap => new Heap(createMemory(options.maximumBytes), 1024, options);

describe("block pool", () => {
  it("gives aligned blocks that do not overlap, slab after slab, and never moves one", () => {
    const pool = new BlockPool(createHeap({ growOnReserve: true }), 48);
    const blocks = Array.from({ length: 200 }, () => pool.take());
    const sorted = blocks.toSorted((a, b) => a - b);
    sorted.forEach((ptr, i) => {
      expect(ptr % 16).toBe(0);
      if (i) expect(ptr - sorted[i - 1]).toBeGreaterThanOrEqual(48);
    });
    expect(pool.blocksInUse).toBe(200);
    expect(pool.bytesHeld).toBeGreaterThanOrEqual(200 * 48);
  });

  it("hands out first what came back last, and holds no more for it", () => {
    const pool = new BlockPool(createHeap(), 16);
    const blocks = Array.from({ length: 10 }, () => pool.take());
    const held = pool.bytesHeld;
    pool.give(blocks[3]);
    pool.give(blocks[7]);
    expect([pool.take(), pool.take()]).toEqual([blocks[7], blocks[3]]);
    expect(pool.bytesHeld).toBe(held);
  });

  it("keeps the content of every block in use, whatever is taken and given", () => {
    const steps = fc.array(fc.oneof(fc.constant("take" as const), fc.nat(1000)), { maxLength: 200 });
    const run = (script: ("take" | number)[]): void => {
      const heap = createHeap({ growOnReserve: true, poison: true });
      const pool = new BlockPool(heap, 32);
      const live: { ptr: number; mark: number }[] = [];
      script.forEach((step, mark) => {
        if (step === "take") {
          const ptr = pool.take();
          heap.u8(ptr, 32).fill(mark);
          live.push({ ptr, mark });
        } else if (live.length) {
          pool.give(live.splice(step % live.length, 1)[0].ptr);
        }
        expect(pool.blocksInUse).toBe(live.length);
      });
      for (const { ptr, mark } of live) expect(heap.u8(ptr, 32).every((x) => x === mark)).toBe(true);
      pool.dispose();
      expect(heap.bytesInUse).toBe(0);
    };
    fc.assert(fc.property(steps, run), { numRuns: 60 });
  });

  it("throws CapacityError at the memory limit and goes on with what it has", () => {
    const maximumBytes = INITIAL_PAGES * 65536;
    const heap = createHeap({ maximumBytes });
    const pool = new BlockPool(heap, 8192);
    const blocks: number[] = [];
    const takeAll = (): void => {
      while (blocks.length <= maximumBytes / 8192) blocks.push(pool.take());
    };
    expect(takeAll).toThrow(CapacityError);
    expect(pool.blocksInUse).toBe(blocks.length);
    expect(heap.bytesInUse).toBe(pool.bytesHeld);
    pool.give(blocks[0]);
    expect(pool.take()).toBe(blocks[0]);
  });

  it("refuses block sizes that break alignment, and blocks that are not out", () => {
    for (const bytes of [0, -16, 8, 24, 16.5, Number.NaN]) {
      expect(() => new BlockPool(createHeap(), bytes)).toThrow(
        `blockBytes: expected a positive multiple of 16, got ${bytes}`,
      );
    }
    const pool = new BlockPool(createHeap(), 32);
    const ptr = pool.take();
    expect(() => pool.give(ptr + 32)).toThrow(`ptr: expected a block taken from this pool, got ${ptr + 32}`);
    pool.give(ptr);
    expect(() => pool.give(ptr), "a second time").toThrow(RangeError);
  });

  it("disposes once and for all", () => {
    const heap = createHeap();
    const pool = new BlockPool(heap, 32);
    const ptr = pool.take();
    pool.dispose();
    pool.dispose();
    expect([heap.bytesInUse, pool.blocksInUse, pool.bytesHeld]).toEqual([0, 0, 0]);
    expect(() => pool.take()).toThrow(DisposedError);
    expect(() => pool.give(ptr)).toThrow(DisposedError);
  });
});
