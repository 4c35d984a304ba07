/** Every call to the store fails once, before or after it was carried out: what is there is the old or the new state. */
import { describe, expect, it } from "vitest";
import { MemoryStore } from "../../src/store/memory.ts";
import { PrefixStore } from "../../src/store/prefix-store.ts";
import { type Fault, FaultyStore } from "./faulty-store.ts";
import { bytesOf, readAll, somePrefix, someTokens } from "./prefixes.ts";

const tokens = someTokens(64);
const before = [somePrefix(tokens.subarray(0, 40)), somePrefix(someTokens(32, 3))];
const BUDGET = 420;

interface Change {
  work: (store: PrefixStore) => Promise<unknown>;
  /** All bytes, prefix by prefix, afterwards. */
  after: Uint8Array[];
}

const replaced = somePrefix(tokens.subarray(0, 40), 16, 9);
const longer = somePrefix(tokens);
const large = somePrefix(someTokens(90, 4));
const CHANGES: Record<string, Change> = {
  "a put that shares chunks": { work: (store) => store.put(longer), after: [...before, longer].map(bytesOf) },
  "a put in the place of another": { work: (store) => store.put(replaced), after: [replaced, before[1]].map(bytesOf) },
  "a put that evicts": { work: (store) => store.put(large), after: [large].map(bytesOf) },
  "a delete": {
    work: async (store) => {
      const [shared] = (await store.list()).filter(({ tokenCount }) => tokenCount === 40);
      await store.delete(shared.id);
    },
    after: [before[1]].map(bytesOf),
  },
};

async function contents(store: PrefixStore): Promise<string[]> {
  const all = await Promise.all((await store.list()).map(({ id }) => readAll(store, id)));
  return all.map((bytes) => bytes!.toString("hex")).sort();
}
const hex = (all: Uint8Array[]) => all.map((bytes) => Buffer.from(bytes).toString("hex")).sort();

describe.each(Object.entries(CHANGES))("%s", (_name, { work, after }) => {
  it.each(["before", "after"] as const)("with the fault %s each call", async (fault) => {
    const seen = { old: 0, new: 0 };
    for (let failing = 1; ; failing++) {
      const clock = { ms: 1e12 };
      const now = () => clock.ms;
      const inner = new MemoryStore();
      const faulty = new FaultyStore(inner);
      const options = { budgetBytes: BUDGET, now };
      const first = new PrefixStore(inner, options);
      for (const prefix of before) await first.put(prefix);
      faulty.faultAt = (call): Fault => (call === failing ? fault : undefined);
      await work(new PrefixStore(faulty, options)).catch(() => undefined);
      // The process is gone; another one looks.
      const later = new PrefixStore(inner, options);
      const found = await contents(later);
      const isNew = JSON.stringify(found) === JSON.stringify(hex(after));
      if (!isNew) expect(found).toEqual(hex(before.map(bytesOf)));
      seen[isNew ? "new" : "old"]++;
      clock.ms += 7200_000;
      await later.sweep();
      const { bytes, garbage } = await later.stats();
      const objects = await inner.list("objects/");
      expect(objects.reduce((sum, one) => sum + one.bytes!, 0)).toBe(bytes);
      expect(bytes).toBeLessThanOrEqual(BUDGET);
      expect(garbage).toBe(0);
      expect(await contents(later)).toEqual(found);
      if (faulty.calls < failing) break;
    }
    expect(seen.old).toBeGreaterThan(0);
    expect(seen.new).toBeGreaterThan(0);
  });

  it("in a process that dies at each call", async () => {
    for (let dying = 1; ; dying++) {
      const inner = new MemoryStore();
      const faulty = new FaultyStore(inner);
      const first = new PrefixStore(inner, { budgetBytes: BUDGET });
      for (const prefix of before) await first.put(prefix);
      faulty.faultAt = (call) => (call >= dying ? "before" : undefined);
      await work(new PrefixStore(faulty, { budgetBytes: BUDGET })).catch(() => undefined);
      const found = await contents(new PrefixStore(inner, { budgetBytes: BUDGET }));
      if (JSON.stringify(found) !== JSON.stringify(hex(after))) expect(found).toEqual(hex(before.map(bytesOf)));
      if (faulty.calls < dying) break;
    }
  });
});
