/** Caches coded at their entropy: how many bits, how much error, and the same bits everywhere. */
import { beforeAll, describe, expect, it } from "vitest";
import { bitsOf, bytesOf } from "../../src/codec/bytes.ts";
import type { CodedCache, CodedGroup } from "../../src/codec/coded.ts";
import { compress } from "../../src/codec/compress.ts";
import type { CodecOptions } from "../../src/codec/options.ts";
import { restoreLayer } from "../../src/codec/restore.ts";
import { inPlanes, inStream } from "../../src/codec/streams.ts";
import { FormatError } from "../../src/errors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { failureOf } from "../support/failure.ts";
import { openFixture } from "../support/live-cache.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { elementsOf, relativeError, TinyCache } from "../support/tiny-cache.ts";

let runtime: Runtime;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create({});
});

const groupsOf = ({ layers }: CodedCache): CodedGroup[] => layers.flatMap(({ keys, values }) => [...keys, ...values]);
const bitsOfParts = (cache: CodedCache) => {
  const bytes = bytesOf(cache);
  return { keys: bitsOf(bytes.keys, cache).bits, values: bitsOf(bytes.values, cache).bits };
};

describe("a real cache at its entropy", () => {
  const errorOf = async (options: Partial<CodecOptions>) => {
    const dump = await openFixture();
    const cache = await compress(runtime, dump, { ...options, metric: false, attentionWeights: false });
    let [key, value] = [0, 0];
    for (let layer = 0; layer < dump.geometry.layerCount; layer++) {
      const restored = restoreLayer(runtime, cache, layer, "f32");
      key += relativeError(new Float32Array(restored.key.buffer), elementsOf(await dump.key(layer)));
      value += relativeError(new Float32Array(restored.value.buffer), elementsOf(await dump.value(layer)));
    }
    return { cache, bits: bitsOfParts(cache), key, value };
  };

  it("has less error than planes for fewer bits, about as many as asked for", async () => {
    const planes = await errorOf({ keyBits: 1.25, valueBits: 2 });
    const entropy = await errorOf({ keyBits: 1.1, valueBits: 1.75, entropy: true });
    expect(entropy.bits.keys).toBeGreaterThan(0.95);
    expect(entropy.bits.keys).toBeLessThan(1.15);
    expect(entropy.bits.values).toBeLessThan(1.85);
    expect(entropy.bits.keys).toBeLessThan(0.9 * planes.bits.keys);
    expect(entropy.bits.values).toBeLessThan(0.9 * planes.bits.values);
    expect(entropy.key).toBeLessThan(planes.key);
    expect(entropy.value).toBeLessThan(planes.value);
  });

  it("counts its streams", async () => {
    const cache = await compress(runtime, await openFixture(), { entropy: true });
    const bytes = groupsOf(cache).reduce(
      (sum, { stream }) => sum + stream!.parts[0].length + stream!.parts[1].length,
      0,
    );
    const { keys, values } = bytesOf(cache);
    expect(keys.codes + values.codes).toBe(bytes);
  });
});

describe("streams and planes", () => {
  const CASES: [string, Partial<CodecOptions>, number][] = [
    ["entropy", { entropy: true, keyBits: 2, valueBits: 2 }, 90],
    ["entropy, by heads, of two range codes", { entropy: true, grouping: "head", keyBits: 1 }, 1300],
    ["widths 8 to 1", { keyBits: 3, valueBits: 1.5 }, 90],
    ["no channels", { keyBits: 0.01, valueBits: 0.01 }, 80],
  ];
  it.each(CASES)("hold the same codes: %s", async (_, options, tokens) => {
    const cache = await compress(runtime, new TinyCache({ layers: 1, tokens, noise: 0.3 }), options);
    for (const group of groupsOf(cache)) {
      const coded = tokens - 68;
      const planes = inPlanes(runtime, group, coded);
      const streams = inStream(runtime, group, coded);
      expect(planes.stream).toBeUndefined();
      expect(inStream(runtime, planes, coded)).toEqual(streams);
      expect(inPlanes(runtime, streams, coded)).toEqual(planes);
    }
  });

  it("are the same bits on every platform", async () => {
    const source = new TinyCache({ layers: 1, tokens: 120, noise: 0.3, queries: 8 });
    const [first, ...others] = await Promise.all(
      PLATFORMS.map(async ({ create }) => {
        const mine = await create({});
        const cache = await compress(mine, source, { entropy: true });
        return { cache, restored: restoreLayer(mine, cache, 0, "f32") };
      }),
    );
    for (const other of others) expect(other).toEqual(first);
  });

  it("refuse what is no stream of so many codes", async () => {
    const cache = await compress(runtime, new TinyCache({ layers: 1, tokens: 120, noise: 0.3 }), { entropy: true });
    const [group] = cache.layers[0].keys;
    const { leading, parts } = group.stream!;
    const refusal = (part: Uint8Array) =>
      failureOf(() => inPlanes(runtime, { ...group, stream: { leading, parts: [part, parts[1]] } }, 52));
    for (const [part, message] of [
      [parts[0].subarray(0, 3), /token 0: expected at most \d+ bytes/],
      [parts[0].subarray(0, parts[0].length - 2), /token 0: expected at most/],
      [Uint8Array.of(...parts[0], 0), /expected the stream's end, got 1 more bytes/],
      [parts[0].map((x, i) => (i >= 4 ? x ^ 0x55 : x)), /expected the range code of 52 tokens/],
    ] as const) {
      const error = await refusal(part);
      expect(error).toBeInstanceOf(FormatError);
      expect((error as Error).message).toMatch(message);
    }
    expect(runtime.heap.bytesInUse).toBe(0);
  });

  it("of a channel of 2 bits hold no greater code", async () => {
    const cache = await compress(runtime, new TinyCache({ layers: 1, tokens: 120, noise: 0.3 }), { keyBits: 2 });
    const [group] = cache.layers[0].keys;
    const coded = inStream(runtime, group, 52);
    const at = group.books.findIndex(({ width }) => width === 4);
    const books = group.books.map((book, i) => (i >= at ? { ...book, width: 2 as const } : book));
    const error = await failureOf(() => inPlanes(runtime, { ...coded, books }, 52));
    expect((error as Error).message).toMatch(/expected a code below 4 in channel \d+/);
  });
});
