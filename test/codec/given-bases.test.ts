/** Codes on a profile's bases: near those on bases of its own, the same on every platform, of the right model only. */
import { beforeAll, describe, expect, it } from "vitest";
import { createProfile } from "../../src/cache/profile.ts";
import type { CodedCache } from "../../src/codec/coded.ts";
import { compress } from "../../src/codec/compress.ts";
import { compressOnBases } from "../../src/codec/given-bases.ts";
import { restoreLayer } from "../../src/codec/restore.ts";
import { MismatchError } from "../../src/errors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { elementsOf, relativeError, TinyCache, type TinyCacheOptions } from "../support/tiny-cache.ts";

const ENDS = { sinks: 2, recent: 6 };
const SHAPE: TinyCacheOptions = { tokens: 200, queries: 16, noise: 0.2 };
const source = new TinyCache({ ...SHAPE, seed: 1 });

let runtime: Runtime;
let profile: CodedCache;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create({ poison: true });
  profile = await createProfile(runtime, [source], {
    ...{ keyBits: 4, valueBits: 4, anchorSpan: 32, attentionWeights: false },
  });
});

const errorOf = (cache: CodedCache, part: "key" | "value", layer = 1): number => {
  const got = { type: "f16", bytes: restoreLayer(runtime, cache, layer, "f16")[part] } as const;
  return relativeError(elementsOf(got), elementsOf(source.layers[layer][part]));
};

describe.each([false, true])("entropy: %s", (entropy) => {
  const bits = { keyBits: 2, valueBits: 2, entropy };

  it("loses about what bases of its own lose, on bases of the same tokens", async () => {
    const on = await compressOnBases(runtime, source, profile, { ...ENDS, ...bits });
    const own = await compress(runtime, source, { ...ENDS, ...bits, anchorSpan: 32, attentionWeights: false });
    expect(on.anchorSpan).toBe(32);
    for (const part of ["key", "value"] as const) {
      expect(errorOf(on, part) / errorOf(own, part)).toBeGreaterThan(0.9);
      // The profile saw the exact tokens too, and 200 tokens hold a basis of 64 only loosely.
      expect(errorOf(on, part) / errorOf(own, part)).toBeLessThan(1.2);
    }
  });

  it("loses less the more bits there are", async () => {
    const errors: number[][] = [];
    for (const each of [0.5, 1.5, 3]) {
      const cache = await compressOnBases(runtime, source, profile, {
        ...ENDS,
        entropy,
        keyBits: each,
        valueBits: each,
      });
      errors.push([errorOf(cache, "key"), errorOf(cache, "value")]);
    }
    for (const kind of [0, 1]) {
      expect(errors[1][kind]).toBeLessThan(0.8 * errors[0][kind]);
      expect(errors[2][kind]).toBeLessThan(0.8 * errors[1][kind]);
    }
  });

  it("gives the same codes on every platform", async () => {
    const [first, ...others] = await Promise.all(
      PLATFORMS.map(async ({ create }) => compressOnBases(await create({}), source, profile, { ...ENDS, ...bits })),
    );
    for (const other of others) expect(other).toStrictEqual(first);
  });
});

it("bits go to the channels that matter to this cache, not to the profile's texts", async () => {
  const other = await createProfile(runtime, [new TinyCache({ ...SHAPE, seed: 7 })], { keyBits: 8, valueBits: 8 });
  const cache = await compressOnBases(runtime, source, other, { ...ENDS, keyBits: 2, valueBits: 2 });
  // Rows by number in the profile: not its first ones in their order.
  const [rows, held] = [cache.layers[0].keys[0].basis.scales, other.layers[0].keys[0].basis.scales];
  expect(Array.from(rows, (scale) => held.indexOf(scale))).not.toEqual(Array.from(rows, (_, i) => i));
});

it("works without queries, and with moments of a profile", async () => {
  const bare = new TinyCache({ ...SHAPE, queries: 0, seed: 1 });
  const cache = await compressOnBases(runtime, bare, profile, { ...ENDS, keyBits: 4, valueBits: 4 });
  expect(errorOf(cache, "key")).toBeLessThan(0.1);
});

it("refuses another model, and layers that the profile lacks", async () => {
  const on = (cache: TinyCache, bases = profile) => compressOnBases(runtime, cache, bases, ENDS);
  await expect(on(new TinyCache({ ...SHAPE, kvHeads: 1 }))).rejects.toThrow(
    new MismatchError("profile: expected bases of 1 kv heads of 32 as the cache has, got 2 kv heads of 32"),
  );
  await expect(on(new TinyCache({ ...SHAPE, layout: "interleaved" }))).rejects.toThrow(
    /^profile: expected rotary layout/,
  );
  await expect(on(new TinyCache({ ...SHAPE, pairs: 5 }))).rejects.toThrow(/^profile: expected rotary frequencies/);
  await expect(on(source, { ...profile, layerNumbers: [0, 7] })).rejects.toThrow(
    /^profile: expected bases of layer 1, got none$/,
  );
  await expect(on(source, { ...profile, model: "another" })).rejects.toThrow(MismatchError);
});

it("stops where the signal says so, and leaves nothing in linear memory", async () => {
  const before = runtime.heap.bytesInUse;
  await expect(compressOnBases(runtime, source, profile, ENDS, { signal: AbortSignal.abort() })).rejects.toThrow();
  await compressOnBases(runtime, source, profile, ENDS);
  expect(runtime.heap.bytesInUse).toBe(before);
});
