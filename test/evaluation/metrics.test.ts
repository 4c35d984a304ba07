/** What a compressed cache costs attention, against the definition written out in f64. */
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { type AttentionLayer, compareAttention, exactAttention } from "../../src/evaluation/metrics.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { failureOf } from "../support/failure.ts";
import { noise } from "../support/noise.ts";
import { PLATFORMS } from "../support/platforms.ts";

// ------------------------------------------------------------------------------------------------- definition
/** Weights and output of one query of one head. */
function attend(layer: AttentionLayer, keys: Float32Array, values: Float32Array, head: number, q: number) {
  const { headDim, tokens, count, queries } = layer;
  const kvHead = Math.floor(head / (layer.queryHeads / layer.kvHeads));
  const visible = Math.min(tokens, layer.firstToken + q + 1);
  const scores = Array.from({ length: visible }, (_, t) => {
    let score = 0;
    for (let d = 0; d < headDim; d++) {
      score += queries[(head * count + q) * headDim + d] * keys[(kvHead * tokens + t) * headDim + d];
    }
    return score / Math.sqrt(headDim);
  });
  const top = Math.max(...scores);
  const sum = scores.reduce((total, score) => total + Math.exp(score - top), 0);
  const weights = scores.map((score) => Math.exp(score - top) / sum);
  const output = Array.from({ length: headDim }, (_, d) =>
    weights.reduce((total, weight, t) => total + weight * values[(kvHead * tokens + t) * headDim + d], 0),
  );
  return { weights, output };
}

/**
 * Both measures, means over query heads and queries, and how much of the values cancels in the worst exact output: the
 * weighted sum of their sizes over the output's size. A rounding of the outputs weighs that much more in the error.
 */
function byDefinition(layer: AttentionLayer, keys = layer.keys, values = layer.values) {
  let [attentionKl, outputError, cancellation] = [0, 0, 1];
  for (let head = 0; head < layer.queryHeads; head++) {
    for (let q = 0; q < layer.count; q++) {
      const exact = attend(layer, layer.keys, layer.values, head, q);
      const other = attend(layer, keys, values, head, q);
      exact.weights.forEach((p, t) => {
        attentionKl += p * Math.log(p / other.weights[t]);
      });
      const energy = exact.output.reduce((sum, x) => sum + x * x, 0);
      outputError += exact.output.reduce((sum, x, d) => sum + (x - other.output[d]) ** 2, 0) / energy;
      const sizes = attend(layer, layer.keys, layer.values.map(Math.abs), head, q).output;
      cancellation = Math.max(cancellation, Math.hypot(...sizes) / Math.sqrt(energy));
    }
  }
  const evaluated = layer.queryHeads * layer.count;
  return { attentionKl: attentionKl / evaluated, outputError: outputError / evaluated, cancellation };
}

// ------------------------------------------------------------------------------------------------------ layers
interface Shape {
  kvHeads: number;
  queriesAHead: number;
  tokens: number;
  count: number;
  headDim: number;
}

/** Keys are three times as large as values, so that weights differ; queries are those of the last tokens. */
function layerOf({ kvHeads, queriesAHead, tokens, count, headDim }: Shape, seed = 1): AttentionLayer {
  const queryHeads = kvHeads * queriesAHead;
  return {
    queries: noise(queryHeads * count * headDim, seed).map((x) => 3 * x),
    queryHeads,
    count,
    firstToken: tokens - count,
    keys: noise(kvHeads * tokens * headDim, seed + 1),
    values: noise(kvHeads * tokens * headDim, seed + 2),
    kvHeads,
    tokens,
    headDim,
  };
}

const disturbed = (tensor: Float32Array, by: number, seed: number): Float32Array => {
  const noises = noise(tensor.length, seed);
  return tensor.map((x, i) => x + by * noises[i]);
};

/** Leaves large numbers in the memory that scratch will be taken from. */
function soil(runtime: Runtime): void {
  runtime.heap.scratch((frame) => {
    const ptr = frame.reserve(1 << 18);
    runtime.heap.f32(ptr, 1 << 16).fill(1e30);
  });
}

const GROUPED = { kvHeads: 2, queriesAHead: 3, tokens: 37, count: 5, headDim: 32 };

describe.each(PLATFORMS)("attention on $name", ({ create }) => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await create();
  });

  it("costs what the definition says: keys, values or both replaced; grouped queries; causal", () => {
    const shapes = fc.record({
      kvHeads: fc.integer({ min: 1, max: 3 }),
      queriesAHead: fc.integer({ min: 1, max: 3 }),
      tokens: fc.integer({ min: 7, max: 40 }),
      count: fc.integer({ min: 1, max: 7 }),
      headDim: fc.constantFrom(1, 4, 7, 32, 64),
    });
    fc.assert(
      fc.property(shapes, fc.integer({ min: 1, max: 1e6 }), fc.constantFrom(0.02, 0.2, 2), (shape, seed, by) => {
        const layer = layerOf(shape, seed);
        const keys = disturbed(layer.keys, by, seed + 3);
        const values = disturbed(layer.values, by, seed + 4);
        const exact = exactAttention(runtime, layer);
        for (const replaced of [{ keys }, { values }, { keys, values }]) {
          const got = compareAttention(runtime, exact, replaced);
          const expected = byDefinition(layer, replaced.keys, replaced.values);
          // Scores are f32: a rounding of 1e-6 moves KL by less than its root times that.
          expect(Math.abs(got.attentionKl - expected.attentionKl)).toBeLessThan(1e-6 + 1e-4 * expected.attentionKl);
          const rounding = (1e-6 + 1e-4 * expected.outputError) * expected.cancellation;
          expect(Math.abs(got.outputError - expected.outputError)).toBeLessThan(rounding);
        }
      }),
      { numRuns: 25 },
    );
  });

  it("costs nothing where the cache is the same", () => {
    const layer = layerOf(GROUPED);
    const exact = exactAttention(runtime, layer);
    const copies = { keys: layer.keys.slice(), values: layer.values.slice() };
    expect(compareAttention(runtime, exact, { keys: copies.keys })).toEqual({ attentionKl: 0, outputError: 0 });
    expect(compareAttention(runtime, exact, copies)).toEqual({ attentionKl: 0, outputError: 0 });
    // With values alone weights come from stored sums, which are rounded otherwise.
    for (const replaced of [{ values: copies.values }, {}]) {
      const got = compareAttention(runtime, exact, replaced);
      expect(got.attentionKl).toBe(0);
      expect(got.outputError).toBeLessThan(1e-12);
    }
  });

  it("does not see tokens after the query", () => {
    const layer = { ...layerOf(GROUPED), firstToken: 20 };
    const exact = exactAttention(runtime, layer);
    const changedFrom25 = (tensor: Float32Array) =>
      tensor.map((x, i) => (Math.floor(i / 32) % 37 >= 25 ? 50 * x + 9 : x));
    const unseen = { keys: changedFrom25(layer.keys), values: changedFrom25(layer.values) };
    expect(compareAttention(runtime, exact, unseen)).toEqual({ attentionKl: 0, outputError: 0 });
    // The last query sees token 24, the others do not.
    const last = (tensor: Float32Array) => tensor.map((x, i) => (Math.floor(i / 32) % 37 === 24 ? x + 1 : x));
    const seen = { keys: last(layer.keys), values: last(layer.values) };
    const got = compareAttention(runtime, exact, seen);
    const expected = byDefinition(layer, seen.keys, seen.values);
    expect(got.attentionKl).toBeGreaterThan(0);
    expect(Math.abs(got.outputError / expected.outputError - 1)).toBeLessThan(1e-4);
  });

  it("does not see what the memory held before", async () => {
    // Without poison, whose bytes are a number too small to be seen.
    const plain = await create({});
    const layer = layerOf(GROUPED);
    const replaced = { values: disturbed(layer.values, 0.3, 5) };
    soil(plain);
    const exact = exactAttention(plain, layer);
    soil(plain);
    expect(compareAttention(plain, exact, replaced)).toEqual(
      compareAttention(runtime, exactAttention(runtime, layer), replaced),
    );
  });

  it("takes queries past the last token, which see all", () => {
    const layer = { ...layerOf(GROUPED), firstToken: 1000 };
    const keys = disturbed(layer.keys, 0.3, 5);
    const got = compareAttention(runtime, exactAttention(runtime, layer), { keys });
    expect(Math.abs(got.attentionKl / byDefinition(layer, keys).attentionKl - 1)).toBeLessThan(1e-4);
  });

  it("stays finite where one token takes all the weight", () => {
    const layer = layerOf(GROUPED);
    layer.queries = layer.queries.map((x) => 1000 * x);
    const got = compareAttention(runtime, exactAttention(runtime, layer), { keys: layer.keys.map((x) => -x) });
    expect(got.attentionKl).toBeGreaterThan(100);
    expect(Number.isFinite(got.attentionKl)).toBe(true);
    expect(Number.isFinite(got.outputError)).toBe(true);
  });

  it("counts an exact output of zero as no error, and no queries as none", () => {
    const zeros = { ...layerOf(GROUPED), values: new Float32Array(2 * 37 * 32) };
    const got = compareAttention(runtime, exactAttention(runtime, zeros), { values: noise(2 * 37 * 32) });
    expect(got).toEqual({ attentionKl: 0, outputError: 0 });
    const none = layerOf({ ...GROUPED, count: 0 });
    expect(compareAttention(runtime, exactAttention(runtime, none), { keys: none.values })).toEqual({
      attentionKl: 0,
      outputError: 0,
    });
  });

  it("leaves no memory in use and its inputs as they were", () => {
    const layer = layerOf(GROUPED, 9);
    const replaced = { keys: disturbed(layer.keys, 1, 2), values: disturbed(layer.values, 1, 3) };
    const exact = exactAttention(runtime, layer);
    const first = compareAttention(runtime, exact, replaced);
    expect(layer).toEqual(layerOf(GROUPED, 9));
    expect(compareAttention(runtime, exact, replaced)).toEqual(first);
    expect(runtime.heap.bytesInUse).toBe(0);
  });

  it.each<[Partial<AttentionLayer>, string]>([
    [{ kvHeads: 0 }, "layer.kvHeads: expected an integer from 1 to 1024, got 0"],
    [{ queryHeads: 5 }, "layer.queryHeads: expected a multiple of 2, got 5"],
    [{ headDim: 0 }, "layer.headDim: expected an integer from 1 to 1024, got 0"],
    [{ count: -1 }, "layer.count: expected an integer from 0 to 16777216, got -1"],
    [{ tokens: 0 }, "layer.tokens: expected an integer from 1 to 16777216, got 0"],
    [{ firstToken: -1 }, "layer.firstToken: expected an integer from 0 to 2147483647, got -1"],
    [{ queries: new Float32Array(3) }, "layer.queries.length: expected 960, got 3"],
    [{ keys: new Float32Array(3) }, "layer.keys.length: expected 2368, got 3"],
    [{ values: new Float32Array(3) }, "layer.values.length: expected 2368, got 3"],
  ])("refuses %o", async (wrong, message) => {
    const error = await failureOf(() => exactAttention(runtime, { ...layerOf(GROUPED), ...wrong }));
    expect(error).toBeInstanceOf(RangeError);
    expect(error.message).toBe(message);
  });

  it.each(["keys", "values"])("refuses other %s of another size", async (part) => {
    const exact = exactAttention(runtime, layerOf(GROUPED));
    const error = await failureOf(() => compareAttention(runtime, exact, { [part]: new Float32Array(3) }));
    expect(error).toBeInstanceOf(RangeError);
    expect(error.message).toBe(`${part}.length: expected 2368, got 3`);
  });
});
