import { beforeAll, describe, expect, it } from "vitest";
import { leadingScratchBytes } from "../../src/codec/layout.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { type Arena, withArena } from "../support/arena.ts";
import { EDGES } from "../support/edges.ts";
import { eigen, expectOrthonormal, F32_TOLERANCE, fallingRows, gram, type Pairs } from "../support/eigenpairs.ts";
import { sameBits } from "../support/exact.ts";
import { PLATFORMS } from "../support/platforms.ts";

function leading(
  runtime: Runtime,
  arena: Arena,
  matrix: Float64Array,
  n: number,
  rank: number,
  oversample: number,
): Pairs {
  const k = rank + oversample;
  const [valuesPtr, vectorsPtr] = [arena.out(8 * k), arena.out(8 * k * n)];
  const scratchPtr = arena.out(leadingScratchBytes(n, rank, oversample));
  const status = runtime.kernels.leadingEigen(
    valuesPtr,
    vectorsPtr,
    arena.put(matrix),
    scratchPtr,
    n,
    rank,
    oversample,
    2,
  );
  return { status, values: arena.f64(valuesPtr, rank), vectors: arena.f64(vectorsPtr, rank * n) };
}

describe.each(PLATFORMS)("leadingEigen on $name", ({ create }) => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await create();
  });

  it("captures the energy of the leading channels within 0.1 %", () => {
    const n = 64;
    const matrix = gram(fallingRows(200, n, 0.93), 200, n);
    const all = withArena(runtime, (arena) => eigen(runtime, arena, matrix, n));
    const { values, vectors } = withArena(runtime, (arena) => leading(runtime, arena, matrix, n, 20, 8));
    expectOrthonormal(vectors, 20, n, F32_TOLERANCE);
    const energy = (x: Float64Array) => x.subarray(0, 20).reduce((a, b) => a + b, 0);
    expect(energy(values) / energy(all.values)).toBeGreaterThan(0.999);
  });

  it.each<[string, (i: number, j: number) => number, number[]]>([
    ["zeros", () => 0, [0, 0, 0]],
    ["equal values", (i, j) => (i === j ? 2 : 0), [2, 2, 2]],
    ["rank 1", (i, j) => (1 + i) * (1 + j), [(16 * 17 * 33) / 6, 0, 0]],
    ["one huge outlier", (i, j) => (i !== j ? 0 : i === 9 ? 1e12 : 1), [1e12, 1, 1]],
  ])("takes %s", (_, element, expected) => {
    const matrix = Float64Array.from({ length: 256 }, (_, i) => element(i >> 4, i & 15));
    const { values, vectors } = withArena(runtime, (arena) => leading(runtime, arena, matrix, 16, 3, 4));
    values.forEach((x, k) => {
      expect(Math.abs(x - expected[k])).toBeLessThanOrEqual(F32_TOLERANCE * expected[0]);
    });
    expectOrthonormal(vectors, expected.filter((x) => x > 0).length, 16, F32_TOLERANCE);
  });

  it("gives zero values past the rank of the matrix", () => {
    const { values, status } = withArena(runtime, (arena) =>
      leading(runtime, arena, gram(fallingRows(3, 32, 1), 3, 32), 32, 8, 4),
    );
    expect(status).toBeGreaterThan(0);
    expect(values[2]).toBeGreaterThan(0);
    for (const value of values.subarray(3)) expect(Math.abs(value)).toBeLessThan(1e-9 * values[0]);
  });
});

describe("leadingEigen everywhere", () => {
  it.each([
    [1, 1, 0],
    [2, 1, 1],
    [17, 5, 3],
    [32, 8, 4],
    [65, 16, 9],
  ])("gives the same bits as its twin: of dimension %i, rank %i and %i more", async (n, rank, oversample) => {
    const same = await sameBits();
    const matrix = gram(fallingRows(2 * n, n, 0.9), 2 * n, n);
    same((runtime, arena) => {
      const { values, vectors, status } = leading(runtime, arena, matrix, n, rank, oversample);
      return [values, vectors, [status]];
    });
  });

  it.each(EDGES)("same bits for the Gram of %s", async (_, make) => {
    const same = await sameBits();
    const matrix = gram(Float64Array.from(make(12, 6)), 12, 6);
    same((runtime, arena) => {
      const { values, vectors, status } = leading(runtime, arena, matrix, 6, 2, 2);
      return [values, vectors, [status]];
    });
  });
});
