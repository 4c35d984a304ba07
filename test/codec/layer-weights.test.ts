/** Bits between layers by what their errors count: more where they count more, as many in all. */
import { beforeAll, describe, expect, it } from "vitest";
import { createProfile } from "../../src/cache/profile.ts";
import { bitsOf, bytesOf } from "../../src/codec/bytes.ts";
import type { CodedCache } from "../../src/codec/coded.ts";
import { compress } from "../../src/codec/compress.ts";
import { compressOnBases } from "../../src/codec/given-bases.ts";
import { restoreLayer } from "../../src/codec/restore.ts";
import type { CacheSource } from "../../src/codec/source.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { elementsOf, relativeError, TinyCache } from "../support/tiny-cache.ts";

const OPTIONS = { sinks: 2, recent: 6, keyBits: 1.5, valueBits: 2 };
const cache = new TinyCache({ tokens: 400, noise: 0.3, rank: 20 });
const weighed = (keys: number[], values: number[]): CacheSource =>
  Object.assign(Object.create(cache), { layerWeights: { keys, values } });

let runtime: Runtime;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create({ poison: true });
});

function errorsOf(coded: CodedCache, part: "key" | "value"): number[] {
  return cache.layers.map((layer, i) =>
    relativeError(
      elementsOf({ type: "f16", bytes: restoreLayer(runtime, coded, i, "f16")[part] }),
      elementsOf(layer[part]),
    ),
  );
}

describe.each([false, true])("entropy: %s", (entropy) => {
  const options = { ...OPTIONS, entropy };

  it("a layer that counts more loses less, the others more, in as many bits", async () => {
    const alike = await compress(runtime, cache, options);
    const first = await compress(runtime, weighed([9, 1 / 9], [9, 1 / 9]), options);
    for (const part of ["key", "value"] as const) {
      const [before, after] = [errorsOf(alike, part), errorsOf(first, part)];
      expect(after[0]).toBeLessThan(0.8 * before[0]);
      expect(after[1]).toBeGreaterThan(1.2 * before[1]);
      const bits = [alike, first].map(
        (coded) => bitsOf(bytesOf(coded)[part === "key" ? "keys" : "values"], coded).bits,
      );
      expect(Math.abs(bits[1] / bits[0] - 1)).toBeLessThan(0.06);
    }
  });

  it("keys and values have weights of their own", async () => {
    const alike = await compress(runtime, cache, options);
    const keysOnly = await compress(runtime, weighed([9, 1 / 9], [1, 1]), options);
    expect(errorsOf(keysOnly, "key")[0]).toBeLessThan(0.8 * errorsOf(alike, "key")[0]);
    for (const [i, error] of errorsOf(keysOnly, "value").entries()) {
      expect(error / errorsOf(alike, "value")[i]).toBeCloseTo(1, 1);
    }
  });

  it("what counts is the weights' quotient", async () => {
    const [small, large] = [0.5, 32].map((by) => weighed([4 * by, by], [by, 2 * by]));
    const coded = await Promise.all([small, large].map((source) => compress(runtime, source, options)));
    for (const part of ["key", "value"] as const) {
      const [a, b] = coded.map((one) => errorsOf(one, part));
      a.forEach((error, i) => {
        expect(b[i] / error).toBeCloseTo(1, 2);
      });
    }
  });

  it("counts on the bases of a profile too", async () => {
    const profile = await createProfile(runtime, [cache], { keyBits: 4, valueBits: 4, anchorSpan: 32 });
    const [alike, first] = [cache, weighed([9, 1 / 9], [9, 1 / 9])].map((source) =>
      compressOnBases(runtime, source, profile, options),
    );
    for (const part of ["key", "value"] as const) {
      expect(errorsOf(await first, part)[0]).toBeLessThan(0.8 * errorsOf(await alike, part)[0]);
    }
  });
});

it("leaves the paper's schedule alone", async () => {
  const options = { ...OPTIONS, schedule: [8, 4, 2, 1, 1, 0, 0, 0] };
  const [alike, first] = [cache, weighed([9, 1 / 9], [1, 1])].map((source) => compress(runtime, source, options));
  expect((await first).layers.map(({ keys }) => keys)).toEqual((await alike).layers.map(({ keys }) => keys));
});
