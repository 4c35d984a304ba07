/** The queries' metric: roots of second moments, averaged over anchors, against plain sums. */
import { beforeAll, describe, expect, it } from "vitest";
import type { AnchorSpan } from "../../src/codec/anchors.ts";
import { metricRoots } from "../../src/codec/metric.ts";
import type { MetricRoot } from "../../src/codec/metric-root.ts";
import { frequenciesOf, type Rotary, type RotaryLayout } from "../../src/codec/rotary.ts";
import { putF32 } from "../../src/codec/tensors.ts";
import { ConvergenceError } from "../../src/errors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { sameBits } from "../support/exact.ts";
import { product, transposed, worst } from "../support/linear-algebra.ts";
import { noise } from "../support/noise.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { turn } from "../support/tiny-cache.ts";

const DIM = 32;
const [KV_HEADS, QUERY_HEADS, COUNT] = [2, 6, 40];

const rotaryOf = (layout: RotaryLayout = "half-split"): Rotary => ({
  layout,
  frequencies: frequenciesOf(10000, DIM / 2),
});
/** (queryHeads, count, headDim): some dimensions larger than others, all correlated, none below the floor. */
const QUERIES = noise(QUERY_HEADS * COUNT * DIM, 2).map(
  (x, i, all) => (x + 0.5 * all[i - (i % DIM)]) * (1 + (i % DIM) / DIM),
);

interface Setting {
  anchorSpan: AnchorSpan;
  firstToken?: number;
  rotary?: Rotary;
  queries?: Float32Array;
  firstHead?: number;
  headCount?: number;
}

const rootsOn = (runtime: Runtime, setting: Setting): MetricRoot[] => {
  const {
    anchorSpan,
    firstToken = 0,
    rotary = rotaryOf(),
    queries = QUERIES,
    firstHead = 0,
    headCount = KV_HEADS,
  } = setting;
  return runtime.heap.scratch((frame) => {
    const ptr = putF32(runtime.heap, frame, queries);
    const layer = { ptr, queryHeads: QUERY_HEADS, count: COUNT, firstToken };
    return metricRoots(runtime, layer, { firstHead, headCount }, KV_HEADS, DIM, rotary, anchorSpan);
  });
};

/** Mean of q q' over the query heads of a kv head, each query turned back by each of the anchors. */
function plainMoment(kvHead: number, anchors: number[], rotary: Rotary): Float64Array {
  const moment = new Float64Array(DIM * DIM);
  const rows = (QUERY_HEADS / KV_HEADS) * COUNT;
  for (const anchor of anchors) {
    for (let r = 0; r < rows; r++) {
      const q = QUERIES.slice((kvHead * rows + r) * DIM, (kvHead * rows + r + 1) * DIM);
      turn(q, 0, -anchor, rotary);
      for (let i = 0; i < DIM * DIM; i++) moment[i] += (q[Math.floor(i / DIM)] * q[i % DIM]) / rows / anchors.length;
    }
  }
  return moment;
}

/** Eigenvectors come from f32 sweeps: orthogonal to 5e-6 (test/kernels/eigen.test.ts), over a spectrum of some hundreds. */
const F32_EIGEN = 5e-5;

/** What 64 places of the 256 in a span, or of a whole context, leave of the greatest element. */
const [OF_A_SPAN, OF_ALL] = [0.05, 0.15];

const square = ({ root }: MetricRoot): Float64Array => product(root, root, DIM, DIM, DIM);
const identity = Float64Array.from({ length: DIM * DIM }, (_, i) => (i % (DIM + 1) === 0 ? 1 : 0));

describe("roots of the metric", () => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await PLATFORMS[2].create({ poison: true });
  });

  it("squared are the second moment of the query heads that share a kv head", () => {
    const roots = rootsOn(runtime, { anchorSpan: null, firstToken: 500 });
    expect(roots.length).toBe(KV_HEADS);
    for (const [head, root] of roots.entries()) {
      expect(worst(square(root), plainMoment(head, [0], rotaryOf()))).toBeLessThan(F32_EIGEN);
    }
    expect(runtime.heap.bytesInUse).toBe(0);
  });

  it("of a group of one head are those of that head", () => {
    const [, second] = rootsOn(runtime, { anchorSpan: null });
    expect(rootsOn(runtime, { anchorSpan: null, firstHead: 1, headCount: 1 })).toEqual([second]);
  });

  it("are symmetric, and their inverses undo them", () => {
    for (const { root, inverse } of rootsOn(runtime, { anchorSpan: 1, firstToken: 300 })) {
      expect(worst(root, transposed(root, DIM, DIM))).toBeLessThan(1e-12);
      expect(worst(product(root, inverse, DIM, DIM, DIM), identity)).toBeLessThan(F32_EIGEN);
    }
  });

  it.each<[number, number, RotaryLayout, number[]]>([
    [1, 0, "half-split", [0]],
    [1, 100, "half-split", [0]],
    [1, 300, "half-split", [0, 128, 256]],
    [32, 256, "interleaved", [0, 128]],
    [256, 600, "half-split", [0, 256, 512]],
    [1024, 600, "interleaved", [0]],
    [1, 64 * 200, "half-split", Array.from({ length: 64 }, (_, i) => 200 * i)],
  ])("at span %i before token %i, %s, average over anchors %j", (anchorSpan, firstToken, layout, anchors) => {
    const rotary = rotaryOf(layout);
    const roots = rootsOn(runtime, { anchorSpan, firstToken, rotary });
    for (const [head, root] of roots.entries()) {
      expect(worst(square(root), plainMoment(head, anchors, rotary))).toBeLessThan(F32_EIGEN);
    }
  });

  it.each<RotaryLayout>(["half-split", "interleaved"])("turn each pair back by its own anchors, %s", (layout) => {
    const rotary = rotaryOf(layout);
    const spans = Array.from({ length: DIM / 2 }, (_, i) => [null, 32, 256, 1024][i % 4]);
    const roots = rootsOn(runtime, { anchorSpan: spans, firstToken: 600, rotary });
    // Each pair as if all had its span: an angle a pair, so anchors of whole turns of its own frequency.
    const keys = [0, 128, 256, 384, 512];
    const expected = (head: number): Float64Array => {
      const moment = new Float64Array(DIM * DIM);
      for (const key of keys) {
        const frequencies = rotary.frequencies.map((f, i) => (spans[i] === null ? 0 : f * (key - (key % spans[i]!))));
        plainMoment(head, [1], { layout, frequencies }).forEach((x, i) => {
          moment[i] += x / keys.length;
        });
      }
      return moment;
    };
    for (const [head, root] of roots.entries()) expect(worst(square(root), expected(head))).toBeLessThan(F32_EIGEN);
  });

  it.each<[AnchorSpan, RotaryLayout]>([
    [1, "half-split"],
    [256, "interleaved"],
    [null, "half-split"],
  ])("of Fisher information turn as anchored keys do, span %s, %s", (anchorSpan, layout) => {
    const rotary = rotaryOf(layout);
    const squares = Array.from({ length: KV_HEADS }, (_, head) => [...plainMoment(head, [0], rotary)]).flat();
    const tokens = 16384;
    const roots = runtime.heap.scratch((frame) => {
      const fisherPtr = putF32(runtime.heap, frame, Float32Array.from(squares));
      const group = { firstHead: 0, headCount: KV_HEADS };
      return metricRoots(runtime, { fisherPtr, tokens }, group, KV_HEADS, DIM, rotary, anchorSpan);
    });
    // All places in a span, of which the metric takes a sample; after RoPE those of the whole context.
    const places = anchorSpan ?? tokens;
    const turns = Array.from({ length: 256 }, (_, i) => Math.floor((i * (places as number)) / 256));
    for (const [head, root] of roots.entries()) {
      const whole = plainMoment(
        head,
        turns.map((turned) => -turned),
        rotary,
      );
      const size = Math.max(...whole.map(Math.abs));
      expect(worst(square(root), whole)).toBeLessThan(
        anchorSpan === 1 ? F32_EIGEN : (anchorSpan === null ? OF_ALL : OF_A_SPAN) * size,
      );
    }
  });

  it("of queries that never look somewhere are floored at a thousandth of the mean", () => {
    const queries = QUERIES.map((x, i) => (i % DIM === 5 ? 0 : x));
    const [pair] = rootsOn(runtime, { anchorSpan: null, queries });
    const moment = square(pair);
    const trace = Array.from({ length: DIM }, (_, d) => moment[d * (DIM + 1)]).reduce((a, b) => a + b, 0);
    expect(moment[5 * (DIM + 1)] / ((1e-3 * trace) / DIM)).toBeCloseTo(1, 2);
    expect(pair.inverse[5 * (DIM + 1)]).toBeCloseTo(1 / pair.root[5 * (DIM + 1)], 1);
  });

  it("of zero queries are finite both ways", () => {
    const [{ root, inverse }] = rootsOn(runtime, { anchorSpan: 1, queries: new Float32Array(QUERIES.length) });
    expect([...root, ...inverse].every(Number.isFinite)).toBe(true);
  });

  it("of queries whose squares leave f32 are refused", () => {
    expect(() => rootsOn(runtime, { anchorSpan: null, queries: QUERIES.map((x) => 1e25 * x) })).toThrow(
      ConvergenceError,
    );
    expect(runtime.heap.bytesInUse).toBe(0);
  });

  it("are the same on every platform, bit for bit", async () => {
    const run = await sameBits();
    run((on) => rootsOn(on, { anchorSpan: 32, firstToken: 400 }).flatMap(({ root, inverse }) => [root, inverse]));
  });
});
