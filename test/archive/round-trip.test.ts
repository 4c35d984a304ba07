/** What is written comes back bit for bit, and there is one way to write it. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { decodeArchive, readArchive } from "../../src/archive/reader.ts";
import { encodeArchive, writeArchive } from "../../src/archive/writer.ts";
import { joinChunks } from "../../src/codec/chunks.ts";
import { compress } from "../../src/codec/compress.ts";
import type { CodecOptions } from "../../src/codec/options.ts";
import { restoreLayer } from "../../src/codec/restore.ts";
import { FormatError } from "../../src/errors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { anyCache } from "../support/any-cache.ts";
import { testDirectory } from "../support/directory.ts";
import { failureOf } from "../support/failure.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { TinyCache, type TinyCacheOptions } from "../support/tiny-cache.ts";

const CASES: [string, TinyCacheOptions, Partial<CodecOptions>][] = [
  ["the defaults", { queries: 16 }, {}],
  ["a basis a head", { queries: 16 }, { grouping: "head" }],
  ["span 32", {}, { anchorSpan: 32 }],
  ["keys after RoPE", {}, { anchorSpan: null }],
  ["a span for each rotary pair", { pairs: 5 }, { anchorSpan: [null, 32, 1, 64, 32] }],
  ["the paper's schedule, min-max books with offsets", {}, { schedule: [8, 4, 2, 1, 1, 0, 0, 0] }],
  ["f32", { type: "f32" }, {}],
  ["bf16", { type: "bf16" }, {}],
  ["no token ids", { ids: false }, {}],
  ["no exact tokens", {}, { sinks: 0, recent: 0 }],
  ["sinks only", {}, { sinks: 5, recent: 0 }],
  ["partial rotary", { pairs: 5 }, {}],
  ["no rotary at all", { pairs: 0 }, {}],
  ["interleaved pairs", { layout: "interleaved" }, {}],
  ["one token to code", { tokens: 3 }, { sinks: 1, recent: 1 }],
  ["one kv head of 80", { kvHeads: 1, headDim: 80 }, {}],
  ["bits for hardly a channel", {}, { keyBits: 0.1, valueBits: 0.1 }],
  ["8 bits", {}, { keyBits: 8, valueBits: 8, basisBits: 12 }],
];
const OPTIONS = { sinks: 2, recent: 8 };

/** Also -0 and the kinds of arrays. Words a difference only where there is one: many times faster. */
function same(got: unknown, expected: unknown): void {
  if (!isDeepStrictEqual(got, expected)) expect(got).toStrictEqual(expected);
}

describe("archive of a compressed cache", () => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await PLATFORMS[2].create({});
  });

  it.each(CASES)("with %s comes back bit for bit", async (_, shape, options) => {
    const cache = await compress(runtime, new TinyCache(shape), { ...OPTIONS, ...options });
    const bytes = joinChunks(encodeArchive(cache));
    const back = decodeArchive(bytes);
    same(back, cache);
    same(joinChunks(encodeArchive(back)), bytes);
    for (let layer = 0; layer < cache.layers.length; layer++) {
      same(restoreLayer(runtime, back, layer, "f32"), restoreLayer(runtime, cache, layer, "f32"));
    }
  });
});

describe("archive of any cache", () => {
  it("comes back bit for bit and is written the same way again", () => {
    fc.assert(
      fc.property(anyCache(), (cache) => {
        const bytes = joinChunks(encodeArchive(cache));
        const back = decodeArchive(bytes);
        same(back, cache);
        same(joinChunks(encodeArchive(back)), bytes);
      }),
      { numRuns: 60 },
    );
  });

  it("does not survive a flipped bit or a missing byte", () => {
    fc.assert(
      fc.property(
        anyCache(),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        fc.nat(7),
        (cache, at, bit) => {
          const bytes = joinChunks(encodeArchive(cache));
          const place = Math.floor(at * bytes.length);
          expect(() => decodeArchive(bytes.subarray(0, place))).toThrow(FormatError);
          bytes[place] ^= 1 << bit;
          expect(() => decodeArchive(bytes)).toThrow(FormatError);
        },
      ),
      { numRuns: 60 },
    );
  });

  it("is read from anywhere in a buffer, into arrays of its own", () => {
    const [cache] = fc.sample(anyCache(), { numRuns: 1, seed: 7 });
    const bytes = joinChunks(encodeArchive(cache));
    const room = Buffer.alloc(bytes.length + 11);
    room.set(bytes, 5);
    const view = room.subarray(5, 5 + bytes.length);
    const back = decodeArchive(view);
    view.fill(0);
    same(back, cache);
  });
});

describe("archive in a file", () => {
  const path = testDirectory();
  const [cache] = fc.sample(anyCache(), { numRuns: 1, seed: 8 });

  it("comes back", async () => {
    await writeArchive(path("a.svdq"), cache);
    same(await readArchive(path("a.svdq")), cache);
  });

  it("is named in every message", async () => {
    const bytes = joinChunks(encodeArchive(cache));
    writeFileSync(path("cut.svdq"), bytes.subarray(0, 100));
    const error = await failureOf(() => readArchive(path("cut.svdq")));
    expect(error).toStrictEqual(
      new FormatError(`${path("cut.svdq")}: length: expected ${bytes.length} bytes, got 100`, 100),
    );
  });

  it("that is not there is a RangeError with its path", async () => {
    const missing = join(path(), "none.svdq");
    const error = await failureOf(() => readArchive(missing));
    expect(error).toBeInstanceOf(RangeError);
    expect(error.message).toContain(`path: expected a file to read, got "${missing}"`);
  });

  it("is not touched when the cache makes no sense", async () => {
    await writeArchive(path("a.svdq"), cache);
    const wrong = { ...cache, recent: cache.tokenCount + 1 };
    expect((await failureOf(() => writeArchive(path("a.svdq"), wrong))).message).toMatch(/^recent: expected/);
    same(await readArchive(path("a.svdq")), cache);
  });
});
