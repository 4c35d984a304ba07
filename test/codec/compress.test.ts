/** Whole caches through the codec: what more bits buy, what is refused, and that nothing is left behind. */
import { beforeAll, describe, expect, it } from "vitest";
import { encodeArchive, joinChunks } from "../../src/archive/writer.ts";
import { codedTokens } from "../../src/codec/coded.ts";
import { compress, type Progress } from "../../src/codec/compress.ts";
import type { CodecOptions } from "../../src/codec/options.ts";
import { CapacityError } from "../../src/errors.ts";
import { instantiate, type Runtime } from "../../src/runtime/runtime.ts";
import { failureOf } from "../support/failure.ts";
import { PLATFORMS, releaseModule } from "../support/platforms.ts";
import { errorsOf } from "../support/restored.ts";
import { TinyCache, type TinyCacheOptions, tensorOf } from "../support/tiny-cache.ts";

const ENDS = { sinks: 2, recent: 6 };

let runtime: Runtime;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create({ poison: true });
});

const pack = async (on: Runtime, shape: TinyCacheOptions, options: Partial<CodecOptions>): Promise<Uint8Array> =>
  joinChunks(encodeArchive(await compress(on, new TinyCache(shape), { ...ENDS, ...options })));

describe("bits", () => {
  it.each<[string, TinyCacheOptions, Partial<CodecOptions>]>([
    ["of layers", { noise: 0.3 }, {}],
    ["of heads", { noise: 0.3 }, { grouping: "head" }],
    ["after RoPE", { noise: 0.3 }, { anchorSpan: null }],
  ])("%s lower the error of what they are spent on, and of nothing else", async (_, shape, options) => {
    const source = new TinyCache(shape);
    const all = [];
    for (const bits of [0.5, 1, 2, 4, 8]) {
      const cache = await compress(runtime, source, { ...ENDS, ...options, keyBits: bits, valueBits: 2 });
      all.push({ bits, ...errorsOf(runtime, cache, source) });
    }
    for (let i = 1; i < all.length; i++) {
      expect(all[i].key, `keys at ${all[i].bits} bits`).toBeLessThan(all[i - 1].key);
      expect(all[i].value).toBe(all[0].value);
    }
    // Half a bit keeps the mean and the strongest channels; 8 bits leave steps of a basis of 12 bits at most.
    expect(all[0].key).toBeLessThan(0.2);
    expect(all[4].key).toBeLessThan(2e-4);
  });

  it("of values lower their error", async () => {
    const source = new TinyCache({ noise: 0.3 });
    const errors = [];
    for (const valueBits of [0.5, 1, 2, 4, 8]) {
      errors.push(errorsOf(runtime, await compress(runtime, source, { ...ENDS, valueBits }), source).value);
    }
    for (let i = 1; i < errors.length; i++) expect(errors[i]).toBeLessThan(errors[i - 1]);
    expect(errors[0]).toBeLessThan(0.5);
    expect(errors[4]).toBeLessThan(2e-4);
  });

  it("of keys stay within the mean that was asked for, over all layers together", async () => {
    for (const keyBits of [0.3, 1.25, 3]) {
      const cache = await compress(runtime, new TinyCache({ noise: 0.3 }), { ...ENDS, keyBits });
      const groups = cache.layers.flatMap(({ keys }) => keys);
      const bits = groups.reduce((sum, { books }) => sum + books.reduce((a, { width }) => a + width, 0), 0);
      expect(bits).toBeLessThanOrEqual(keyBits * 128);
      expect(bits).toBeGreaterThan(keyBits * 128 - 24);
    }
  });

  it("go where variance is: a layer ten times as large gets more", async () => {
    const source = new TinyCache({ noise: 0.3, type: "f32" });
    const large = new Float32Array(source.layers[1].key.bytes.slice().buffer).map((x) => 10 * x);
    source.layers[1].key = tensorOf("f32", large);
    const { layers } = await compress(runtime, source, { ...ENDS, keyBits: 1 });
    const [small, much] = layers.map(({ keys }) => keys[0].books.reduce((sum, { width }) => sum + width, 0));
    expect(much).toBeGreaterThan(1.5 * small);
  });
});

describe("metric", () => {
  it("lowers the error as queries see it", async () => {
    // Queries look at the first 8 dimensions of a head 30 times as much as at the others, whatever their position.
    const shape: TinyCacheOptions = { layers: 1, pairs: 0, noise: 0.5, queries: 24, focus: 8 };
    const source = new TinyCache(shape);
    const scores = async (metric: boolean): Promise<number> => {
      const cache = await compress(runtime, source, { ...ENDS, metric, attentionWeights: false, keyBits: 1 });
      return errorsOf(runtime, cache, source).score;
    };
    expect(await scores(true)).toBeLessThan(0.2 * (await scores(false)));
  });

  it("is used where there are queries, and shown by column scales; not in the paper's mode", async () => {
    const columns = async (shape: TinyCacheOptions, options: Partial<CodecOptions>): Promise<boolean> => {
      const { layers } = await compress(runtime, new TinyCache({ layers: 1, ...shape }), { ...ENDS, ...options });
      expect(layers[0].values[0].basis.columnScales).toBeUndefined();
      return layers[0].keys[0].basis.columnScales !== undefined;
    };
    expect(await columns({ queries: 8 }, {})).toBe(true);
    expect(await columns({ queries: 0 }, {})).toBe(false);
    expect(await columns({ queries: 8 }, { metric: false })).toBe(false);
    expect(await columns({ queries: 8 }, { schedule: [4, 4, 2, 0, 0, 0, 0, 0] })).toBe(false);
  });
});

describe("the paper's mode", () => {
  it("gives eighths of the channels the widths of the schedule, min-max codes, no metric", async () => {
    const source = new TinyCache({ queries: 8, noise: 0.3 });
    const cache = await compress(runtime, source, { ...ENDS, schedule: [8, 4, 2, 1, 0, 0, 0, 0] });
    const plain = await compress(runtime, new TinyCache({ noise: 0.3 }), {
      ...ENDS,
      schedule: [8, 4, 2, 1, 0, 0, 0, 0],
    });
    for (const [i, { keys }] of cache.layers.entries()) {
      const [{ books }] = keys;
      expect(books.map(({ width }) => width)).toEqual([8, 4, 2, 1].flatMap((width) => Array(8).fill(width)));
      expect(new Set(books.map(({ kind }) => kind))).toEqual(new Set(["uniform"]));
      expect(books.some(({ offset }) => offset !== 0)).toBe(true);
      expect(keys).toStrictEqual(plain.layers[i].keys);
    }
  });

  it("sorts a schedule that rises into falling widths, for planes", async () => {
    const { layers } = await compress(runtime, new TinyCache({ layers: 1 }), {
      ...ENDS,
      schedule: [0, 0, 1, 0, 4, 0, 0, 8],
    });
    expect(layers[0].keys[0].books.map(({ width }) => width)).toEqual(
      [8, 4, 1].flatMap((width) => Array(8).fill(width)),
    );
  });

  it.each<[number[], string]>([
    [[4, 4, 2], "schedule: expected 8 widths, got 3"],
    [[4, 4, 2, 0, 0, 0, 0, 3], "schedule: expected widths of 0, 1, 2, 4, 8, got 3"],
    [[0, 0, 0, 0, 0, 0, 0, 0], "schedule: expected at least one width above 0, got none"],
  ])("refuses %j", async (schedule, message) => {
    expect(await failureOf(() => compress(runtime, new TinyCache(), { schedule }))).toStrictEqual(
      new RangeError(message),
    );
  });
});

describe("the same archive", () => {
  const shape: TinyCacheOptions = { layers: 1, tokens: 70, queries: 8, noise: 0.2 };
  it.each<[string, TinyCacheOptions, Partial<CodecOptions>]>([
    ["with a metric", shape, { anchorSpan: 32 }],
    [
      "of heads after RoPE",
      { ...shape, queries: 0, layout: "interleaved", type: "f32" },
      { grouping: "head", anchorSpan: null },
    ],
    ["by the paper", { ...shape, type: "bf16", pairs: 10 }, { schedule: [8, 4, 2, 1, 1, 0, 0, 0] }],
    ["of a truncated basis", { layers: 1, kvHeads: 16, tokens: 50, queries: 4 }, { keyBits: 0.25, valueBits: 0.25 }],
  ])(
    "%s comes from twins, debug and release module, and from memory that grows at every turn",
    async (_, source, options) => {
      const archives = [];
      for (const { create } of PLATFORMS) archives.push(await pack(await create({ poison: true }), source, options));
      archives.push(await pack(await PLATFORMS[2].create(), source, options));
      for (const archive of archives.slice(1)) expect(Buffer.compare(archive, archives[0])).toBe(0);
    },
  );

  it("comes from a heap that has been used before", async () => {
    const first = await pack(runtime, shape, {});
    await pack(runtime, { ...shape, tokens: 130, seed: 5 }, { keyBits: 3 });
    expect(Buffer.compare(await pack(runtime, shape, {}), first)).toBe(0);
    expect(runtime.heap.bytesInUse).toBe(0);
  });
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
    [{ anchorSpan: 24 }, "anchorSpan: expected a power of two or null, got 24"],
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

  it("that is large in f32 gives a cache that can be written, and comes back", async () => {
    const source = new TinyCache({ layers: 1, type: "f32", pairs: 0 });
    const raise = (bytes: Uint8Array) =>
      tensorOf(
        "f32",
        new Float32Array(bytes.slice().buffer).map((x) => x * 1e30),
      );
    source.layers[0].value = raise(source.layers[0].value.bytes);
    const cache = await compress(runtime, source, { ...ENDS, valueBits: 8 });
    expect(encodeArchive(cache).length).toBeGreaterThan(0);
    expect(errorsOf(runtime, cache, source).value).toBeLessThan(2e-4);
  });
});

describe("work", () => {
  it("reports each layer of each phase", async () => {
    const calls: Progress[] = [];
    await compress(runtime, new TinyCache(), ENDS, { onProgress: (progress) => calls.push({ ...progress }) });
    const phases = ["analyse keys", "encode keys", "encode values"] as const;
    expect(calls).toEqual(phases.flatMap((phase) => [0, 1].map((layer) => ({ phase, layer, layerCount: 2 }))));
  });

  it("does not begin when the signal has been given", async () => {
    const source = new TinyCache();
    source.key = () => expect.fail("asked for a tensor");
    const reason = new Error("enough");
    expect(await failureOf(() => compress(runtime, source, ENDS, { signal: AbortSignal.abort(reason) }))).toBe(reason);
  });

  it.each([0, 1, 3, 4])("stops after %i layers and leaves nothing behind", async (last) => {
    const controller = new AbortController();
    let calls = 0;
    const onProgress = () => {
      if (calls++ === last) controller.abort(new Error("enough"));
    };
    const work = compress(runtime, new TinyCache(), ENDS, { onProgress, signal: controller.signal });
    expect((await failureOf(() => work)).message).toBe("enough");
    expect(calls).toBe(last + 1);
    expect(runtime.heap.bytesInUse).toBe(0);
  });

  it("hands on what the source throws and leaves nothing behind", async () => {
    const source = new TinyCache();
    source.value = async () => {
      throw new Error("disk gone");
    };
    expect((await failureOf(() => compress(runtime, source, ENDS))).message).toBe("disk gone");
    expect(runtime.heap.bytesInUse).toBe(0);
  });

  it("at the memory limit is a CapacityError; a smaller cache then still fits", async () => {
    const small = await instantiate(releaseModule(), { maximumBytes: 24 * 65536 });
    const error = await failureOf(() => compress(small, new TinyCache({ tokens: 5000, layers: 1 }), ENDS));
    expect(error).toBeInstanceOf(CapacityError);
    expect(error.message).toMatch(/^linear memory: \d+ bytes needed, limit is 1572864$/);
    expect(small.heap.bytesInUse).toBe(0);
    const source = new TinyCache({ layers: 1 });
    const cache = await compress(small, source, { ...ENDS, keyBits: 8 });
    expect(errorsOf(small, cache, source).key).toBeLessThan(2e-4);
    expect(small.heap.bytesInUse).toBe(0);
  });
});

describe("exact tokens", () => {
  it("are the bytes that came, sinks then recent of each head", async () => {
    const source = new TinyCache({ layers: 1, tokens: 40 });
    const { layers } = await compress(runtime, source, { sinks: 1, recent: 2 });
    const bits = new Uint16Array(source.layers[0].value.bytes.slice().buffer);
    const kept = [0, 38, 39].concat([40, 78, 79]).flatMap((row) => Array.from(bits.subarray(32 * row, 32 * row + 32)));
    expect(Array.from(new Uint16Array(layers[0].exactValues.slice().buffer))).toEqual(kept);
  });
});
