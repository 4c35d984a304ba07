/** Whole caches through the codec: what bits and modes buy, the same bytes everywhere, and nothing left behind. */
import { beforeAll, describe, expect, it } from "vitest";
import { encodeArchive } from "../../src/archive/writer.ts";
import { joinChunks } from "../../src/codec/chunks.ts";
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
