/** What every store promises. `make` gives an empty one for each test. */
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { UnsupportedError } from "../../src/errors.ts";
import type { ByteStore } from "../../src/store/byte-store.ts";
import { failureOf } from "../support/failure.ts";

/** Bytes that differ from place to place. */
const someBytes = (length: number, seed = 1): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => Math.imul(i + seed, 0x9e3779b1) >>> 24);

export function storeContract(name: string, make: () => ByteStore | Promise<ByteStore>): void {
  describe(name, () => {
    let store: ByteStore;
    beforeEach(async () => {
      store = await make();
    });
    const read = async (key: string) => (await store.get(key))?.bytes;
    const keys = async (prefix: string) => (await store.list(prefix)).map(({ key }) => key).sort();

    it("gives back what was put last, as bytes of the caller's own", async () => {
      const bytes = someBytes(5000);
      expect(await store.put("a/b", bytes)).toBe(true);
      const held = (await store.get("a/b"))!;
      expect(held.totalBytes).toBe(5000);
      expect(Buffer.compare(held.bytes, someBytes(5000))).toBe(0);
      held.bytes.fill(0);
      bytes.fill(1);
      expect(Buffer.compare((await read("a/b"))!, someBytes(5000))).toBe(0);
      await store.put("a/b", someBytes(10, 7));
      expect(Buffer.compare((await read("a/b"))!, someBytes(10, 7))).toBe(0);
      await store.put("a/b", new Uint8Array(0));
      expect(await store.get("a/b")).toMatchObject({ totalBytes: 0, bytes: new Uint8Array(0) });
    });

    it("has nothing under a key never put, or deleted", async () => {
      expect(await store.get("none")).toBeUndefined();
      expect(await store.get("none", { start: 0, end: 4 })).toBeUndefined();
      expect(await store.get("none", { start: 3 })).toBeUndefined();
      await store.delete("none");
      await store.put("a", someBytes(3));
      await store.delete("a");
      expect(await store.get("a")).toBeUndefined();
      expect(await store.list("")).toEqual([]);
    });

    it("gives any range", async () => {
      const bytes = someBytes(3500);
      await store.put("x", bytes);
      for (const [start, end] of [[0, 1], [0, 1000], [999, 1001], [1000, 2000], [3499, 3500], [1, 3499], [7, 7], [0, 0]]) {
      const part = (await store.get("x", { start, end }))!;
      expect(Buffer.compare(part.bytes, bytes.subarray(start, end))).toBe(0);
      expect(part.totalBytes).toBe(3500);
    } // biome-ignore format: pairs
      expect((await store.get("x", { start: 3000 }))!.bytes.length).toBe(500);
      expect((await store.get("x", { start: 3000, end: 9999 }))!.bytes.length).toBe(500);
      expect(await store.get("x", { start: 3500 })).toMatchObject({ bytes: new Uint8Array(0), totalBytes: 3500 });
      expect(await store.get("x", { start: 4000, end: 5000 })).toMatchObject({ bytes: new Uint8Array(0) });
    });

    it("lists by prefix", async () => {
      const all = ["a", "a/b", "a/b/c", "a/bc", "ab", "b/a"];
      for (const [i, key] of all.entries()) await store.put(key, someBytes(i + 1));
      expect(await keys("")).toEqual(all);
      expect(await keys("a")).toEqual(all.slice(0, 5));
      expect(await keys("a/")).toEqual(["a/b", "a/b/c", "a/bc"]);
      expect(await keys("a/b")).toEqual(["a/b", "a/b/c", "a/bc"]);
      expect(await keys("a/b/")).toEqual(["a/b/c"]);
      expect(await keys("c")).toEqual([]);
      const [{ bytes }] = await store.list("b/");
      if (bytes !== undefined) expect(bytes).toBe(6);
    });

    it("refuses what is no key, everywhere", async () => {
      const bad = ["", "/a", "a/", "a//b", "..", "a/../b", "a/./b", ".hidden", "A", "a b", "a\0", "ä", "a\\b", "a:b"];
      for (const key of [...bad, "x".repeat(201), Array(201).fill("a").join("/")]) {
        for (const work of [() => store.get(key), () => store.put(key, someBytes(1)), () => store.delete(key)]) {
          const error = await failureOf(work);
          expect(String(error)).toMatch(/key: expected parts of a-z/);
        }
      }
      expect(String(await failureOf(() => store.list("../")))).toMatch(/key: expected/);
      expect(await keys("")).toEqual([]);
    });

    it("lets one of many writers win where puts take a condition", async () => {
      if (!store.conditionalPut) {
        const error = await failureOf(() => store.put("n", someBytes(1), { version: null }));
        expect(error).toBeInstanceOf(UnsupportedError);
        return;
      }
      expect(await store.put("n", someBytes(1), { version: "1" })).toBe(false);
      const first = await Promise.all([1, 2, 3, 4].map((i) => store.put("n", Uint8Array.of(i), { version: null })));
      expect(first.filter(Boolean).length).toBe(1);
      // A counter that every writer raises ten times loses no step.
      await store.put("n", Uint8Array.of(0));
      const raise = async () => {
        for (let done = 0; done < 10; ) {
          const { bytes, version } = (await store.get("n"))!;
          if (await store.put("n", Uint8Array.of(bytes[0] + 1), { version: version! })) done++;
        }
      };
      await Promise.all([raise(), raise(), raise()]);
      expect(await read("n")).toEqual(Uint8Array.of(30));
      const { version } = (await store.get("n"))!;
      await store.delete("n");
      expect(await store.put("n", someBytes(1), { version: version! })).toBe(false);
      expect(await store.put("n", someBytes(1), { version: null })).toBe(true);
      expect((await store.get("n"))!.version).not.toBe(version);
    });

    it("does what a map does", async () => {
      const key = fc.constantFrom("a", "a/b", "b", "c/d/e");
      const step = fc.oneof(
        fc.record({ do: fc.constant("put" as const), key, bytes: fc.uint8Array({ maxLength: 2500 }) }),
        fc.record({ do: fc.constant("delete" as const), key }),
      );
      const property = fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
        for (const held of await store.list("")) await store.delete(held.key);
        const map = new Map<string, Uint8Array>();
        for (const one of steps) {
          if (one.do === "put") await store.put(one.key, one.bytes);
          else await store.delete(one.key);
          if (one.do === "put") map.set(one.key, one.bytes);
          else map.delete(one.key);
        }
        expect(await keys("")).toEqual([...map.keys()].sort());
        for (const [name, bytes] of map) expect(Buffer.compare((await read(name))!, bytes)).toBe(0);
      });
      await fc.assert(property, { numRuns: 15 });
    });
  });
}
