/** Under Fisher information codes go where errors cost: between heads, between layers, of keys and of values. */
import { beforeAll, describe, expect, it } from "vitest";
import { rankFor } from "../../src/codec/basis.ts";
import { compress } from "../../src/codec/compress.ts";
import { directionRoots, type FisherData } from "../../src/codec/fisher.ts";
import { fromHalf } from "../../src/codec/half.ts";
import { codeNorms, normLevels } from "../../src/codec/norms.ts";
import { restoreLayer } from "../../src/codec/restore.ts";
import type { CacheSource } from "../../src/codec/source.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { product, worst } from "../support/linear-algebra.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { elementsOf, TinyCache } from "../support/tiny-cache.ts";

const [LAYERS, KV_HEADS, DIM, TOKENS] = [2, 2, 32, 300];
const cache = new TinyCache({ layers: LAYERS, kvHeads: KV_HEADS, headDim: DIM, tokens: TOKENS, queries: 20 });

/** A multiple of the identity, a head of a layer: what a squared error there counts. */
const counting = (weightOf: (layer: number, head: number, kind: "keys" | "values") => number): CacheSource => {
  const squares = (layer: number, kind: "keys" | "values"): Float32Array =>
    Float32Array.from({ length: KV_HEADS * DIM * DIM }, (_, i) =>
      (i % (DIM * DIM)) % (DIM + 1) === 0 ? weightOf(layer, Math.floor(i / (DIM * DIM)), kind) : 0,
    );
  const fisher = async (layer: number): Promise<FisherData> => ({
    keys: squares(layer, "keys"),
    values: squares(layer, "values"),
  });
  return Object.assign(Object.create(cache) as CacheSource, { fisher });
};

let runtime: Runtime;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create({ poison: true });
});

/** Squared error of each head of each layer. */
async function errorsOf(source: CacheSource, kind: "key" | "value", options = {}): Promise<number[][]> {
  const coded = await compress(runtime, source, { keyBits: 1, valueBits: 1, ...options });
  const errors: number[][] = [];
  for (let layer = 0; layer < LAYERS; layer++) {
    const exact = elementsOf(await source[kind](layer));
    const got = new Float32Array(restoreLayer(runtime, coded, layer, "f32")[kind].slice().buffer);
    const size = TOKENS * DIM;
    errors.push(
      Array.from({ length: KV_HEADS }, (_, head) => {
        let sum = 0;
        for (let i = head * size; i < (head + 1) * size; i++) sum += (exact[i] - got[i]) ** 2;
        return sum;
      }),
    );
  }
  return errors;
}

describe.each([
  { kind: "key" as const, entropy: false },
  { kind: "value" as const, entropy: false },
  { kind: "key" as const, entropy: true },
  { kind: "value" as const, entropy: true },
])("errors of a $kind, entropy: $entropy", ({ kind, entropy }) => {
  it("shrink in the head that counts more, and grow in the other", async () => {
    const alike = await errorsOf(
      counting(() => 1),
      kind,
      { entropy },
    );
    const one = await errorsOf(
      counting((_, head) => (head === 1 ? 100 : 1)),
      kind,
      { entropy },
    );
    for (let layer = 0; layer < LAYERS; layer++) {
      expect(one[layer][1]).toBeLessThan(0.8 * alike[layer][1]);
      expect(one[layer][0]).toBeGreaterThan(1.1 * alike[layer][0]);
    }
  });

  it("shrink in the layer that counts more", async () => {
    const alike = await errorsOf(
      counting(() => 1),
      kind,
      { entropy },
    );
    const one = await errorsOf(
      counting((layer) => (layer === 1 ? 100 : 1)),
      kind,
      { entropy },
    );
    expect(one[1][0] + one[1][1]).toBeLessThan(0.8 * (alike[1][0] + alike[1][1]));
    expect(one[0][0] + one[0][1]).toBeGreaterThan(1.1 * (alike[0][0] + alike[0][1]));
  });
});

it("what counts nothing costs nothing: all bits go elsewhere", async () => {
  const coded = await compress(
    runtime,
    counting((layer) => (layer === 0 ? 0 : 1)),
    { keyBits: 0.5, valueBits: 0.5 },
  );
  expect(coded.layers[0].keys[0].books.length).toBe(0);
  expect(coded.layers[0].values[0].books.length).toBe(0);
  expect(coded.layers[1].keys[0].books.length).toBeGreaterThan(16);
  expect(new Float32Array(restoreLayer(runtime, coded, 0, "f32").key.slice().buffer).every(Number.isFinite)).toBe(true);
});

it("a head that counts nothing leaves the metric of the other in the rounding of rows as it is", async () => {
  const scalesOf = async (weight: number): Promise<number[]> => {
    const counted = counting((_, head) => (head === 0 ? weight : 1));
    const { columnScales } = (await compress(runtime, counted, { keyBits: 1 })).layers[0].keys[0].basis;
    return Array.from(columnScales!, fromHalf);
  };
  const [nothing, little] = [await scalesOf(0), await scalesOf(1e-6)];
  expect(nothing).toEqual(little);
  // Columns of the head that counts are finer.
  expect(nothing[DIM]).toBeLessThan(0.01 * nothing[0]);
});

it("finds more channels where dims are many, for layers that get more bits than the mean", () => {
  expect(rankFor(1024, 1.25, true)).toBeGreaterThan(1.4 * rankFor(1024, 1.25));
  expect(rankFor(192, 1.25, true)).toBe(192);
});

it("stands before the cache's own queries, and is put aside by metric: false and by the paper's schedule", async () => {
  const counted = counting((_, head) => 1 + 50 * head);
  expect(await compress(runtime, counted)).not.toEqual(await compress(runtime, cache));
  for (const options of [{ metric: false }, { schedule: [4, 4, 2, 0, 0, 0, 0, 0] }]) {
    expect(await compress(runtime, counted, options)).toEqual(await compress(runtime, cache, options));
  }
});

it.each<[string, (data: FisherData) => FisherData, string]>([
  ["too few", (data) => ({ ...data, keys: data.keys.subarray(1) }), "keys: expected 2048 elements, got 2047"],
  [
    "NaN",
    (data) => ({ ...data, values: data.values.with(7, Number.NaN) }),
    "values: expected finite numbers, got NaN at 7",
  ],
])("is refused with %s elements", async (_, change, message) => {
  const source = counting(() => 1);
  const fisher = source.fisher!;
  source.fisher = async (layer) => change(await fisher(layer));
  await expect(compress(runtime, source)).rejects.toThrow(`layer 0 Fisher information of ${message}`);
  expect(runtime.heap.bytesInUse).toBe(0);
});

it("of directions grows with the mean square of norms", () => {
  const norms = codeNorms(Float32Array.of(1, 2, 3, 0));
  const levels = normLevels(norms);
  const meanSquare = norms.codes.reduce((sum, code) => sum + levels[code] ** 2, 0) / 4;
  expect(meanSquare).toBeCloseTo(14 / 4, 1);
  const squares = Float32Array.from({ length: 2 * 16 }, (_, i) => ((i % 16) % 5 === 0 ? (i < 16 ? 2 : 3) : 0));
  const roots = runtime.heap.scratch((frame) =>
    directionRoots(runtime, frame, squares, { firstHead: 1, headCount: 1 }, 4, norms),
  );
  expect(roots.length).toBe(1);
  const expected = Float64Array.from({ length: 16 }, (_, i) => (i % 5 === 0 ? 3 * meanSquare : 0));
  expect(worst(product(roots[0].root, roots[0].root, 4, 4, 4), expected)).toBeLessThan(1e-4);
});

it("gives the same codes on every platform", async () => {
  const source = counting((layer, head) => 1 + layer + 3 * head);
  const [first, ...others] = await Promise.all(PLATFORMS.map(async ({ create }) => compress(await create({}), source)));
  for (const other of others) expect(other).toStrictEqual(first);
});
