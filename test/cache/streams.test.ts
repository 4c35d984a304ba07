/** A cache opened from streams: attends on planes of the same codes, grows, and saves as the file was. */
import { beforeAll, expect, it } from "vitest";
import { decodeArchive } from "../../src/archive/reader.ts";
import { encodeArchive } from "../../src/archive/writer.ts";
import { KvCache } from "../../src/cache/kv-cache.ts";
import { joinChunks } from "../../src/codec/chunks.ts";
import { compress } from "../../src/codec/compress.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { appendRows, codeDifference, openFixture, queriesAt, rowsOf } from "../support/live-cache.ts";
import { PLATFORMS } from "../support/platforms.ts";

let runtime: Runtime;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create({});
});

it.each(["layer", "head"] as const)(
  "attends as its codes restored do, and saves to the same bytes: %s",
  async (grouping) => {
    const dump = await openFixture();
    const options = { entropy: true, grouping, anchorSpan: 256, keyBits: 1, valueBits: 1.5 };
    const bytes = joinChunks(encodeArchive(await compress(runtime, dump, options)));
    using cache = KvCache.open(runtime, decodeArchive(bytes), { mixTolerance: 0, monitorEvery: 0 });
    expect(joinChunks(encodeArchive(cache.save()))).toEqual(bytes);
    for (let layer = 0; layer < 2; layer++) {
      const queries = await queriesAt(dump, layer, 1700);
      // Nearly all channels of values have 4 bits, which mixing rounds to 13 (ADR 0031); those of planes stay below 1e-3.
      expect(codeDifference(runtime, cache, layer, queries)).toBeLessThan(3e-3);
    }
    using fork = cache.fork();
    expect(joinChunks(encodeArchive(fork.save()))).toEqual(bytes);
  },
);

it("goes on growing", async () => {
  const dump = await openFixture();
  const whole = await openFixture(1728);
  const coded = await compress(runtime, dump, { entropy: true, anchorSpan: 256 });
  using cache = KvCache.open(runtime, coded, { mixTolerance: 0, monitorEvery: 0, driftLimit: null });
  for (let layer = 0; layer < 2; layer++) {
    appendRows(cache, layer, await rowsOf(whole, layer), dump.tokenCount, whole.tokenCount);
  }
  cache.settle();
  const saved = cache.save();
  expect(saved.tokenCount).toBe(whole.tokenCount);
  expect(saved.layers[0].keys[0].stream).toBeDefined();
  const queries = await queriesAt(whole, 0, 1720);
  expect(codeDifference(runtime, cache, 0, queries)).toBeLessThan(3e-3);
});
