/** Profiles of a model's queries: files there and back, what is refused, and what they are worth to a cache without queries. */
import { writeFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { compress } from "../../src/codec/compress.ts";
import { fromHalf } from "../../src/codec/half.ts";
import { momentsInLayout, momentsOf } from "../../src/codec/query-moments.ts";
import type { CacheSource } from "../../src/codec/source.ts";
import { type ModelProfile, mergeFisher, readProfile, withProfile, writeProfile } from "../../src/engines/profile.ts";
import { isQuerySample, mergeSamples, readQuerySample } from "../../src/engines/query-sample.ts";
import { FormatError, MismatchError } from "../../src/errors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { testDirectory } from "../support/directory.ts";
import { worst } from "../support/linear-algebra.ts";
import { noise } from "../support/noise.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { TinyCache } from "../support/tiny-cache.ts";
import { TinyDump } from "../support/tiny-dump.ts";

const pathOf = testDirectory();
let runtime: Runtime;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create({ poison: true });
});

const withoutQueries = (cache: TinyCache): CacheSource => {
  const { query: _, ...rest } = cache;
  return { ...rest, geometry: cache.geometry };
};

async function profileOf(cache: TinyCache): Promise<ModelProfile> {
  const moments = new Map<number, Float32Array>();
  for (const [layer, number] of cache.layerNumbers.entries()) {
    const query = await cache.query(layer);
    moments.set(number, momentsOf(runtime, query!, cache.geometry, cache.rotary));
  }
  return { model: "tiny", kvHeads: 2, headDim: 32, layout: cache.rotary.layout, moments, fisher: new Map() };
}

/** Positive matrices that differ by layer, kind and head. */
function fisherOf({ layerNumbers }: TinyCache): ModelProfile["fisher"] {
  const squares = (seed: number): Float32Array => {
    const rows = noise(2 * 32 * 40, seed);
    return Float32Array.from({ length: 2 * 32 * 32 }, (_, i) => {
      const [head, a, b] = [Math.floor(i / 1024), Math.floor(i / 32) % 32, i % 32];
      let sum = 0;
      for (let row = 0; row < 40; row++) sum += rows[(head * 40 + row) * 32 + a] * rows[(head * 40 + row) * 32 + b];
      return sum;
    });
  };
  return new Map(layerNumbers.map((number) => [number, { keys: squares(number), values: squares(100 + number) }]));
}

describe("a profile", () => {
  it("comes back from its file within f16, bases too", async () => {
    const cache = new TinyCache({ queries: 20 });
    const bases = await compress(runtime, cache, { recent: 8 });
    const profile = { ...(await profileOf(cache)), fisher: fisherOf(cache), bases };
    await writeProfile(pathOf("p"), profile);
    const back = await readProfile(pathOf("p"));
    expect(back).toMatchObject({ model: "tiny", kvHeads: 2, headDim: 32, layout: "half-split" });
    const expectNear = (got: Float32Array | undefined, squares: Float32Array): void => {
      const top = squares.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
      expect(worst(got!, squares)).toBeLessThan(top * 2 ** -11);
    };
    for (const [number, moments] of profile.moments) expectNear(back.moments.get(number), moments);
    for (const [number, { keys, values }] of profile.fisher) {
      expectNear(back.fisher.get(number)?.keys, keys);
      expectNear(back.fisher.get(number)?.values, values);
    }
    expect(back.bases).toEqual(bases);
    expect((await withProfile(cache, back).fisher?.(1))?.keys).toEqual(back.fisher.get(cache.layerNumbers[1])?.keys);
  });

  it("has Fisher information for caches of layers that it knows all of", async () => {
    const cache = new TinyCache({ queries: 20 });
    const fisher = new Map([...fisherOf(cache)].slice(1));
    const profile = { ...(await profileOf(cache)), fisher };
    const source = withProfile(withoutQueries(cache), profile);
    expect(source.fisher).toBeUndefined();
    expect(await source.queryMoments?.(1)).toEqual(profile.moments.get(cache.layerNumbers[1]));
  });

  it("turns Fisher information of keys, not of values, to the layout of the cache", async () => {
    const cache = new TinyCache({ layout: "interleaved" });
    const fisher = fisherOf(cache);
    const profile = { ...(await profileOf(new TinyCache({ queries: 20 }))), fisher };
    const known = fisher.get(cache.layerNumbers[0])!;
    const got = await withProfile(cache, profile).fisher?.(0);
    expect(got?.keys).toEqual(momentsInLayout(known.keys, cache.geometry, 16, "half-split", "interleaved"));
    expect(got?.keys).not.toEqual(known.keys);
    expect(got?.values).toEqual(known.values);
  });

  it("gives a cache without queries most of what its queries would", async () => {
    const cache = new TinyCache({ layers: 1, queries: 40, focus: 4, rank: 24, tokens: 300 });
    const bare = withoutQueries(cache);
    const options = { anchorSpan: 256, keyBits: 0.5, attentionWeights: false };
    const lossOf = async (source: CacheSource): Promise<number> => {
      const { layers } = await compress(runtime, source, options);
      // Queries look at 4 of 32 dimensions: under the metric the columns of those are finer.
      const { columnScales } = layers[0].keys[0].basis;
      if (!columnScales) return 1;
      const mean = (from: number, to: number) =>
        columnScales.slice(from, to).reduce((sum, x) => sum + fromHalf(x), 0) / (to - from);
      return mean(0, 4) / mean(8, 16);
    };
    const known = await lossOf(withProfile(bare, await profileOf(cache)));
    expect(await lossOf(bare)).toBe(1);
    expect(known).toBeLessThan(0.3);
    expect(known / (await lossOf(cache))).toBeCloseTo(1, 0);
  });

  it("leaves queries of the cache's own in charge", async () => {
    const cache = new TinyCache({ queries: 20 });
    const other = await profileOf(new TinyCache({ queries: 20, focus: 4, seed: 9 }));
    const own = await compress(runtime, cache, { recent: 8 });
    const both = { ...withProfile(cache, other), query: cache.query };
    expect(await compress(runtime, both, { recent: 8 })).toEqual(own);
  });

  it("refuses a cache of another shape, and one with a layer that it lacks", async () => {
    const profile = await profileOf(new TinyCache({ queries: 20 }));
    const wide = new TinyCache({ headDim: 64 });
    expect(() => withProfile(wide, profile)).toThrow(
      "profile: expected 2 kv heads of 64 as the cache has, got 2 kv heads of 32",
    );
    expect(() => withProfile(new TinyCache({ layers: 3 }), profile)).toThrow(MismatchError);
    expect(() => withProfile(new TinyCache({ layers: 3 }), profile)).toThrow(
      "queries of layer 7, got that of 2 others",
    );
    const alone = { ...profile, moments: new Map(), fisher: fisherOf(new TinyCache()) };
    expect(() => withProfile(new TinyCache({ layers: 3 }), alone)).toThrow(
      "Fisher information of layer 7, got that of 2 others",
    );
  });

  it.each<[string, (dump: TinyDump) => void, string]>([
    ["a dump", () => undefined, 'metadata svdq_profile: expected "1", got nothing'],
    [
      "no layer",
      (d) => Object.assign(d.metadata, GOOD),
      "tensors: expected layers.N.query_moment, layers.N.key_fisher or bases, got 6",
    ],
    [
      "a layout",
      (d) => Object.assign(d.metadata, GOOD, { rope_layout: "x" }),
      'metadata rope_layout: expected "half-split"',
    ],
    ["a shape", (d) => Object.assign(d.metadata, GOOD, { head_dim: "30" }), "geometry.headDim: expected"],
    [
      "a triangle",
      (d) => {
        Object.assign(d.metadata, GOOD);
        d.tensors["layers.0.query_moment"] = { dtype: "F16", shape: [2, 4] };
      },
      "layers.0.query_moment: expected F16 [2, 528]",
    ],
    [
      "Fisher information of values alone",
      (d) => {
        Object.assign(d.metadata, GOOD);
        d.tensors["layers.0.value_fisher"] = { dtype: "F16", shape: [2, 528], bytes: new Uint8Array(2 * 2 * 528) };
      },
      "layers.0.key_fisher: expected F16 [2, 528], got nothing",
    ],
    [
      "Fisher information of keys alone",
      (d) => {
        Object.assign(d.metadata, GOOD);
        d.tensors["layers.0.key_fisher"] = { dtype: "F16", shape: [2, 528], bytes: new Uint8Array(2 * 2 * 528) };
        d.tensors["layers.0.key_fisher_scale"] = { dtype: "F32", shape: [2], bytes: new Uint8Array(8) };
      },
      "layers.0.value_fisher: expected F16 [2, 528], got nothing",
    ],
  ])("refuses a file with %s for a profile", async (_, change, message) => {
    const dump = new TinyDump();
    change(dump);
    writeFileSync(pathOf("p"), dump.bytes());
    const failure = await readProfile(pathOf("p")).catch((error) => error);
    expect(failure).toBeInstanceOf(FormatError);
    expect(failure.message).toContain(message);
  });
});

const GOOD = { svdq_profile: "1", kv_heads: "2", head_dim: "32", rope_layout: "half-split" };

describe("Fisher information of several profiles", () => {
  const empty = { model: "", kvHeads: 2, headDim: 32, layout: "half-split" as const, moments: new Map() };

  it("is their mean, keys in one layout", () => {
    const cache = new TinyCache();
    const own = fisherOf(cache);
    const turned = new Map(
      [...own].map(([number, { keys, values }]) => [
        number,
        {
          keys: momentsInLayout(keys, cache.geometry, 16, "half-split", "interleaved"),
          values: values.map((x) => 3 * x),
        },
      ]),
    );
    const one = { ...empty, fisher: own };
    const merged = mergeFisher([one, { ...empty, layout: "interleaved", fisher: turned }], one);
    expect([...merged.keys()]).toEqual(cache.layerNumbers);
    for (const [number, { keys, values }] of own) {
      expect(worst(merged.get(number)!.keys, keys)).toBeLessThan(1e-4);
      expect(
        worst(
          merged.get(number)!.values,
          values.map((x) => 2 * x),
        ),
      ).toBeLessThan(1e-4);
    }
  });

  it("is of the same layers in all", () => {
    const [two, one] = [fisherOf(new TinyCache()), fisherOf(new TinyCache({ layers: 1 }))].map((fisher) => ({
      ...empty,
      fisher,
    }));
    for (const pair of [
      [two, one],
      [one, two],
    ]) {
      expect(() => mergeFisher(pair, pair[0])).toThrow(MismatchError);
    }
    expect(() => mergeFisher([two, one], two)).toThrow(
      /^profiles\[[01]\]: expected Fisher information of layers \d+ \d+, got "\d+"$/,
    );
  });

  it("is of models of one shape", () => {
    const one = { ...empty, fisher: new Map() };
    expect(() => mergeFisher([one, { ...one, kvHeads: 1 }], one)).toThrow(MismatchError);
    expect(mergeFisher([], one).size).toBe(0);
  });
});

describe("a sample of queries", () => {
  const sample = (metadata: Record<string, string>): Uint8Array<ArrayBuffer> => {
    const dump = new TinyDump();
    dump.metadata = metadata;
    for (const name of Object.keys(dump.tensors)) if (!name.endsWith("query")) delete dump.tensors[name];
    return dump.bytes();
  };

  it("is told from a dump, and read", async () => {
    const bytes = sample({ rope_applied: "false", kv_heads: "2", model: "tiny" });
    expect(await isQuerySample(bytes)).toBe(true);
    expect(await isQuerySample(new TinyDump().bytes())).toBe(false);
    const read = await readQuerySample(runtime, bytes);
    expect(read).toMatchObject({ model: "tiny", kvHeads: 2, headDim: 32, count: 3, layout: "half-split" });
    expect([...read.moments.keys()]).toEqual([0, 1]);
  });

  it("is refused without kv heads", async () => {
    await expect(readQuerySample(runtime, sample({ rope_applied: "false" }))).rejects.toThrow(
      "metadata kv_heads: expected an integer",
    );
    await expect(readQuerySample(runtime, sample({ kv_heads: "3" }))).rejects.toThrow(
      "layers.0.query: shape: expected",
    );
  });

  it("and another are one, each by its number of queries", async () => {
    const one = await readQuerySample(runtime, sample({ rope_applied: "false", kv_heads: "2" }));
    const moments = new Map([[0, one.moments.get(0)!.map((x) => 5 * x)]]);
    const merged = mergeSamples([one, { ...one, count: 9, moments }]);
    expect([...merged.moments.keys()]).toEqual([0]);
    expect(
      worst(
        merged.moments.get(0)!,
        one.moments.get(0)!.map((x) => 4 * x),
      ),
    ).toBeLessThan(1e-5);
    expect(() => mergeSamples([])).toThrow("samples: expected at least 1");
    expect(() => mergeSamples([one, { ...one, kvHeads: 1 }])).toThrow(MismatchError);
  });
});
