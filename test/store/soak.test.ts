/** A short run of `npm run soak`, and proof that it sees what it looks for. */
import { expect, it } from "vitest";
import { MemoryStore } from "../../src/store/memory.ts";
import { failureOf } from "../support/failure.ts";
import { Soak } from "./soak.ts";

it("loses nothing, leaks nothing and keeps the budget in 1,000 rounds with faults", async () => {
  const report = await new Soak(Number(process.env.SVDQ_SEED)).run(1000);
  expect(report.faults).toBeGreaterThan(50);
  expect(report.crashes).toBeGreaterThan(5);
  for (const count of [report.hits, report.reads, report.evicted, report.expired, report.swept]) {
    expect(count).toBeGreaterThan(0);
  }
});

it("notices writers that overwrite each other, and a store that does not delete", async () => {
  const { put, delete: remove } = MemoryStore.prototype;
  try {
    MemoryStore.prototype.put = function (key, bytes) {
      return put.call(this, key, bytes);
    };
    expect(String(await failureOf(() => new Soak(1).run(3000)))).toMatch(/lost|leaked|names/);
    MemoryStore.prototype.put = put;
    MemoryStore.prototype.delete = async () => undefined;
    expect(String(await failureOf(() => new Soak(1).run(300)))).toMatch(/leaked/);
  } finally {
    Object.assign(MemoryStore.prototype, { put, delete: remove });
  }
});
