/** Archives cut by tokens: put together they are the same bytes, and a longer one shares what a shorter one has. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { extendCache } from "../../src/archive/extend.ts";
import { decodeArchive } from "../../src/archive/reader.ts";
import { type ChunkHeader, encodeTokenChunk } from "../../src/archive/token-chunk.ts";
import { joinTokenChunks } from "../../src/archive/token-join.ts";
import { splitByTokens } from "../../src/archive/token-split.ts";
import { encodeArchive } from "../../src/archive/writer.ts";
import { KvCache } from "../../src/cache/kv-cache.ts";
import { joinChunks } from "../../src/codec/chunks.ts";
import type { CodedCache } from "../../src/codec/coded.ts";
import { compress } from "../../src/codec/compress.ts";
import type { CodecOptions } from "../../src/codec/options.ts";
import { restoreLayer } from "../../src/codec/restore.ts";
import { FormatError, MismatchError } from "../../src/errors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { PrefixStore } from "../../src/store/index.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { failureOf } from "../support/failure.ts";
import { appendRows, openFixture, rowsOf } from "../support/live-cache.ts";
import { noise } from "../support/noise.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { elementsOf, relativeError, TinyCache } from "../support/tiny-cache.ts";

let runtime: Runtime;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create({});
});

const archiveOf = (cache: CodedCache): Uint8Array => joinChunks(encodeArchive(cache));
/** Faster than toEqual on long arrays. */
const isSame = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
const bytesOf = (cache: CodedCache, chunkTokens?: number): Uint8Array[] =>
  splitByTokens(cache, chunkTokens === undefined ? {} : { chunkTokens }).map(({ bytes }) => bytes);

const KINDS: [name: string, options: Partial<CodecOptions>][] = [
  ["planes", { grouping: "layer" }],
  ["planes a head, span 256", { grouping: "head", anchorSpan: 256 }],
  ["streams", { entropy: true }],
];

describe.each(KINDS)("chunks of %s", (_, options) => {
  let short: CodedCache;
  let long: CodedCache;
  beforeAll(async () => {
    short = await compress(runtime, await openFixture(1280), options);
    long = await extendCache(runtime, short, await openFixture());
  });

  it("are the archive, put together", () => {
    for (const cache of [short, long]) {
      expect(isSame(archiveOf(joinTokenChunks(bytesOf(cache))), archiveOf(cache))).toBe(true);
    }
  });

  it("give some layers alone", () => {
    for (const layer of [0, 1]) {
      const part = joinTokenChunks(bytesOf(long), "chunks", { layers: [layer] });
      const geometry = { ...long.geometry, layerCount: 1 };
      const one = { layers: [long.layers[layer]], layerNumbers: [long.layerNumbers[layer]] };
      expect(isSame(archiveOf(part), archiveOf({ ...long, ...one, geometry }))).toBe(true);
    }
    for (const layers of [[], [2], [1, 0]]) {
      expect(() => joinTokenChunks(bytesOf(short), "chunks", { layers })).toThrow(RangeError);
    }
  });

  it("lie in the longer archive byte for byte, but for the last", () => {
    const [a, b] = [bytesOf(short), bytesOf(long)];
    expect(a.length).toBe(options.entropy ? 2 : 5);
    expect(a.map((bytes, i) => isSame(bytes, b[i]))).toEqual(a.map((_, i) => i < a.length - 1));
    expect(long.tokenCount).toBe(1664);
    expect(long.tokens?.length).toBe(1664);
  });

  it("make a shorter cache where the last are left out", () => {
    const chunks = splitByTokens(long).slice(0, -1);
    const part = joinTokenChunks(chunks.map(({ bytes }) => bytes));
    const tokens = chunks[chunks.length - 1].tokenTo;
    expect(part).toMatchObject({ tokenCount: tokens, recent: 0, sinks: 4 });
    expect(part.tokens).toEqual(long.tokens?.slice(0, tokens));
    const [got, whole] = [restoreLayer(runtime, part, 1, "f16"), restoreLayer(runtime, long, 1, "f16")];
    for (const role of ["key", "value"] as const) {
      const [a, b] = [got, whole].map((layer) => layer[role].subarray(0, 2 * 64 * tokens));
      expect(isSame(a, b)).toBe(true);
    }
  });

  it("lose little more than the longer cache compressed at once", async () => {
    const source = await openFixture();
    const atOnce = await compress(runtime, source, options);
    for (const role of ["key", "value"] as const) {
      const exact = elementsOf(await source[role](1));
      const [extended, best] = [long, atOnce].map((cache) =>
        relativeError(elementsOf({ type: "f16", bytes: restoreLayer(runtime, cache, 1, "f16")[role] }), exact),
      );
      expect(extended / best).toBeLessThan(1.5);
    }
  });
});

it.each([{}, { entropy: true }])("a live cache that grew shares chunks too: %j", async (options) => {
  const source = await openFixture();
  const short = await compress(runtime, await openFixture(1280), { anchorSpan: 256, ...options });
  using cache = KvCache.open(runtime, short, { monitorEvery: 0 });
  for (let layer = 0; layer < 2; layer++) {
    appendRows(cache, layer, await rowsOf(source, layer), short.tokenCount, source.tokenCount);
  }
  // Ids of the tokens that were appended are unknown to it.
  const long = { ...cache.save(), tokens: source.tokens as Int32Array };
  const [a, b] = [bytesOf(short), bytesOf(long)];
  expect(a.map((bytes, i) => isSame(bytes, b[i]))).toEqual(a.map((_, i) => i < a.length - 1));
});

describe("a store", () => {
  it("holds chunks once that two prefixes share, and matches where a chunk ends", async () => {
    const short = await compress(runtime, await openFixture(1280));
    const long = await extendCache(runtime, short, await openFixture());
    const store = new PrefixStore(new MemoryStore());
    const put = (cache: CodedCache) =>
      store.put({ model: "m", tokens: cache.tokens as Int32Array, chunks: splitByTokens(cache) });
    await put(short);
    const before = (await store.stats()).bytes;
    await put(long);
    const added = (await store.stats()).bytes - before;
    const sizes = bytesOf(long).map(({ length }) => length);
    expect(added).toBe(sizes.slice(4).reduce((sum, size) => sum + size, 0));

    const tokens = Int32Array.from({ length: 900 }, (_, i) => (i < 800 ? (long.tokens as Int32Array)[i] : -1));
    const found = await store.match({ model: "m", tokens });
    expect(found?.tokenCount).toBe(4 + 3 * 256);
    const read = await store.read(found!.id);
    const cache = joinTokenChunks(new Uint8Array(await new Response(read!.bytes).arrayBuffer()));
    expect(cache.tokens).toEqual(long.tokens?.slice(0, 772));
    const whole = await store.match({ model: "m", tokens: long.tokens as Int32Array });
    const stream = (await store.read(whole!.id))!.bytes;
    const again = joinTokenChunks(new Uint8Array(await new Response(stream).arrayBuffer()));
    expect(isSame(archiveOf(again), archiveOf(long))).toBe(true);
  });
});

describe("golden archives", () => {
  it.each(["v1-heads", "v1-metric", "v1-paper", "v2-segments", "v3-pair-spans", "v3-streams"])(
    "%s comes back byte for byte",
    (name) => {
      const archive = new Uint8Array(readFileSync(`test/golden/${name}.svdq`));
      const cache = decodeArchive(archive);
      expect(archiveOf(joinTokenChunks(joinChunks(bytesOf(cache, 32))))).toEqual(archive);
    },
  );

  it.each([
    ["v1-metric", "723fda2ab0d0fb5c4bc420dc5c41df683cfbb319b8fa1e9ffafa4012cb820e37"],
    ["v2-segments", "69fada84fa5e201de51a4da48a3f0fe2d9c3495f7a890c2d3189c1bd34511106"],
    ["v3-streams", "7aaf9e89c09197d69f1f2e05dd05344d3ccea9824d1cdd004078bc26f2fcf941"],
  ])("%s is cut into the chunks that it always was", (name, digest) => {
    const cache = decodeArchive(new Uint8Array(readFileSync(`test/golden/${name}.svdq`)));
    const chunks = joinChunks(bytesOf(cache, 32));
    expect(createHash("sha256").update(chunks).digest("hex")).toBe(digest);
  });

  it("of several segments are cut where every layer can be", () => {
    const cache = decodeArchive(new Uint8Array(readFileSync("test/golden/v2-segments.svdq")));
    // Segments of 38 and 48 tokens beside one of 86: 64 lies inside a block of the second.
    expect(splitByTokens(cache, { chunkTokens: 32 }).map(({ tokenTo }) => tokenTo)).toEqual([
      cache.sinks + 32,
      cache.tokenCount,
    ]);
  });
});

describe("damage", () => {
  let chunks: Uint8Array[];
  beforeAll(async () => {
    chunks = bytesOf(await compress(runtime, new TinyCache({ tokens: 110 }), { sinks: 2, recent: 4 }), 32);
  });

  it("of any byte is found", () => {
    const bytes = joinChunks(chunks);
    for (let i = 0; i < bytes.length; i++) {
      bytes[i] ^= 1 << (i % 8);
      expect(() => joinTokenChunks(bytes), `byte ${i}`).toThrow(FormatError);
      bytes[i] ^= 1 << (i % 8);
    }
    for (let length = 0; length < bytes.length; length += 7) {
      const ends = chunks.map((_, i) => chunks.slice(0, i + 1).reduce((sum, one) => sum + one.length, 0));
      if (!ends.includes(length)) expect(() => joinTokenChunks(bytes.subarray(0, length))).toThrow(FormatError);
    }
  });

  it("says what is wrong: order, a chunk of another archive, none at all", async () => {
    const [first, second, third] = chunks;
    expect(() => joinTokenChunks(joinChunks([first, third]))).toThrow(/chunk 1: link: expected [0-9a-f]{8}, the chunk/);
    expect(() => joinTokenChunks(second)).toThrow("chunk 0: link: expected 00000000");
    const other = await compress(runtime, new TinyCache({ tokens: 110, seed: 2 }), { sinks: 2, recent: 4 });
    expect(() => joinTokenChunks(joinChunks([first, bytesOf(other, 32)[1]]))).toThrow("chunk 1: link");
    expect(() => joinTokenChunks(new Uint8Array(0))).toThrow("length: expected at least 32 bytes, got 0");
  });

  it("is not made by wrong options", () => {
    const cache = joinTokenChunks(joinChunks(chunks));
    expect(() => splitByTokens(cache, { chunkTokens: 33 })).toThrow("chunkTokens: expected a multiple of 32, got 33");
    expect(() => splitByTokens({ ...cache, sinks: 3 })).toThrow(RangeError);
  });
});

describe("a chunk whose checksum is right", () => {
  let chunks: Uint8Array[];
  beforeAll(async () => {
    chunks = bytesOf(await compress(runtime, new TinyCache({ tokens: 110 }), { sinks: 2, recent: 4 }), 32);
  });

  /** The first chunk with another header and body. */
  function forged(change: (header: ChunkHeader) => unknown, bodyOf = (body: Uint8Array) => body): Uint8Array {
    const first = chunks[0];
    const end = 32 + new DataView(first.buffer, first.byteOffset).getUint32(12, true);
    const header = JSON.parse(new TextDecoder().decode(first.subarray(32, end)));
    return encodeTokenChunk(change(header) as ChunkHeader, 0, bodyOf(first.subarray(end))).bytes;
  }

  it.each<[string, (header: ChunkHeader) => unknown, string]>([
    ["null", () => null, "JSON: expected an object, got null"],
    ["no pieces", (h) => ({ ...h, pieces: [[1, 32]] }), "pieces: expected of each layer"],
    ["a layer less", (h) => ({ ...h, pieces: h.pieces.slice(1) }), "pieces: expected 2 layers, got 1"],
    ["a start elsewhere", (h) => ({ ...h, tokenFrom: 2 }), "tokens: expected from 0 on, got"],
    ["no shared fields", ({ shared: _, ...h }) => h, "shared: expected an object in the first chunk"],
    ["another model", (h) => ({ ...h, shared: { ...h.shared, model: "x" } }), "fingerprint: expected"],
    ["no geometry", (h) => ({ ...h, shared: { ...h.shared, geometry: 3 } }), "geometry: expected an object, got 3"],
    ["no rotary", (h) => ({ ...h, shared: { ...h.shared, rotary: null } }), "rotary: expected an object, got null"],
    ["many pairs", (h) => ({ ...h, shared: { ...h.shared, rotary: { ...h.shared!.rotary, pairs: 17 } } }), "pairs"],
    ["a span of 3", (h) => ({ ...h, shared: { ...h.shared, anchorSpan: 3 } }), "anchorSpan: expected null or a power"],
    ["many tokens", (h) => ({ ...h, tokenTo: 2 ** 31 - 1 }), "expected"],
    ["segments that go on", (h) => ({ ...h, pieces: h.pieces.map(() => [[0, 32]]) }), "expected a segment that begins"],
    ["long segments", (h) => ({ ...h, pieces: h.pieces.map(() => [[1, 2 ** 30]]) }), "bytes, got"],
  ])("is refused with %s", async (_, change, message) => {
    const refused = await failureOf(() => joinTokenChunks(forged(change)));
    expect(refused).toBeInstanceOf(FormatError);
    expect(refused.message).toContain(message);
  });

  it("is refused or read, whatever it holds", () => {
    const draws = noise(3 * 1000, 5).map(Math.abs);
    let read = 0;
    for (let i = 0; i < 1000; i++) {
      const at = (part: number, most: number) => Math.floor(draws[3 * i + part] * 1e6) % most;
      const change = (body: Uint8Array) => {
        const changed = body.slice(0, body.length - (i % 3 === 0 ? at(2, body.length) : 0));
        if (changed.length > 0) changed[at(0, changed.length)] = at(1, 256);
        return changed;
      };
      try {
        joinTokenChunks(forged((header) => header, change));
        read++;
      } catch (error) {
        expect(error).toBeInstanceOf(FormatError);
      }
    }
    expect(read).toBeGreaterThan(30);
  });
});

describe("extendCache refuses", () => {
  const options = { sinks: 2, recent: 4 };
  const extended = async (short: TinyCache, long: unknown) =>
    extendCache(runtime, await compress(runtime, short, options), long as TinyCache, { recent: 4 });
  const short = new TinyCache({ tokens: 100 });

  it.each([
    ["another model", { tokens: 140, headDim: 64 }, "fingerprint: expected"],
    ["fewer tokens", { tokens: 90 }, "tokens: expected at least 101, one more than the archive has, got 90"],
    ["no token ids", { tokens: 140, ids: false }, "token ids: expected some, as the archive has them, got none"],
  ])("%s", async (_, given, message) => {
    const refused = await extended(short, new TinyCache(given)).catch((error) => error);
    expect(refused).toBeInstanceOf(MismatchError);
    expect(refused.message).toContain(message);
  });

  it("other token ids, and other tensors under the same ids", async () => {
    const long = new TinyCache({ tokens: 140 });
    const ids = Int32Array.from(long.tokens as Int32Array);
    ids[7] = 1;
    await expect(extended(short, Object.assign(Object.create(long), { tokens: ids }))).rejects.toThrow(
      "token 7: expected 5433, as the archive has, got 1",
    );
    await expect(extended(short, new TinyCache({ tokens: 140, seed: 3 }))).rejects.toThrow(
      /layer 0 key: expected tokens 96 to 99 as the archive has them, got others/,
    );
  });

  it("nothing else: a signal stops it", async () => {
    const coded = await compress(runtime, await openFixture(1280));
    const signal = AbortSignal.abort(new Error("enough"));
    await expect(extendCache(runtime, coded, await openFixture(), {}, { signal })).rejects.toThrow("enough");
  });
});
