import { beforeAll, describe, expect, it } from "vitest";
import { momentScratchBytes } from "../../src/codec/layout.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { type Arena, noise, withArena } from "../support/arena.ts";
import { EDGES } from "../support/edges.ts";
import { expectSame, sameBits } from "../support/exact.ts";
import { PLATFORMS, SIZES } from "../support/platforms.ts";

interface Input {
  rows: Float32Array;
  rowCount: number;
  dim: number;
  centre?: Float32Array | undefined;
  weights?: Float32Array | undefined;
}

function moments(runtime: Runtime, arena: Arena, { rows, rowCount, dim, centre, weights }: Input) {
  const rowsPtr = arena.put(rows);
  const centrePtr = centre ? arena.put(centre) : 0;
  const weightsPtr = weights ? arena.put(weights) : 0;
  const [meanPtr, momentPtr, scratchPtr] = [
    arena.out(8 * dim),
    arena.out(8 * dim * dim),
    arena.out(momentScratchBytes(dim)),
  ];
  const total = runtime.kernels.mean(meanPtr, rowsPtr, weightsPtr, rowCount, dim);
  runtime.kernels.secondMoment(momentPtr, rowsPtr, centrePtr, weightsPtr, scratchPtr, rowCount, dim);
  return { total, mean: arena.f64(meanPtr, dim), moment: arena.f64(momentPtr, dim * dim) };
}

function expectedMoment({ rows, rowCount, dim, centre, weights }: Input): Float64Array {
  const out = new Float64Array(dim * dim);
  let total = 0;
  for (let t = 0; t < rowCount; t++) {
    const w = weights ? weights[t] : 1;
    total += w;
    const x = (d: number) => rows[t * dim + d] - (centre ? centre[d] : 0);
    for (let i = 0; i < dim; i++) for (let j = 0; j < dim; j++) out[i * dim + j] += w * x(i) * x(j);
  }
  return total > 0 ? out.map((x) => x / total) : out;
}

describe.each(PLATFORMS)("moments on $name", ({ create }) => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await create();
  });

  it.each(SIZES.filter((dim) => dim <= 65))(
    "second moment of dimension %i within 1e-6 of its trace, symmetric",
    (dim) => {
      for (const rowCount of [1, 31, 32, 33, 129]) {
        const input = {
          rows: noise(rowCount * dim, dim + 1),
          rowCount,
          dim,
          centre: noise(dim, 5),
          weights: noise(rowCount, 6).map(Math.abs),
        };
        const { moment } = withArena(runtime, (arena) => moments(runtime, arena, input));
        const expected = expectedMoment(input);
        const trace = Array.from({ length: dim }, (_, i) => expected[i * (dim + 1)]).reduce((a, b) => a + b, 0);
        const errors = expected.map((x, i) => Math.abs(moment[i] - x));
        expect(Math.max(0, ...errors)).toBeLessThanOrEqual(1e-6 * trace);
        const mirrored = moment.map((_, i) => moment[(i % dim) * dim + Math.floor(i / dim)]);
        expectSame(moment, mirrored, "symmetric");
      }
    },
  );

  it("sums the mean in f64: a small spread on a large offset survives", () => {
    const rowCount = 100_000;
    const rows = Float32Array.from({ length: rowCount }, (_, i) => 1000 + (i % 2));
    const { mean, total } = withArena(runtime, (arena) => moments(runtime, arena, { rows, rowCount, dim: 1 }));
    expect(mean[0]).toBe(1000.5);
    expect(total).toBe(rowCount);
  });

  it("leaves zeros for no rows and for weights that are all zero", () => {
    for (const input of [
      { rows: new Float32Array(0), rowCount: 0, dim: 5 },
      { rows: noise(10), rowCount: 2, dim: 5, weights: new Float32Array(2) },
    ]) {
      const { mean, moment, total } = withArena(runtime, (arena) => moments(runtime, arena, input));
      expect(total).toBe(0);
      expect([...mean, ...moment].every((x) => x === 0)).toBe(true);
    }
  });

  it("a channel that is constant, so zero once centred, has no moment with any other", () => {
    const rows = noise(65 * 9, 2).map((x, i) => (i % 9 === 4 ? -1.7 : x));
    const centre = new Float32Array(9).fill(-1.7);
    const { mean, moment } = withArena(runtime, (arena) =>
      moments(runtime, arena, { rows, rowCount: 65, dim: 9, centre }),
    );
    expect(mean[4]).toBeCloseTo(Math.fround(-1.7), 12);
    expect(Array.from(moment.subarray(4 * 9, 5 * 9))).toEqual(new Array(9).fill(0));
    expect(moment[0]).toBeGreaterThan(0);
  });

  it("denormals have a mean; their squares vanish in f32 and leave zeros", () => {
    const rows = Float32Array.of(2e-40, -1e-40, 4e-40, 3e-40);
    const { mean, moment } = withArena(runtime, (arena) => moments(runtime, arena, { rows, rowCount: 2, dim: 2 }));
    expect(Array.from(mean)).toEqual([(rows[0] + rows[2]) / 2, (rows[1] + rows[3]) / 2]);
    expect(Array.from(moment)).toEqual([0, 0, 0, 0]);
  });

  it("weights of 2 count as the row twice", () => {
    const [a, b] = [noise(8, 1), noise(8, 2)];
    const weighted = withArena(runtime, (arena) =>
      moments(runtime, arena, {
        rows: Float32Array.of(...a, ...b),
        rowCount: 2,
        dim: 8,
        weights: Float32Array.of(2, 1),
      }),
    );
    const repeated = withArena(runtime, (arena) =>
      moments(runtime, arena, { rows: Float32Array.of(...a, ...a, ...b), rowCount: 3, dim: 8 }),
    );
    weighted.moment.forEach((x, i) => {
      expect(x).toBeCloseTo(repeated.moment[i], 6);
    });
  });
});

describe("moments everywhere", () => {
  it("give the same bits as their twins", async () => {
    const same = await sameBits();
    for (const dim of [1, 3, 4, 7, 8, 12, 64, 67, 129]) {
      for (const rowCount of [0, 1, 31, 65]) {
        const weights = dim % 2 ? noise(rowCount, 4).map(Math.abs) : undefined;
        const input = { rows: noise(rowCount * dim, dim + 1), rowCount, dim, centre: noise(dim, 5), weights };
        same((runtime, arena) => {
          const { mean, moment } = moments(runtime, arena, input);
          return [mean, moment];
        });
      }
    }
    for (const [, make] of EDGES) {
      same((runtime, arena) => {
        const { mean, moment } = moments(runtime, arena, { rows: make(37, 13), rowCount: 37, dim: 13 });
        return [mean, moment];
      });
    }
  });
});
