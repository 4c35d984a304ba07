/** Prefixes by their tokens: matching, sharing, budget, expiry, pins, many writers. */
import type { Miniflare } from "miniflare";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { CapacityError, FormatError, MismatchError } from "../../src/errors.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { decodeIndex } from "../../src/store/prefix-index.ts";
import { type PrefixChunk, PrefixStore } from "../../src/store/prefix-store.ts";
import { aesGcm, SealedStore } from "../../src/store/sealed.ts";
import { digestOf, nextId, rootOf } from "../../src/store/token-chain.ts";
import { Uses } from "../../src/store/uses.ts";
import { testDirectory } from "../support/directory.ts";
import { failureOf } from "../support/failure.ts";
import { BACKENDS, startWorkerd } from "./backends.ts";
import { FaultyStore } from "./faulty-store.ts";
import { bytesOf, chunksOf, readAll, somePrefix, someTokens } from "./prefixes.ts";

const pathOf = testDirectory();
const model = "m";

/** A store of prefixes with a clock that stands until it is turned. */
function clocked(options: object = {}, bytes = new MemoryStore()) {
  const clock = { ms: 1e12 };
  return { bytes, clock, store: new PrefixStore(bytes, { now: () => clock.ms, ...options }) };
}
const objectsIn = async (bytes: MemoryStore) => (await bytes.list("objects/")).length;

describe("match", () => {
  it("finds the longest stored beginning, cut where a chunk ends", async () => {
    const { store } = clocked();
    const tokens = someTokens(100);
    const long = await store.put(somePrefix(tokens));
    const other = Int32Array.from([...tokens.subarray(0, 50), ...someTokens(60, 3)]);
    expect(await store.match({ model, tokens })).toMatchObject({ id: long.id, tokenCount: 100, bytes: 400 });
    const cut = (await store.match({ model, tokens: other }))!;
    expect(cut).toMatchObject({ tokenCount: 48, bytes: 192 });
    expect(cut.chunks.map(({ tokenTo }) => tokenTo)).toEqual([16, 32, 48]);
    expect(await readAll(store, cut.id)).toEqual(bytesOf(somePrefix(tokens)).subarray(0, 192));
    expect(await store.match({ model, tokens: tokens.subarray(0, 15) })).toBeUndefined();
    expect(await store.match({ model, tokens: someTokens(100, 5) })).toBeUndefined();
    expect(await store.match({ model: "other", tokens })).toBeUndefined();
    const longer = await store.put(somePrefix(other));
    expect(await store.match({ model, tokens: other })).toMatchObject({ id: longer.id, tokenCount: 110 });
    expect(await store.stats()).toMatchObject({ hits: 3, misses: 3, matchedTokens: 258, prefixes: 2, tokens: 210 });
  });

  it("goes by the hash chain that token-chain.ts describes, and by the salt", async () => {
    const tokens = someTokens(20);
    const first = await nextId(await rootOf("s", model), tokens.subarray(0, 16));
    const { store } = clocked({ salt: "s" });
    expect((await store.put(somePrefix(tokens))).id).toBe(await nextId(first, tokens.subarray(16)));
    const { store: unsalted } = clocked();
    expect(await unsalted.info((await store.list())[0].id)).toBeUndefined();
    expect(await digestOf(new TextEncoder().encode("abc"))).toBe("ba7816bf8f01cfea414140de5dae2223");
  });

  it("takes chunks without tokens for part of the one behind them", async () => {
    const { store } = clocked({ pieceBytes: 10 });
    const tokens = someTokens(40);
    const given = somePrefix(tokens, 20);
    const { id, chunks } = await store.put(given);
    expect(chunks.length).toBe(16);
    expect(await readAll(store, id)).toEqual(bytesOf(given));
    const cut = (await store.match({ model, tokens: tokens.subarray(0, 39) }))!;
    expect(await readAll(store, cut.id)).toEqual(bytesOf(given).subarray(0, 80));
  });
});

describe("read", () => {
  it("gives any range of a prefix, whatever its chunks", async () => {
    const { store } = clocked();
    const given = somePrefix(someTokens(100));
    const { id } = await store.put(given);
    const bytes = bytesOf(given);
    for (const [start, end] of [[0, 400], [0, 1], [63, 65], [64, 128], [10, 390], [399, 400], [5, 5], [390, 999]]) {
      expect(await readAll(store, id, { start, end })).toEqual(bytes.subarray(start, end));
    } // biome-ignore format: pairs
    expect(await readAll(store, id, { start: 300 })).toEqual(bytes.subarray(300));
    expect(await store.read("0".repeat(32))).toBeUndefined();
  });

  it("takes a digest for bytes that are held, and no other", async () => {
    const { store } = clocked();
    const tokens = someTokens(40);
    const { chunks } = await store.put(somePrefix(tokens.subarray(0, 32)));
    const held = chunks.map(({ tokenFrom, tokenTo, digest }) => ({ tokenFrom, tokenTo, digest }));
    const whole = somePrefix(tokens);
    const last = (whole.chunks as PrefixChunk[])[2];
    const { id, bytes } = await store.put({ model, tokens, chunks: [...held, last] });
    expect(bytes).toBe(160);
    expect(await readAll(store, id)).toEqual(bytesOf(whole));
    expect(await store.stats()).toMatchObject({ prefixes: 2, bytes: 160 });
    const unknown = { ...held[0], digest: "0".repeat(32) };
    const put = () => store.put({ model, tokens, chunks: [unknown, held[1], last] });
    expect(await failureOf(put)).toBeInstanceOf(MismatchError);
    expect(await failureOf(() => store.put({ model, tokens, chunks: [held[1], last] }))).toBeInstanceOf(RangeError);
    expect(await store.stats()).toMatchObject({ prefixes: 2, bytes: 160, garbage: 0 });
  });

  it("asks for the index once, and for the objects of the range", async () => {
    const bytes = new FaultyStore(new MemoryStore());
    const store = new PrefixStore(bytes);
    const given = somePrefix(someTokens(100));
    const { id } = await store.put(given);
    bytes.calls = 0;
    const { info, read } = (await store.open(id))!;
    expect([info.bytes, bytes.calls]).toEqual([400, 1]);
    const parts = [read({ start: 70, end: 80 }), read({ start: info.bytes - 5 })].map((part) => new Response(part));
    const got = await Promise.all(parts.map(async (part) => Buffer.from(await part.arrayBuffer())));
    expect(got).toEqual([bytesOf(given).subarray(70, 80), bytesOf(given).subarray(395)]);
    expect(bytes.calls).toBe(3);
    expect(await store.open("0".repeat(32))).toBeUndefined();
  });

  it("writes uses down once, however many read at the time", async () => {
    const bytes = new FaultyStore(new MemoryStore());
    let ms = 1e12;
    const uses = new Uses();
    const storeOfRequest = () => new PrefixStore(bytes, { now: () => ms, uses });
    const { id } = await storeOfRequest().put(somePrefix(someTokens(100)));
    const indexPuts = vi.spyOn(bytes, "put");
    ms += 61_000;
    await Promise.all(Array.from({ length: 50 }, () => readAll(storeOfRequest(), id)));
    expect(indexPuts).toHaveBeenCalledTimes(1);
    expect((await storeOfRequest().info(id))!.used).toBe(ms);
  });

  it("sees damage, and chunks that are gone", async () => {
    const { store, bytes } = clocked();
    const { id } = await store.put(somePrefix(someTokens(16)));
    const [{ key }] = await bytes.list("objects/");
    const held = (await bytes.get(key))!.bytes;
    held[5] ^= 1;
    await bytes.put(key, held);
    expect(await failureOf(() => readAll(store, id))).toBeInstanceOf(FormatError);
    await bytes.put(key, held.subarray(1));
    expect(await failureOf(() => readAll(store, id, { start: 1, end: 3 }))).toBeInstanceOf(FormatError);
    await bytes.delete(key);
    expect((await failureOf(() => readAll(store, id))).message).toMatch(/replaced or evicted/);
  });
});

describe("put", () => {
  it("holds equal chunks once, and until the last prefix that has them goes", async () => {
    const { store, bytes } = clocked();
    const tokens = someTokens(96);
    const short = await store.put(somePrefix(tokens.subarray(0, 64)));
    const long = await store.put(somePrefix(tokens));
    expect(await objectsIn(bytes)).toBe(6);
    expect(await store.stats()).toMatchObject({ bytes: 384, bytesUnshared: 640 });
    expect(await store.delete(long.id)).toBe(true);
    expect(await store.delete(long.id)).toBe(false);
    expect(await objectsIn(bytes)).toBe(4);
    expect(await store.match({ model, tokens })).toMatchObject({ id: short.id });
    await store.delete(short.id);
    expect(await objectsIn(bytes)).toBe(0);
  });

  it("puts new bytes in the place of the old ones", async () => {
    const { store, bytes } = clocked();
    const tokens = someTokens(32);
    const old = await store.put(somePrefix(tokens, 16, 0));
    const same = await store.put(somePrefix(tokens, 16, 0));
    expect(same).toMatchObject({ id: old.id, etag: old.etag });
    const { id, etag } = await store.put(somePrefix(tokens, 16, 1));
    expect(id).toBe(old.id);
    expect(etag).not.toBe(old.etag);
    expect(await readAll(store, id)).toEqual(bytesOf(somePrefix(tokens, 16, 1)));
    expect(await objectsIn(bytes)).toBe(2);
  });

  it("refuses chunks that do not cover the tokens, and leaves nothing of them", async () => {
    const { store, bytes } = clocked();
    const tokens = someTokens(32);
    const good = [...(chunksOf(tokens, 16) as PrefixChunk[])];
    const bad: PrefixChunk[][] = [
      [],
      [good[0]],
      [good[1]],
      [good[0], good[0]],
      [good[0], { ...good[1], tokenTo: 33 }],
      [good[0], { ...good[1], tokenTo: 16.5 }],
      [good[0], { ...good[1], bytes: "x" as never }],
    ];
    for (const chunks of bad) {
      expect((await failureOf(() => store.put({ model, tokens, chunks }))).message).toMatch(/^chunks.*: expected/);
    }
    const empty = await failureOf(() => store.put({ model, tokens: new Int32Array(0), chunks: good }));
    expect(empty.message).toMatch(/^tokens: expected/);
    expect(await bytes.list("")).toEqual([]);
  });

  it("lets garbage go, whoever deleted it", async () => {
    const bytes = new MemoryStore();
    for (let version = 0; version < 4; version++) {
      await new PrefixStore(bytes).put(somePrefix(someTokens(32), 16, version));
      expect((await new PrefixStore(bytes).stats()).garbage).toBe(version === 0 ? 0 : 2);
      expect(await objectsIn(bytes)).toBe(2);
    }
    await new PrefixStore(bytes).flush();
    expect((await new PrefixStore(bytes).stats()).garbage).toBe(0);
  });

  it("stops when told, in the middle of a stream", async () => {
    const { store, bytes } = clocked();
    const stop = new AbortController();
    const tokens = someTokens(48);
    async function* stream() {
      for (const chunk of chunksOf(tokens, 16) as PrefixChunk[]) {
        if (chunk.tokenFrom === 32) stop.abort(new Error("enough"));
        yield chunk;
      }
    }
    const error = await failureOf(() => store.put({ model, tokens, chunks: stream() }, { signal: stop.signal }));
    expect(error.message).toBe("enough");
    expect(await bytes.list("")).toEqual([]);
  });
});

describe("budget, expiry, pins", () => {
  it("evicts what was used longest ago", async () => {
    const { store, clock, bytes } = clocked({ budgetBytes: 300 });
    const [a, b, c] = [1, 2, 3].map((seed) => someTokens(32, seed));
    await store.put(somePrefix(a));
    clock.ms++;
    await store.put(somePrefix(b));
    clock.ms++;
    expect(await store.match({ model, tokens: a })).toBeDefined();
    clock.ms++;
    await store.put(somePrefix(c));
    expect(await store.match({ model, tokens: b })).toBeUndefined();
    expect(await store.match({ model, tokens: a })).toBeDefined();
    expect(await store.stats()).toMatchObject({ bytes: 256, evicted: 1, prefixes: 2 });
    expect(await objectsIn(bytes)).toBe(4);
  });

  it("keeps pinned prefixes, and refuses what finds no room beside them", async () => {
    const { store, bytes } = clocked({ budgetBytes: 300 });
    const { id } = await store.put({ ...somePrefix(someTokens(32, 1)), pinned: true });
    await store.put(somePrefix(someTokens(32, 2)));
    await store.put(somePrefix(someTokens(32, 3)));
    expect((await store.list()).map((one) => one.id)).toContain(id);
    const before = await bytes.list("");
    const error = await failureOf(() => store.put(somePrefix(someTokens(64, 4))));
    expect(error).toBeInstanceOf(CapacityError);
    expect(await bytes.list("")).toEqual(before);
    expect(await store.pin(id, false)).toBe(true);
    await store.put(somePrefix(someTokens(64, 4)));
    expect(await store.list()).toHaveLength(1);
    expect(await store.pin("none")).toBe(false);
  });

  it("forgets what has expired", async () => {
    const { store, clock, bytes } = clocked();
    const tokens = someTokens(32);
    const { id } = await store.put({ ...somePrefix(tokens), ttlSeconds: 10, pinned: true });
    clock.ms += 9_999;
    expect(await store.info(id)).toBeDefined();
    clock.ms += 1;
    expect(await store.match({ model, tokens })).toBeUndefined();
    expect(await store.read(id)).toBeUndefined();
    expect(await store.list()).toEqual([]);
    await store.sweep();
    expect(await objectsIn(bytes)).toBe(0);
    expect(await store.stats()).toMatchObject({ expired: 1, prefixes: 0, bytes: 0 });
  });
});

describe("many writers", () => {
  let workerd: Miniflare;
  beforeAll(async () => {
    workerd = await startWorkerd();
  });
  afterAll(() => workerd.dispose());

  it.each(BACKENDS)("%s: nothing that any of them put is lost", async (name, make) => {
    const bytes = await make({ folder: pathOf(), base: `w${name.length}${name.charCodeAt(0)}/`, workerd });
    // Where puts take no condition, one PrefixStore is the only writer.
    const writers = [1, 2, 3].map(() => new PrefixStore(bytes));
    if (!bytes.conditionalPut) writers.fill(writers[0]);
    const tokens = someTokens(64);
    const lengths = [17, 25, 33, 41, 49, 57, 64];
    await Promise.all(lengths.map((n, i) => writers[i % 3].put(somePrefix(tokens.subarray(0, n)))));
    const { id } = (await writers[0].list()).find(({ tokenCount }) => tokenCount === 33)!;
    const more = [8, 9].map((seed) => writers[seed - 8].put(somePrefix(someTokens(20, seed))));
    await Promise.all([...more, writers[2].delete(id)]);
    const held = (await writers[1].list()).map(({ tokenCount }) => tokenCount).sort((a, b) => a - b);
    expect(held).toEqual([17, 20, 20, 25, 41, 49, 57, 64]);
    for (const { id: each, tokenCount, model: of } of await writers[0].list()) {
      if (tokenCount === 20) continue;
      const given = { ...somePrefix(tokens.subarray(0, tokenCount)), model: of };
      expect(await readAll(writers[2], each)).toEqual(bytesOf(given));
    }
    await writers[0].flush();
    const index = decodeIndex((await bytes.get("index.json"))!.bytes);
    const keys = (await bytes.list("objects/")).map(({ key }) => key).sort();
    expect(keys).toEqual(Object.keys(index.objects).sort());
  });
});

describe("a sealed store", () => {
  it("holds nothing that can be read, and takes nothing that was changed or moved", async () => {
    const secret = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]);
    const inner = new MemoryStore();
    const sealed = new SealedStore(inner, aesGcm(secret));
    const store = new PrefixStore(sealed);
    const given = somePrefix(someTokens(40));
    const { id } = await store.put(given);
    expect(await readAll(store, id)).toEqual(bytesOf(given));
    expect(await readAll(store, id, { start: 3, end: 99 })).toEqual(bytesOf(given).subarray(3, 99));
    for (const { key } of await inner.list("")) {
      const text = Buffer.from((await inner.get(key))!.bytes);
      for (const { bytes } of given.chunks as PrefixChunk[])
        expect(text.includes(Buffer.from(bytes.subarray(0, 16)))).toBe(false);
      expect(text.includes("format")).toBe(false);
    }
    const [one, other] = await inner.list("objects/");
    await inner.put(one.key, (await inner.get(other.key))!.bytes);
    expect(await failureOf(() => readAll(store, id))).toBeInstanceOf(FormatError);
  });
});

describe("an index from outside", () => {
  it("is checked", async () => {
    const { store, bytes } = clocked();
    await store.put(somePrefix(someTokens(20)));
    const good = JSON.parse(Buffer.from((await bytes.get("index.json"))!.bytes).toString());
    const [id] = Object.keys(good.prefixes);
    const prefix = good.prefixes[id];
    const bad = [
      "", "[]", "null", "{", { ...good, format: 2 }, { ...good, prefixes: null }, { ...good, objects: {} },
      { ...good, garbage: [1] }, { ...good, prefixes: { [id]: { ...prefix, chunks: [] } } },
      { ...good, prefixes: { [id]: { ...prefix, used: "now" } } }, { ...good, prefixes: { [id]: 5 } },
      { ...good, objects: { a: { bytes: -1, digest: "" } } }, { ...good, objects: { a: null } },
    ]; // biome-ignore format: one after the other
    for (const value of bad) {
      const text = typeof value === "string" ? value : JSON.stringify(value);
      await bytes.put("index.json", new TextEncoder().encode(text));
      expect(await failureOf(() => store.list())).toBeInstanceOf(FormatError);
    }
    await bytes.put("index.json", Uint8Array.of(0xff));
    expect(await failureOf(() => store.stats())).toBeInstanceOf(FormatError);
  });
});
