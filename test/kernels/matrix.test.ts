import { Matrix } from "ml-matrix";
import { beforeAll, describe, expect, it } from "vitest";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { type Arena, noise, withArena } from "../support/arena.ts";
import { sameBits } from "../support/exact.ts";
import { PLATFORMS } from "../support/platforms.ts";

const SHAPES = [
  [0, 3, 2],
  [1, 1, 1],
  [4, 4, 4],
  [5, 7, 9],
  [16, 33, 12],
  [17, 64, 65],
  [3, 0, 5],
] as const;

function product(runtime: Runtime, arena: Arena, rows: number, inner: number, columns: number): Float64Array {
  const [aPtr, bPtr] = [
    arena.put(Float64Array.from(noise(rows * inner, 1))),
    arena.put(Float64Array.from(noise(inner * columns, 2))),
  ];
  const outPtr = arena.out(8 * rows * columns);
  runtime.kernels.multiply(outPtr, aPtr, bPtr, rows, inner, columns);
  return arena.f64(outPtr, rows * columns);
}

describe.each(PLATFORMS)("matrix on $name", ({ create }) => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await create();
  });

  it.each(SHAPES)("multiplies %i x %i by %i columns", (rows, inner, columns) => {
    const got = withArena(runtime, (arena) => product(runtime, arena, rows, inner, columns));
    const matrix = (r: number, c: number, seed: number) => Matrix.from1DArray(r, c, Array.from(noise(r * c, seed)));
    const expected =
      rows && inner
        ? matrix(rows, inner, 1)
            .mmul(matrix(inner, columns, 2))
            .to1DArray()
        : new Array(rows * columns).fill(0);
    expected.forEach((x, i) => {
      expect(got[i]).toBeCloseTo(x, 12);
    });
  });

  it("transposes twice to the same", () => {
    const values = Float64Array.from(noise(7 * 5, 3));
    withArena(runtime, (arena) => {
      const [inPtr, outPtr, backPtr] = [arena.put(values), arena.out(8 * 35), arena.out(8 * 35)];
      runtime.kernels.transpose(outPtr, inPtr, 7, 5);
      expect(arena.f64(outPtr, 35)[1]).toBe(values[5]);
      runtime.kernels.transpose(backPtr, outPtr, 5, 7);
      expect(arena.f64(backPtr, 35)).toEqual(values);
    });
  });
});

describe("matrix everywhere", () => {
  it("gives the same bits as its twin", async () => {
    const same = await sameBits();
    for (const [rows, inner, columns] of SHAPES)
      same((runtime, arena) => [product(runtime, arena, rows, inner, columns)]);
  });
});
