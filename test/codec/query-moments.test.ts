/** Second moments of queries before RoPE: against plain sums, in either layout, and the metric that follows from them. */
import { beforeAll, describe, expect, it } from "vitest";
import { metricRoots } from "../../src/codec/metric.ts";
import { momentsInLayout, momentsOf } from "../../src/codec/query-moments.ts";
import { frequenciesOf, type Rotary, type RotaryLayout } from "../../src/codec/rotary.ts";
import { putF32 } from "../../src/codec/tensors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { product, worst } from "../support/linear-algebra.ts";
import { noise } from "../support/noise.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { tensorOf, turn } from "../support/tiny-cache.ts";

const SHAPE = { kvHeads: 2, headDim: 32 };
const [QUERY_HEADS, COUNT, DIM] = [4, 30, 32];
const ROWS = noise(QUERY_HEADS * COUNT * DIM, 3).map((x, i) => x * (1 + (i % DIM) / 8));
const rotaryOf = (layout: RotaryLayout): Rotary => ({ layout, frequencies: frequenciesOf(10000, DIM / 2) });

const turned = (rotary: Rotary, firstToken: number): Float32Array => {
  const rows = ROWS.slice();
  for (let r = 0; r < QUERY_HEADS * COUNT; r++) turn(rows, r * DIM, firstToken + (r % COUNT), rotary);
  return rows;
};
const queryOf = (rows: Float32Array, firstToken: number) => ({
  ...tensorOf("f32", rows),
  ...{ firstToken, count: COUNT, queryHeads: QUERY_HEADS },
});

function plainMoments(): Float32Array {
  const rowsAHead = (QUERY_HEADS / SHAPE.kvHeads) * COUNT;
  return Float32Array.from({ length: SHAPE.kvHeads * DIM * DIM }, (_, i) => {
    const [head, a, b] = [Math.floor(i / DIM / DIM), Math.floor(i / DIM) % DIM, i % DIM];
    let sum = 0;
    for (let r = head * rowsAHead; r < (head + 1) * rowsAHead; r++) sum += ROWS[r * DIM + a] * ROWS[r * DIM + b];
    return sum / rowsAHead;
  });
}

let runtime: Runtime;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create({ poison: true });
});

describe("moments", () => {
  it("are means of q q' over the query heads of a kv head", () => {
    const got = momentsOf(runtime, queryOf(ROWS, 0), SHAPE);
    expect(worst(got, plainMoments())).toBeLessThan(1e-4);
    expect(runtime.heap.bytesInUse).toBe(0);
  });

  it.each(["half-split", "interleaved"] as const)("of queries after RoPE, %s, are those before it", (layout) => {
    const rotary = rotaryOf(layout);
    const got = momentsOf(runtime, queryOf(turned(rotary, 700), 700), SHAPE, rotary);
    expect(worst(got, plainMoments())).toBeLessThan(1e-3);
  });

  it("change layout there and back, dimensions that do not turn stay", () => {
    const moments = plainMoments();
    const there = momentsInLayout(moments, SHAPE, 12, "half-split", "interleaved");
    // Dimension 3 of interleaved pairs 12 is the partner of pair 1: half-split 13; 30 turns with none.
    expect(there[3 * DIM + 30]).toBe(moments[13 * DIM + 30]);
    expect(there[DIM * DIM + 2 * DIM + 3]).toBe(moments[DIM * DIM + DIM + 13]);
    expect(momentsInLayout(there, SHAPE, 12, "interleaved", "half-split")).toEqual(moments);
  });

  it("refuses query heads that kv heads cannot share", () => {
    const query = { ...queryOf(ROWS, 0), queryHeads: 3, bytes: new Uint8Array(0) };
    expect(() => momentsOf(runtime, query, SHAPE)).toThrow("query heads a kv head: expected an integer from 1");
  });
});

describe("the metric of moments", () => {
  const squares = (queries: object, anchorSpan: number | null, rotary: Rotary): Float64Array[] =>
    runtime.heap.scratch((frame) => {
      const given =
        "moments" in queries
          ? { momentsPtr: putF32(runtime.heap, frame, queries.moments as Float32Array), nextToken: 2048 }
          : {
              ptr: putF32(runtime.heap, frame, turned(rotary, 2048)),
              queryHeads: QUERY_HEADS,
              count: COUNT,
              firstToken: 2048,
            };
      const roots = metricRoots(runtime, given, { firstHead: 0, headCount: 2 }, SHAPE.kvHeads, DIM, rotary, anchorSpan);
      return roots.map(({ root }) => product(root, root, DIM, DIM, DIM));
    });

  it.each([1, 256])("is near that of the same queries at work, span %i", (span) => {
    const rotary = rotaryOf("half-split");
    const own = squares({}, span, rotary);
    const known = squares({ moments: plainMoments() }, span, rotary);
    for (const head of [0, 1]) {
      const trace = (m: Float64Array) => m.reduce((sum, x, i) => (i % (DIM + 1) === 0 ? sum + x : sum), 0);
      expect(trace(known[head]) / trace(own[head])).toBeCloseTo(1, 3);
      // Queries stand at other places, so each turns by other angles: near, not equal.
      expect(worst(known[head], own[head])).toBeLessThan((0.25 * trace(own[head])) / DIM);
    }
  });
});
