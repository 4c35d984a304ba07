import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { type Arena, noise, withArena } from "../support/arena.ts";
import { EDGES } from "../support/edges.ts";
import { expectSame, sameBits } from "../support/exact.ts";
import { PLATFORMS } from "../support/platforms.ts";

const ROW_COUNTS = [0, 1, 2, 3, 4, 5, 7, 8, 31, 33, 64, 65, 129];
const HEAD_DIMS = [32, 36, 64, 80, 128];
const QUERY_COUNTS = [1, 2, 3, 4, 5, 6, 7, 8, 9];
/** What a kernel must leave between the rows of an output: 0xEE bytes. */
const UNWRITTEN = new Float32Array(Uint8Array.of(0xee, 0xee, 0xee, 0xee).buffer)[0];

interface Shape {
  rowCount: number;
  headDim: number;
  queryCount: number;
  /** Elements past the row length, of rows and of scores or weights. */
  rowGap?: number;
  scoreGap?: number;
}

const strideOf = ({ rowCount, headDim, rowGap = 0, scoreGap = 0 }: Shape) => ({
  row: headDim + rowGap,
  score: rowCount + scoreGap,
});

/** Elements of `count` rows of `length`, the last without what follows it. */
const spanned = (count: number, length: number, stride: number): number => (count ? (count - 1) * stride + length : 0);

function scoreRows(runtime: Runtime, arena: Arena, shape: Shape, keys: Float32Array, queries: Float32Array) {
  const { rowCount, headDim, queryCount } = shape;
  const stride = strideOf(shape);
  const scoreSpan = spanned(queryCount, rowCount, stride.score);
  const [queriesPtr, scoresPtr] = [arena.put(queries), arena.out(4 * scoreSpan)];
  const keysPtr = arena.putAtEnd(keys.subarray(0, spanned(rowCount, headDim, stride.row)));
  runtime.kernels.scoreRows(scoresPtr, keysPtr, queriesPtr, rowCount, headDim, queryCount, stride.row, stride.score);
  return arena.f32(scoresPtr, scoreSpan);
}

function mixRows(
  runtime: Runtime,
  arena: Arena,
  shape: Shape,
  values: Float32Array,
  weights: Float32Array,
  start: Float32Array = new Float32Array(shape.queryCount * shape.headDim),
) {
  const { rowCount, headDim, queryCount } = shape;
  const stride = strideOf(shape);
  const outPtr = arena.put(start);
  const weightsPtr = arena.put(weights.subarray(0, spanned(queryCount, rowCount, stride.score)));
  const valuesPtr = arena.putAtEnd(values.subarray(0, spanned(rowCount, headDim, stride.row)));
  runtime.kernels.mixRows(outPtr, valuesPtr, weightsPtr, rowCount, headDim, queryCount, stride.row, stride.score);
  return arena.f32(outPtr, queryCount * headDim);
}

/** Noise for rows, queries, weights and what the output starts from. */
function inputs(shape: Shape, seed = 1) {
  const stride = strideOf(shape);
  return {
    rows: noise(shape.rowCount * stride.row, seed),
    queries: noise(shape.queryCount * shape.headDim, seed + 1),
    weights: noise(shape.queryCount * stride.score, seed + 2),
    start: noise(shape.queryCount * shape.headDim, seed + 3),
  };
}

/** Sum of products in f64, and what `roundings` of f32 in a row may do to it. */
function exactDot(count: number, a: (i: number) => number, b: (i: number) => number, roundings: number) {
  let [sum, size] = [0, 0];
  for (let i = 0; i < count; i++) {
    sum += a(i) * b(i);
    size += Math.abs(a(i) * b(i));
  }
  return { sum, bound: roundings * 2 ** -24 * size + 1e-45 * count };
}

describe.each(PLATFORMS)("attention on rows, on $name", ({ create }) => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await create();
  });

  function expectDefinition(shape: Shape, seed = 1): void {
    const { rowCount, headDim, queryCount } = shape;
    const stride = strideOf(shape);
    const { rows, queries, weights, start } = inputs(shape, seed);
    const scores = withArena(runtime, (arena) => scoreRows(runtime, arena, shape, rows, queries));
    scores.forEach((score, i) => {
      const [q, t] = [Math.floor(i / stride.score), i % stride.score];
      // A lane takes headDim / 4 products and sums; three more sums follow.
      const roundings = headDim / 4 + 4;
      const query = (d: number): number => queries[q * headDim + d];
      const exact = exactDot(headDim, query, (d) => rows[t * stride.row + d], roundings);
      if (t >= rowCount) expect(score).toBe(UNWRITTEN);
      else if (!(Math.abs(score - exact.sum) <= exact.bound)) expect(score).toBe(exact.sum);
    });
    const mixed = withArena(runtime, (arena) => mixRows(runtime, arena, shape, rows, weights, start));
    mixed.forEach((x, i) => {
      const [q, d] = [Math.floor(i / headDim), i % headDim];
      const exact = exactDot(
        rowCount + 1,
        (t) => (t < rowCount ? weights[q * stride.score + t] : start[i]),
        (t) => (t < rowCount ? rows[t * stride.row + d] : 1),
        rowCount + 1,
      );
      if (!(Math.abs(x - exact.sum) <= exact.bound)) expect(x).toBe(exact.sum);
    });
    expect(mixed.length).toBe(queryCount * headDim);
  }

  it.each(ROW_COUNTS)("of %i rows is the definition, in f64, up to roundings", (rowCount) => {
    for (const queryCount of [1, 2, 3]) expectDefinition({ rowCount, headDim: 36, queryCount, rowGap: 5, scoreGap: 3 });
    expectDefinition({ rowCount, headDim: 64, queryCount: 9 });
  });

  it("is the definition for any shape, aligned or not", () => {
    const shape = fc.record({
      rowCount: fc.integer({ min: 0, max: 70 }),
      headDim: fc.integer({ min: 1, max: 24 }).map((x) => 4 * x),
      queryCount: fc.integer({ min: 0, max: 9 }),
      rowGap: fc.integer({ min: 0, max: 9 }),
      scoreGap: fc.integer({ min: 0, max: 9 }),
    });
    fc.assert(fc.property(shape, fc.nat(1000), expectDefinition), { numRuns: 60 });
  });

  it("no rows: scores of nothing, and an output left as it was", () => {
    const shape = { rowCount: 0, headDim: 32, queryCount: 2 };
    const { start } = inputs(shape);
    expectSame(
      withArena(runtime, (arena) => mixRows(runtime, arena, shape, new Float32Array(), new Float32Array(), start)),
      start,
    );
  });

  it("rows in two calls mix as in one, for any cut", () => {
    const whole = { rowCount: 129, headDim: 36, queryCount: 3 };
    const { rows, weights, start } = inputs(whole);
    const expected = withArena(runtime, (arena) => mixRows(runtime, arena, whole, rows, weights, start));
    for (const cut of [1, 31, 63, 64, 65, 128]) {
      const got = withArena(runtime, (arena) => {
        const first = { ...whole, rowCount: cut, scoreGap: 129 - cut };
        const rest = { ...whole, rowCount: 129 - cut, scoreGap: cut };
        const half = mixRows(runtime, arena, first, rows, weights, start);
        return mixRows(runtime, arena, rest, rows.subarray(36 * cut), weights.subarray(cut), half);
      });
      expectSame(got, expected, `cut at ${cut}`);
    }
  });

  it("a query does not depend on its neighbours, nor a token on its", () => {
    const shape = { rowCount: 13, headDim: 64, queryCount: 5 };
    const { rows, queries, weights } = inputs(shape);
    const scores = withArena(runtime, (arena) => scoreRows(runtime, arena, shape, rows, queries));
    const mixed = withArena(runtime, (arena) => mixRows(runtime, arena, shape, rows, weights));
    for (let q = 0; q < 5; q++) {
      const alone = { ...shape, queryCount: 1 };
      const query = queries.slice(64 * q, 64 * (q + 1));
      expectSame(
        withArena(runtime, (arena) => scoreRows(runtime, arena, alone, rows, query)),
        scores.subarray(13 * q, 13 * (q + 1)),
      );
      expectSame(
        withArena(runtime, (arena) => mixRows(runtime, arena, alone, rows, weights.slice(13 * q))),
        mixed.subarray(64 * q, 64 * (q + 1)),
      );
      for (let t = 0; t < 13; t++) {
        const one = { ...alone, rowCount: 1 };
        const [score] = withArena(runtime, (arena) => scoreRows(runtime, arena, one, rows.slice(64 * t), query));
        expect(score).toBe(scores[13 * q + t]);
      }
    }
  });
});

describe("attention on rows, everywhere", () => {
  it.each(HEAD_DIMS)("gives the same bits as its twin for heads of %i", async (headDim) => {
    const same = await sameBits();
    for (const rowCount of ROW_COUNTS) {
      for (const queryCount of QUERY_COUNTS) {
        for (const [rowGap, scoreGap] of [
          [0, 0],
          [4, 1],
          [2 * headDim, 3],
        ]) {
          const shape = { rowCount, headDim, queryCount, rowGap, scoreGap };
          const { rows, queries, weights, start } = inputs(shape, rowCount + queryCount);
          same((runtime, arena) => [
            scoreRows(runtime, arena, shape, rows, queries),
            mixRows(runtime, arena, shape, rows, weights, start),
          ]);
        }
      }
    }
  });

  it.each(EDGES)("same bits for %s", async (_, make) => {
    const same = await sameBits();
    const shape = { rowCount: 37, headDim: 36, queryCount: 3 };
    const { queries, weights } = inputs(shape);
    const rows = make(37, 36);
    same((runtime, arena) => [
      scoreRows(runtime, arena, shape, rows, queries),
      scoreRows(runtime, arena, shape, rows, make(3, 36)),
      mixRows(runtime, arena, shape, rows, weights),
      mixRows(runtime, arena, shape, rows, make(3, 37)),
    ]);
  });
});
