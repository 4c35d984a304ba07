/** What goes into the codec: refused with a message that names it, or coded however odd it is. */
import { beforeAll, describe, expect, it } from "vitest";
import { encodeArchive } from "../../src/archive/writer.ts";
import { codedTokens } from "../../src/codec/coded.ts";
import { compress } from "../../src/codec/compress.ts";
import type { CodecOptions } from "../../src/codec/options.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { failureOf } from "../support/failure.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { errorsOf } from "../support/restored.ts";
import { TinyCache, tensorOf } from "../support/tiny-cache.ts";

const ENDS = { sinks: 2, recent: 6 };

let runtime: Runtime;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create({ poison: true });
});

describe("tokens", () => {
  it.each([
    [0, "tokens: expected at least 9 (2 sinks + 6 recent + 1 to code), got 0"],
    [1, "tokens: expected at least 9 (2 sinks + 6 recent + 1 to code), got 1"],
    [8, "tokens: expected at least 9 (2 sinks + 6 recent + 1 to code), got 8"],
  ])("%i are too few", async (tokens, message) => {
    const error = await failureOf(() => compress(runtime, new TinyCache({ tokens }), ENDS));
    expect(error).toStrictEqual(new RangeError(message));
    expect(runtime.heap.bytesInUse).toBe(0);
  });

  it.each([1, 2, 31, 32, 33])("%i to code are enough", async (count) => {
    const source = new TinyCache({ layers: 1, tokens: count + 8, queries: 2 });
    const cache = await compress(runtime, source, { ...ENDS, keyBits: 8, valueBits: 8 });
    expect(codedTokens(cache)).toBe(count);
    const { key, value } = errorsOf(runtime, cache, source);
    expect(key).toBeLessThan(2e-4);
    expect(value).toBeLessThan(2e-4);
  });

  it("of a single one, none exact, are coded", async () => {
    const source = new TinyCache({ layers: 1, tokens: 1 });
    const cache = await compress(runtime, source, { sinks: 0, recent: 0 });
    // The mean is the token, in f16 as the cache has it; keys before RoPE at position 0 are as cached.
    expect(errorsOf(runtime, cache, source).key).toBeLessThan(1e-6);
    expect(cache.layers[0].exactKeys.length).toBe(0);
  });
});

/** A cache with something wrong in it. */
function spoilt(change: (cache: TinyCache) => void): TinyCache {
  const cache = new TinyCache({ type: "f32", queries: 4 });
  change(cache);
  return cache;
}

const put = (bytes: Uint8Array, places: [number, number][]): void => {
  const view = new DataView(bytes.buffer);
  for (const [element, x] of places) view.setFloat32(4 * element, x, true);
};

describe("input", () => {
  it.each<[string, (cache: TinyCache) => void]>([
    [
      "layer 1 key: expected finite elements, got 3 of NaN or infinity",
      (c) =>
        put(c.layers[1].key.bytes, [
          [0, Number.NaN],
          [77, Infinity],
          [6399, -Infinity],
        ]),
    ],
    [
      "layer 0 value: expected finite elements, got 1 of NaN or infinity",
      (c) => put(c.layers[0].value.bytes, [[5, Number.NaN]]),
    ],
    [
      "layer 1 query: expected finite elements, got 2 of NaN or infinity",
      (c) =>
        put(c.layers[1].query!.bytes, [
          [5, -Infinity],
          [6, Number.NaN],
        ]),
    ],
    [
      "layer 0 key: expected 25600 bytes (6400 f32), got 25596",
      (c) => (c.layers[0].key.bytes = c.layers[0].key.bytes.slice(4)),
    ],
    ["layer 1 value: expected 25600 bytes (6400 f32), got 0", (c) => (c.layers[1].value.bytes = new Uint8Array(0))],
    [
      "layer 0 query: expected 2048 bytes (512 f32), got 2052",
      (c) => (c.layers[0].query!.bytes = new Uint8Array(2052)),
    ],
    ["layer 0 query: expected a multiple of 2 query heads, got 3", (c) => (c.layers[0].query!.queryHeads = 3)],
    ["layer 0 query: expected a multiple of 2 query heads, got 0", (c) => (c.layers[0].query!.queryHeads = 0)],
    ["layer 0 query: count: expected an integer from 1 to 100, got 0", (c) => (c.layers[0].query!.count = 0)],
    [
      "layer 0 query: firstToken: expected an integer from 0 to 96, got 97",
      (c) => (c.layers[0].query!.firstToken = 97),
    ],
    [
      "layer 0 query: firstToken: expected an integer from 0 to 96, got -1",
      (c) => (c.layers[0].query!.firstToken = -1),
    ],
    ["geometry.headDim: expected a multiple of 4, got 33", (c) => (c.geometry.headDim = 33)],
    ["geometry.headDim: expected an integer from 32 to 256, got 16", (c) => (c.geometry.headDim = 16)],
    ["geometry.kvHeads: expected an integer from 1 to 32, got 33", (c) => (c.geometry.kvHeads = 33)],
    [
      "rotary.frequencies.length: expected an integer from 0 to 16, got 17",
      (c) => (c.rotary.frequencies = new Float64Array(17)),
    ],
    ["rotary.frequencies[0]: expected a number from ", (c) => (c.rotary.frequencies[0] = Number.NaN)],
    [
      "layer 1: expected f32 throughout, got f16 keys and f32 values",
      (c) => (c.layers[1].key = new TinyCache().layers[1].key),
    ],
    [
      "layer 0: expected f32 throughout, got f32 keys and bf16 values",
      (c) => (c.layers[0].value = new TinyCache({ type: "bf16" }).layers[0].value),
    ],
  ])("is refused: %s", async (message, change) => {
    const error = await failureOf(() => compress(runtime, spoilt(change), ENDS));
    expect(error).toBeInstanceOf(RangeError);
    expect(error.message).toContain(message);
    expect(runtime.heap.bytesInUse).toBe(0);
  });

  it.each<[Partial<CodecOptions>, string]>([
    [{ keyBits: 0 }, "keyBits: expected a number from 0.01 to 8, got 0"],
    [{ keyBits: 9 }, "keyBits: expected a number from 0.01 to 8, got 9"],
    [{ valueBits: Number.NaN }, "valueBits: expected a number from 0.01 to 8, got NaN"],
    [{ anchorSpan: 24 }, "anchorSpan: expected a power of two from 1 to 16777216 or null, got 24"],
    [{ basisBits: 2 }, "basisBits: expected an integer from 3 to 12, got 2"],
  ])("with %j is refused before a tensor is asked for", async (options, message) => {
    const source = new TinyCache();
    source.key = () => expect.fail("asked for a tensor");
    expect(await failureOf(() => compress(runtime, source, options))).toStrictEqual(new RangeError(message));
  });

  it("of zeros, of one value everywhere and of one huge outlier comes back", async () => {
    for (const fill of [(_: number) => 0, (_: number) => -3, (i: number) => (i === 1000 ? 30000 : 0.5)]) {
      const source = new TinyCache({ layers: 1, pairs: 0 });
      const tensor = tensorOf(
        "f16",
        Float32Array.from({ length: 6400 }, (_, i) => fill(i)),
      );
      Object.assign(source.layers[0], { key: tensor, value: tensor });
      const cache = await compress(runtime, source, { ...ENDS, keyBits: 8, valueBits: 8 });
      const { key, value } = errorsOf(runtime, cache, source);
      expect(key || 0).toBeLessThan(1e-4);
      expect(value || 0).toBeLessThan(1e-4);
    }
  });

  /** A cache without rotary in f32, its values times `factor`. */
  const scaled = (factor: number): TinyCache => {
    const source = new TinyCache({ layers: 1, type: "f32", pairs: 0 });
    const values = new Float32Array(source.layers[0].value.bytes.slice().buffer).map((x) => x * factor);
    source.layers[0].value = tensorOf("f32", values);
    return source;
  };

  it.each([1e-30, 1e30, 5e37])(
    "with values of about %d gives a cache that can be written, and comes back",
    async (size) => {
      const source = scaled(size);
      const cache = await compress(runtime, source, { ...ENDS, valueBits: 8 });
      expect(encodeArchive(cache).length).toBeGreaterThan(0);
      expect(errorsOf(runtime, cache, source).value).toBeLessThan(2e-4);
    },
  );

  it("with subnormal values comes back as well as those can", async () => {
    const source = scaled(2 ** -130);
    const cache = await compress(runtime, source, { ...ENDS, valueBits: 8 });
    expect(encodeArchive(cache).length).toBeGreaterThan(0);
    expect(errorsOf(runtime, cache, source).value).toBeLessThan(0.2);
  });
});
