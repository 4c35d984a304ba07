/** Chats of the playground as they are kept: one a model, found with its cache, replaced, forgotten. */
import { describe, expect, it } from "vitest";
import { SavedChats } from "../../../demo/playground/src/chat/saved.ts";
import { MemoryStore } from "../../../src/store/index.ts";

const { signal } = new AbortController();
const kept = (ids: number[], tokens: number) => ({
  saved: { tokens, bits: 2, bytes: 3, f16Bytes: 48, compressMs: 1, prefillTokensPerSecond: null },
  written: {
    messages: [{ role: "user" as const, content: `${ids.length} tokens` }],
    text: "…",
    ids,
    prefillTokensPerSecond: null,
  },
});
const open = () => {
  const [texts, caches] = [new MemoryStore(), new MemoryStore()];
  return { texts, caches, chats: new SavedChats(texts, caches) };
};

describe("saved chats", () => {
  it("come back with their archive, in another instance too, and for their model alone", async () => {
    const { texts, caches, chats } = open();
    await chats.save("m#1", Uint8Array.of(1, 2, 3), kept([5, 6, 7, 8], 3), signal);
    const found = await new SavedChats(texts, caches).find("m#1");
    expect(found).toEqual({ ...kept([5, 6, 7, 8], 3), archive: Uint8Array.of(1, 2, 3) });
    expect(await chats.find("m#2")).toBeUndefined();
  });

  it("take the place of the one before, whose bytes are let go", async () => {
    const { caches, chats } = open();
    for (const [ids, byte] of [
      [[1, 2, 3], 1],
      [[1, 2, 3, 4], 2],
      [[9, 2, 3], 3],
      [[9, 2, 3], 4],
    ] as const) {
      // biome-ignore format: a chat a pair
      await chats.save("m", Uint8Array.of(byte), kept([...ids], ids.length), signal);
      const found = await chats.find("m");
      expect([found?.written.ids, found?.archive]).toEqual([[...ids], Uint8Array.of(byte)]);
    }
    const objects = await caches.list("objects/");
    expect(objects).toHaveLength(1);
  });

  it("are gone when forgotten, and when their cache was evicted", async () => {
    const { texts, caches, chats } = open();
    await chats.save("m", Uint8Array.of(1), kept([1, 2], 2), signal);
    expect(await new SavedChats(texts, new MemoryStore()).find("m")).toBeUndefined();
    await chats.forget("m");
    await chats.forget("m");
    expect(await chats.find("m")).toBeUndefined();
    expect(await caches.list("objects/")).toEqual([]);
  });
});
