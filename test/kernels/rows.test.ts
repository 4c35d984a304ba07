import { beforeAll, describe, expect, it } from "vitest";
import { fromHalf } from "../../src/codec/half.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { noise, withArena } from "../support/arena.ts";
import { EDGES } from "../support/edges.ts";
import { sameBits } from "../support/exact.ts";
import { PLATFORMS, SIZES } from "../support/platforms.ts";

const ALL_HALVES = Uint16Array.from({ length: 65536 }, (_, i) => i);
const isNan = (bits: number): boolean => (bits & 0x7c00) === 0x7c00 && (bits & 0x3ff) !== 0;

describe.each(PLATFORMS)("rows on $name", ({ create }) => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await create();
  });

  it("widens every half exactly and narrows it back", () => {
    withArena(runtime, (arena) => {
      const [bitsPtr, outPtr, backPtr] = [arena.put(ALL_HALVES), arena.out(4 * 65536), arena.out(2 * 65536)];
      runtime.kernels.widenF16(outPtr, bitsPtr, 65536);
      const wide = arena.f32(outPtr, 65536);
      for (const bits of ALL_HALVES) {
        if (isNan(bits)) expect(wide[bits]).toBeNaN();
        else expect(Object.is(wide[bits], fromHalf(bits)), `half ${bits}`).toBe(true);
      }
      runtime.kernels.narrowF16(backPtr, outPtr, 65536);
      const back = arena.u16(backPtr, 65536);
      expect(ALL_HALVES.every((bits) => isNan(bits) || back[bits] === bits)).toBe(true);
    });
  });

  it("narrows to the nearest even half, over to infinity", () => {
    const values = Float32Array.of(
      65519.99,
      65520,
      1e30,
      -1e30,
      1 + 2 ** -11,
      1 + 3 * 2 ** -11,
      2 ** -25,
      3 * 2 ** -26,
      1e-30,
    );
    const expected = [0x7bff, 0x7c00, 0x7c00, 0xfc00, 0x3c00, 0x3c02, 0, 1, 0];
    withArena(runtime, (arena) => {
      const [valuesPtr, outPtr] = [arena.put(values), arena.out(2 * values.length)];
      runtime.kernels.narrowF16(outPtr, valuesPtr, values.length);
      expect(Array.from(arena.u16(outPtr, values.length))).toEqual(expected);
    });
  });

  it.each(SIZES)("widens %i halves and bfloats, tails included", (count) => {
    withArena(runtime, (arena) => {
      const bits = ALL_HALVES.slice(15000, 15000 + count);
      const [bitsPtr, halfPtr, bfloatPtr] = [arena.put(bits), arena.out(4 * count), arena.out(4 * count)];
      runtime.kernels.widenF16(halfPtr, bitsPtr, count);
      runtime.kernels.widenBf16(bfloatPtr, bitsPtr, count);
      expect(arena.f32(halfPtr, count)).toEqual(Float32Array.from(bits, fromHalf));
      expect(arena.f32(bfloatPtr, count)).toEqual(new Float32Array(Uint32Array.from(bits, (x) => x << 16).buffer));
    });
  });

  it("counts NaN and infinities", () => {
    withArena(runtime, (arena) => {
      const ptr = arena.put(Float32Array.of(1, Number.NaN, -Infinity, 3.4e38, 1e-45, Infinity));
      expect(runtime.kernels.countNonFinite(ptr, 6)).toBe(3);
      expect(runtime.kernels.countNonFinite(ptr, 0)).toBe(0);
    });
  });

  it.each(SIZES)("finds one NaN or infinity anywhere among %i values", (count) => {
    withArena(runtime, (arena) => {
      const values = noise(count, 8);
      const ptr = arena.put(values);
      const found = Array.from(values, (_, i) => {
        runtime.heap.f32(ptr, count)[i] = [Number.NaN, Infinity, -Infinity][i % 3];
        const bad = runtime.kernels.countNonFinite(ptr, count);
        runtime.heap.f32(ptr, count)[i] = values[i];
        return bad;
      });
      expect(found).toEqual(new Array(count).fill(1));
    });
  });

  it.each([
    [0, 1],
    [1, 3],
    [5, 2],
    [33, 4],
  ])("gathers %i rows of %i heads and scatters them back", (rowCount, heads) => {
    const headDim = 8;
    const tokens = rowCount + 3;
    const tensor = noise(heads * tokens * headDim);
    withArena(runtime, (arena) => {
      const tensorPtr = arena.put(tensor);
      const rowsPtr = arena.out(4 * rowCount * heads * headDim);
      const backPtr = arena.put(new Float32Array(tensor.length));
      runtime.kernels.gatherRows(rowsPtr, tensorPtr + 4 * headDim, rowCount, heads, headDim, tokens * headDim, headDim);
      const rows = arena.f32(rowsPtr, rowCount * heads * headDim);
      for (let row = 0; row < rowCount; row++) {
        for (let head = 0; head < heads; head++) {
          const at = (head * tokens + row + 1) * headDim;
          expect(rows.slice((row * heads + head) * headDim, (row * heads + head + 1) * headDim)).toEqual(
            tensor.slice(at, at + headDim),
          );
        }
      }
      runtime.kernels.scatterRows(backPtr + 4 * headDim, rowsPtr, rowCount, heads, headDim, tokens * headDim, headDim);
      const back = arena.f32(backPtr, tensor.length);
      const inside = (i: number) =>
        Math.floor(i / headDim) % tokens >= 1 && Math.floor(i / headDim) % tokens <= rowCount;
      expect(back).toEqual(tensor.map((x, i) => (inside(i) ? x : 0)));
    });
  });

  it("measures norms and scales rows", () => {
    withArena(runtime, (arena) => {
      const rowsPtr = arena.put(Float32Array.of(3, 4, 0, 0, 0, 0, 1e-20, 1e-20, 1e20));
      const normsPtr = arena.out(12);
      runtime.kernels.rowNorms(normsPtr, rowsPtr, 3, 3);
      expect(arena.f32(normsPtr, 3)).toEqual(Float32Array.of(5 / Math.sqrt(3), 0, Math.fround(1e20) / Math.sqrt(3)));
      runtime.kernels.scaleRows(rowsPtr, rowsPtr, arena.put(Float32Array.of(2, 5, 0.5)), 3, 3);
      expect(arena.f32(rowsPtr, 4)).toEqual(Float32Array.of(6, 8, 0, 0));
    });
  });
});

describe("rows everywhere", () => {
  it("give the same bits as their twins at every size", async () => {
    const same = await sameBits();
    for (const count of SIZES) {
      const values = noise(3 * count, count + 1).map((x, i) => x * 2 ** ((i % 60) - 30));
      same((runtime, arena) => {
        const [valuesPtr, halvesPtr] = [arena.put(values), arena.out(6 * count)];
        const [normsPtr, scaledPtr, widePtr] = [arena.out(12), arena.out(12 * count), arena.out(12 * count)];
        runtime.kernels.narrowF16(halvesPtr, valuesPtr, 3 * count);
        runtime.kernels.widenF16(widePtr, halvesPtr, 3 * count);
        if (count) runtime.kernels.rowNorms(normsPtr, valuesPtr, 3, count);
        runtime.kernels.scaleRows(scaledPtr, valuesPtr, arena.put(Float32Array.of(0.3, -7, 1e-30)), 3, count);
        return [
          arena.u16(halvesPtr, 3 * count),
          arena.f32(widePtr, 3 * count),
          arena.f32(normsPtr, 3),
          arena.f32(scaledPtr, 3 * count),
        ];
      });
    }
  });

  it.each(EDGES)("same bits for %s", async (_, make) => {
    const same = await sameBits();
    same((runtime, arena) => {
      const [valuesPtr, halvesPtr, normsPtr] = [arena.put(make(5, 13)), arena.out(2 * 65), arena.out(20)];
      runtime.kernels.narrowF16(halvesPtr, valuesPtr, 65);
      runtime.kernels.rowNorms(normsPtr, valuesPtr, 5, 13);
      runtime.kernels.scaleRows(valuesPtr, valuesPtr, normsPtr, 5, 13);
      return [arena.u16(halvesPtr, 65), arena.f32(normsPtr, 5), arena.f32(valuesPtr, 65)];
    });
  });
});
