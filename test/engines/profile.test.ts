/** Profiles of a model's queries: files there and back, what is refused, and what they are worth to a cache without queries. */
import { writeFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { compress } from "../../src/codec/compress.ts";
import { fromHalf } from "../../src/codec/half.ts";
import { momentsOf } from "../../src/codec/query-moments.ts";
import type { CacheSource } from "../../src/codec/source.ts";
import { type ModelProfile, readProfile, withProfile, writeProfile } from "../../src/engines/profile.ts";
import { isQuerySample, mergeSamples, readQuerySample } from "../../src/engines/query-sample.ts";
import { FormatError, MismatchError } from "../../src/errors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { testDirectory } from "../support/directory.ts";
import { worst } from "../support/linear-algebra.ts";
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
  return { model: "tiny", kvHeads: 2, headDim: 32, layout: cache.rotary.layout, moments };
}

describe("a profile", () => {
  it("comes back from its file within f16, bases too", async () => {
    const cache = new TinyCache({ queries: 20 });
    const bases = await compress(runtime, cache, { recent: 8 });
    const weights = new Map(cache.layerNumbers.map((number, i) => [number, { keys: 2 ** i, values: 0.75 }]));
    const profile = { ...(await profileOf(cache)), weights, bases };
    await writeProfile(pathOf("p"), profile);
    const back = await readProfile(pathOf("p"));
    expect(back).toMatchObject({ model: "tiny", kvHeads: 2, headDim: 32, layout: "half-split" });
    for (const [number, moments] of profile.moments) {
      const top = moments.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
      expect(worst(back.moments.get(number)!, moments)).toBeLessThan(top * 2 ** -11);
    }
    expect(back.bases).toEqual(bases);
    expect(back.weights).toEqual(weights);
    expect(withProfile(withoutQueries(cache), back).layerWeights).toEqual({ keys: [1, 2], values: [0.75, 0.75] });
  });

  it("has weights for caches of layers that it knows all of", async () => {
    const cache = new TinyCache({ queries: 20 });
    const weights = new Map([[cache.layerNumbers[0], { keys: 2, values: 3 }]]);
    const source = withProfile(withoutQueries(cache), { ...(await profileOf(cache)), weights });
    expect(source.layerWeights).toBeUndefined();
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
      "queries of layer 7, got those of 2 others",
    );
  });

  it.each<[string, (dump: TinyDump) => void, string]>([
    ["a dump", () => undefined, 'metadata svdq_profile: expected "1", got nothing'],
    ["no layer", (d) => Object.assign(d.metadata, GOOD), "tensors: expected layers.N.query_moment or bases, got 6"],
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
      "a weight of nothing",
      (d) => {
        Object.assign(d.metadata, GOOD);
        d.tensors["layers.0.weights"] = { dtype: "F32", shape: [2], bytes: new Uint8Array(8) };
      },
      "layers.0.weights: expected finite numbers above 0, got 0",
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
