/** Attention on the codes of a real cache: what naive attention on the restored cache gives, for every grouping and span. */
import { beforeAll, describe, expect, it } from "vitest";
import { KvCache } from "../../src/cache/kv-cache.ts";
import { compress } from "../../src/codec/compress.ts";
import type { Dump } from "../../src/engines/dump.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { attended, differenceOf, naiveAttention, openFixture, queriesAt, restoredRows } from "../support/live-cache.ts";
import { PLATFORMS } from "../support/platforms.ts";

const POSITIONS = [1536, 1663, 1700, 1727];

let runtime: Runtime;
let dump: Dump;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create({ poison: true });
  dump = await openFixture();
});

const SPANS = [1, 4, 32, 256, 1024, null];
const CASES = (["layer", "head"] as const).flatMap((grouping) => SPANS.map((anchorSpan) => ({ grouping, anchorSpan })));

describe.each(CASES)("grouping $grouping, span $anchorSpan", ({ grouping, anchorSpan }) => {
  it("attends as restored rows do; what is left out stays within the tolerance", async () => {
    // Of the metric nothing depends on here; without queries the fit is faster.
    const source = { ...dump, query: async () => undefined };
    const coded = await compress(runtime, source, { grouping, anchorSpan });
    using exact = KvCache.open(runtime, coded, { mixTolerance: 0 });
    using lax = KvCache.open(runtime, coded, { mixTolerance: 0.05 });
    const { geometry } = coded;
    let leftOut = 0;
    for (let layer = 0; layer < geometry.layerCount; layer++) {
      const rows = restoredRows(runtime, coded, layer);
      const greatest = rows.values.reduce((a, x) => Math.max(a, Math.abs(x)), 0);
      for (const position of POSITIONS) {
        const queries = await queriesAt(dump, layer, position);
        const { out } = naiveAttention(rows, geometry, queries);
        expect(differenceOf(attended(exact, layer, queries), out), `layer ${layer}, ${position}`).toBeLessThan(1e-3);

        const got = new Float32Array(queries.length);
        const report = lax.attend(layer, queries, got);
        leftOut = Math.max(leftOut, report.leftOutWeight);
        expect(report.leftOutWeight).toBeLessThanOrEqual(0.05);
        const bound = report.leftOutWeight * greatest * Math.sqrt(2) + 1e-3 * Math.hypot(...out);
        got.forEach((x, i) => {
          expect(Math.abs(x - out[i])).toBeLessThan(bound);
        });
      }
    }
    expect(leftOut).toBeGreaterThan(1e-4);
  });
});
