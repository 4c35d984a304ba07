/** Forks: full blocks shared, everything else apart, and nothing left behind whatever the order. */
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { KvCache } from "../../src/cache/kv-cache.ts";
import type { CodedCache } from "../../src/codec/coded.ts";
import { compress } from "../../src/codec/compress.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import {
  appendRows,
  attended,
  differenceOf,
  grown,
  type LayerRows,
  naiveAttention,
  rowsOf,
  someQueries,
} from "../support/live-cache.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { TinyCache } from "../support/tiny-cache.ts";

const OPTIONS = { mixTolerance: 0, scoreStep: 1e-4, driftLimit: null };
/** After RoPE, 8 bits: any token may come at any position, and its codes are all but exact. */
const CODEC = { sinks: 2, recent: 5, anchorSpan: null, keyBits: 8, valueBits: 8 };
const CODED = 300;

let runtime: Runtime;
let source: TinyCache;
let rows: LayerRows;
let coded: CodedCache;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create({ poison: true });
  source = new TinyCache({ layers: 1, tokens: CODED, noise: 0.3 });
  rows = await rowsOf(source);
  coded = await compress(runtime, source, CODEC);
});

/** Rows of the given tokens of the pool, one after the other. */
function picked(tokens: number[]): LayerRows {
  const out = { keys: new Float32Array(64 * tokens.length), values: new Float32Array(64 * tokens.length) };
  for (const name of ["keys", "values"] as const) {
    for (let h = 0; h < 2; h++) {
      tokens.forEach((token, t) => {
        const from = (h * CODED + token) * 32;
        out[name].set(rows[name].subarray(from, from + 32), (h * tokens.length + t) * 32);
      });
    }
  }
  return { ...out, tokens: tokens.length };
}

/** A cache and the tokens of the pool that it should hold. */
interface Modelled {
  cache: KvCache;
  tokens: number[];
}

const expectHolds = ({ cache, tokens }: Modelled): void => {
  expect(cache.length).toBe(tokens.length);
  if (tokens.length === 0) return;
  const queries = someQueries(source.geometry, 1, 1, 1);
  const { out } = naiveAttention(picked(tokens), source.geometry, queries);
  expect(differenceOf(attended(cache, 0, queries), out)).toBeLessThan(0.02);
};

type Step = { kind: "append" | "truncate" | "fork" | "dispose"; which: number; size: number };

const anyStep = fc.record<Step>({
  kind: fc.constantFrom("append", "append", "truncate", "fork", "dispose"),
  which: fc.nat(9),
  size: fc.nat(90),
});

function run(on: Runtime, steps: Step[]): void {
  const live: Modelled[] = [{ cache: KvCache.open(on, coded, OPTIONS), tokens: Array.from(Array(CODED).keys()) }];
  try {
    steps.forEach(({ kind, which, size }, number) => {
      const one = live[which % live.length];
      if (!one) return;
      if (kind === "append") {
        const tokens = Array.from({ length: size }, (_, i) => (which * 31 + number * 17 + i) % CODED);
        appendRows(one.cache, 0, picked(tokens), 0, size);
        one.tokens.push(...tokens);
      } else if (kind === "truncate") {
        one.tokens.length = Math.max(0, one.tokens.length - 2 * size);
        one.cache.truncate(one.tokens.length);
      } else if (kind === "fork") {
        live.push({ cache: one.cache.fork(), tokens: one.tokens.slice() });
      } else if (live.length > 1) {
        one.cache.dispose();
        live.splice(which % live.length, 1);
      }
      expectHolds(live[which % live.length]);
    });
    for (const one of live) expectHolds(one);
  } finally {
    for (const { cache } of live) cache.dispose();
  }
  expect(on.heap.bytesInUse).toBe(0);
}

describe("forks, growth and truncation in any order leave every cache with its own tokens", () => {
  it("on memory as it is", () => {
    fc.assert(
      fc.property(fc.array(anyStep, { maxLength: 14 }), (steps) => run(runtime, steps)),
      { numRuns: 60 },
    );
  });

  it("on memory that grows at every turn", async () => {
    const moving = await PLATFORMS[2].create();
    fc.assert(
      fc.property(fc.array(anyStep, { maxLength: 8 }), (steps) => run(moving, steps)),
      { numRuns: 8 },
    );
  });
});

describe("a fork", () => {
  it("holds no codes of its own until it grows, and then a slab a group at most", () => {
    using cache = KvCache.open(runtime, coded, OPTIONS);
    const before = runtime.heap.bytesInUse;
    const exact = cache.stats().bytes.exact;
    using copy = cache.fork();
    expect(runtime.heap.bytesInUse - before).toBeLessThanOrEqual(exact);
    expect(copy.stats()).toEqual({ ...cache.stats(), attended: { ...copy.stats().attended } });
    const shared = runtime.heap.bytesInUse;
    appendRows(copy, 0, rows, 0, 40);
    // Two blocks a group: one copied or begun, one filled.
    expect(runtime.heap.bytesInUse - shared).toBeLessThan(2 * 40000 + 4 * 2 * 64 * 64);
  });

  it("attends, saves and counts for itself", () => {
    using cache = KvCache.open(runtime, coded, OPTIONS);
    const queries = someQueries(source.geometry);
    const out = attended(cache, 0, queries);
    using copy = cache.fork();
    expect(copy.stats().attended.calls).toBe(0);
    expect(attended(copy, 0, queries)).toEqual(out);
    expect(cache.stats().attended.calls).toBe(1);
  });

  it("of a fork outlives both", () => {
    const cache = KvCache.open(runtime, coded, OPTIONS);
    const queries = someQueries(source.geometry);
    const out = attended(cache, 0, queries);
    const child = cache.fork();
    const grandchild = child.fork();
    cache.dispose();
    child.dispose();
    expect(attended(grandchild, 0, queries)).toEqual(out);
    grandchild.dispose();
    expect(runtime.heap.bytesInUse).toBe(0);
  });

  it("of a cache that has no basis yet, or is fitting, goes its own way", async () => {
    const options = { sinks: 2, recent: 6, fitTokens: 64, anchorSpan: 32, driftLimit: null };
    using cache = KvCache.create(runtime, source.geometry, source.rotary, options);
    appendRows(cache, 0, rows, 0, 71);
    using early = cache.fork();
    appendRows(cache, 0, rows, 71, 72);
    using fitting = cache.fork();
    for (const one of [cache, early, fitting]) {
      appendRows(one, 0, rows, one.length, 199);
      one.settle();
      appendRows(one, 0, rows, 199, 200);
      expect(one.stats().codedTokens).toBeGreaterThan(150);
      one.truncate(100);
    }
  });
});

describe("dispose", () => {
  it("gives everything back, twice is once, and `using` does it", async () => {
    {
      using cache = await grown(runtime, source, { fitTokens: 64, recent: 8 });
      expect(cache.stats().codedTokens).toBeGreaterThan(200);
      expect(runtime.heap.bytesInUse).toBeGreaterThan(0);
    }
    expect(runtime.heap.bytesInUse).toBe(0);
    const cache = KvCache.open(runtime, coded);
    cache.dispose();
    cache.dispose();
    expect(runtime.heap.bytesInUse).toBe(0);
  });

  it("in the middle of a fit, at any of its steps", async () => {
    for (let more = 0; more < 6; more++) {
      const cache = KvCache.create(runtime, source.geometry, source.rotary, { fitTokens: 64, sinks: 2, recent: 6 });
      appendRows(cache, 0, rows, 0, 71);
      for (let t = 71; t < 72 + more; t++) appendRows(cache, 0, rows, t, t + 1);
      cache.dispose();
      expect(runtime.heap.bytesInUse).toBe(0);
    }
  });
});
