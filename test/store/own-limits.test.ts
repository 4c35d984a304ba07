/** What one backend only has: pieces, locks, limits of its platform. */
import { existsSync, mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import type { Miniflare } from "miniflare";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CapacityError, FormatError, UnsupportedError } from "../../src/errors.ts";
import { DurableObjectStore } from "../../src/store/durable-object.ts";
import { FileStore } from "../../src/store/fs.ts";
import { OpfsStore } from "../../src/store/opfs.ts";
import { UnstorageStore } from "../../src/store/unstorage.ts";
import { WorkersKvStore } from "../../src/store/workers-kv.ts";
import { testDirectory } from "../support/directory.ts";
import { failureOf } from "../support/failure.ts";
import { durableBox, overRpc, startWorkerd } from "./backends.ts";
import { MemoryDirectory, MemoryFile } from "./memory-directory.ts";

const pathOf = testDirectory();
const bytes = Uint8Array.of(1, 2, 3);

describe("a Durable Object", () => {
  let workerd: Miniflare;
  beforeAll(async () => {
    workerd = await startWorkerd();
  });
  afterAll(() => workerd.dispose());

  it("holds a value in pieces, and none of a value that is gone", async () => {
    const box = await durableBox(workerd, "pieces");
    const store = overRpc(box);
    await store.put("a", new Uint8Array(2500));
    expect(await box.keys()).toEqual(["h/a", "p/a/1/000000", "p/a/1/000001", "p/a/1/000002", "puts"]);
    await store.put("a", new Uint8Array(1000));
    expect(await box.keys()).toEqual(["h/a", "p/a/2/000000", "puts"]);
    // More pieces than one call takes.
    await store.put("a", new Uint8Array(200_500));
    expect((await box.keys()).length).toBe(203);
    await store.delete("a");
    expect(await box.keys()).toEqual(["puts"]);
  });

  it("reads the pieces that a range touches and no others, half a megabyte a call", async () => {
    const held = new Map<string, unknown>();
    const read: number[] = [];
    const storage = {
      get: async (keys: string | string[]) => {
        if (typeof keys === "string") return held.get(keys);
        const found = keys.filter((key) => held.has(key)).map((key) => [key, held.get(key) as Uint8Array] as const);
        read.push(found.reduce((sum, [, piece]) => sum + piece.length, 0));
        return new Map(found);
      },
      put: async (key: string, value: unknown) => void held.set(key, value),
      transaction: (work: (storage: never) => Promise<unknown>) => work(storage as never),
    };
    const store = new DurableObjectStore(storage as never);
    const value = new Uint8Array(2 ** 21).map((_, i) => Math.imul(i, 0x9e3779b1) >>> 24);
    await store.put("a", value);
    // The limit of the platform where a class is not on SQLite.
    for (const [key, piece] of held) if (key.startsWith("p/")) expect((piece as Uint8Array).length).toBe(131_072);
    const part = (await store.get("a", { start: 1_000_000, end: 1_065_536 }))!;
    expect(Buffer.compare(part.bytes, value.subarray(1_000_000, 1_065_536))).toBe(0);
    expect(read).toEqual([2 * 131_072]);
    expect(Buffer.compare((await store.get("a"))!.bytes, value)).toBe(0);
    expect(read.slice(1)).toEqual(Array(4).fill(2 ** 19));
    held.delete([...held.keys()].find((key) => key.endsWith("000009"))!);
    expect(await failureOf(() => store.get("a"))).toBeInstanceOf(FormatError);
  });
});

describe("a folder", () => {
  it("holds plain files and nothing beside them", async () => {
    const store = new FileStore(pathOf("s"));
    await store.put("a/b", bytes);
    expect(await store.put("a/b", bytes, { version: null })).toBe(false);
    expect(readdirSync(pathOf("s/a"))).toEqual(["b.V"]);
    expect([...readFileSync(pathOf("s/a/b.V"))]).toEqual([1, 2, 3]);
  });

  it("does not wait for a process that died with the lock", async () => {
    const store = new FileStore(pathOf("s"));
    mkdirSync(pathOf("s/n.V.L"), { recursive: true });
    const old = Date.now() / 1000 - 60;
    utimesSync(pathOf("s/n.V.L"), old, old);
    expect(await store.put("n", bytes, { version: null })).toBe(true);
    expect(existsSync(pathOf("s/n.V.L"))).toBe(false);
  });

  it("says which path it cannot write", async () => {
    writeFileSync(pathOf("s"), "");
    const error = await failureOf(() => new FileStore(pathOf("s")).put("a", bytes));
    expect(error.message).toMatch(/^path: expected a file to write, got ".*s" \(E/);
    expect(await new FileStore(pathOf("s")).get("a")).toBeUndefined();
  });
});

describe("OPFS", () => {
  it("keeps the old value where the quota is full, and says so", async () => {
    const store = new OpfsStore(new MemoryDirectory("root"));
    await store.put("a", bytes);
    try {
      MemoryFile.failure = "QuotaExceededError";
      expect(await failureOf(() => store.put("a", new Uint8Array(9)))).toBeInstanceOf(CapacityError);
      expect(await failureOf(() => store.put("b", new Uint8Array(9)))).toBeInstanceOf(CapacityError);
    } finally {
      MemoryFile.failure = undefined;
    }
    expect((await store.get("a"))!.bytes).toEqual(bytes);
    expect(await store.get("b")).toBeUndefined();
    expect(await store.list("")).toEqual([{ key: "a", bytes: 3 }]);
  });

  it("is an UnsupportedError where the host has none", async () => {
    expect(await failureOf(() => OpfsStore.open())).toBeInstanceOf(UnsupportedError);
  });
});

it("a driver of unstorage that gives no bytes is a FormatError", async () => {
  const storage = { getItemRaw: async () => ({ a: 1 }) } as never;
  expect(await failureOf(() => new UnstorageStore(storage).get("a"))).toBeInstanceOf(FormatError);
});

it("Workers KV takes 25 MiB a value", async () => {
  const error = await failureOf(() => new WorkersKvStore({} as never).put("a", new Uint8Array(25 * 2 ** 20 + 1)));
  expect(error).toBeInstanceOf(CapacityError);
});
