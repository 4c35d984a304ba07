/** Attention on the codes of a real cache: what naive attention on the restored cache gives, for every grouping and span. */
import { beforeAll, describe, expect, it } from "vitest";
import { KvCache } from "../../src/cache/kv-cache.ts";
import { type AnchorSpan, spansByFrequency } from "../../src/codec/anchors.ts";
import { compress } from "../../src/codec/compress.ts";
import { frequenciesOf } from "../../src/codec/rotary.ts";
import type { Dump } from "../../src/engines/dump.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { attended, differenceOf, naiveAttention, openFixture, queriesAt, restoredRows } from "../support/live-cache.ts";
import { PLATFORMS } from "../support/platforms.ts";

const POSITIONS = [1536, 1600, 1663, 1664, 1700, 1727];
/** Of a single call, of the norm of the layer's output. */
const LIMIT = 1e-3;

let runtime: Runtime;
let dump: Dump;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create({ poison: true });
  dump = await openFixture();
});

const SPANS: AnchorSpan[] = [1, 4, 32, 256, 1024, null, spansByFrequency({ frequencies: frequenciesOf(1e5, 32) })];
const CASES = (["layer", "head"] as const).flatMap((grouping) => SPANS.map((anchorSpan) => ({ grouping, anchorSpan })));

describe.each(CASES)("grouping $grouping, span $anchorSpan", ({ grouping, anchorSpan }) => {
  it("attends as restored rows do; what is left out stays within the tolerance", async () => {
    const coded = await compress(runtime, dump, { grouping, anchorSpan });
    using exact = KvCache.open(runtime, coded, { mixTolerance: 0, scoreStep: 0.0005 });
    using lax = KvCache.open(runtime, coded, { mixTolerance: 0.05, scoreStep: 0.0005 });
    const { geometry } = coded;
    let leftOut = 0;
    let notMixed = 0;
    for (let layer = 0; layer < geometry.layerCount; layer++) {
      const rows = restoredRows(runtime, coded, layer);
      const greatest = rows.values.reduce((a, x) => Math.max(a, Math.abs(x)), 0);
      const differences: number[] = [];
      for (const position of POSITIONS) {
        const queries = await queriesAt(dump, layer, position);
        const { out } = naiveAttention(rows, geometry, queries);
        differences.push(differenceOf(attended(exact, layer, queries), out));

        const got = new Float32Array(queries.length);
        const report = lax.attend(layer, queries, got);
        leftOut = Math.max(leftOut, report.leftOutWeight);
        notMixed += report.blocks - report.mixedBlocks;
        const bound = report.leftOutWeight * greatest + LIMIT * Math.hypot(...out);
        got.forEach((x, i) => {
          expect(Math.abs(x - out[i])).toBeLessThan(bound);
        });
      }
      expect(Math.max(...differences), `layer ${layer}`).toBeLessThan(LIMIT);
    }
    expect(notMixed).toBeGreaterThan(0);
    expect(leftOut).toBeGreaterThan(0.001);
    expect(leftOut).toBeLessThanOrEqual(0.05);
  });
});

it("leaves out no weight that it does not report: what is missing is the weight of the blocks left out", async () => {
  const coded = await compress(runtime, dump, { anchorSpan: 256, grouping: "head" });
  using exact = KvCache.open(runtime, coded, { mixTolerance: 0 });
  const ones = { ...coded, layers: coded.layers.map((layer) => ({ ...layer })) };
  // A value of one in dimension 0 of every token would show weights alone; exact tokens of zero leave codes alone.
  for (const layer of ones.layers) layer.exactValues = new Uint8Array(layer.exactValues.length);
  using lax = KvCache.open(runtime, ones, { mixTolerance: 0.2 });
  using full = KvCache.open(runtime, ones, { mixTolerance: 0 });
  const queries = await queriesAt(dump, 0, 1663);
  const [few, all] = [new Float32Array(queries.length), new Float32Array(queries.length)];
  const report = lax.attend(0, queries, few);
  full.attend(0, queries, all);
  const rows = restoredRows(runtime, ones, 0);
  const greatest = rows.values.reduce((a, x) => Math.max(a, Math.abs(x)), 0);
  const missing = Math.max(...few.map((x, i) => Math.abs(x - all[i])));
  expect(missing).toBeGreaterThan(0);
  expect(missing).toBeLessThan(report.leftOutWeight * greatest);
  expect(exact.attend(0, queries, all).leftOutWeight).toBeLessThan(1e-15);
});
