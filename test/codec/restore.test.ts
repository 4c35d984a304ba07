/** Codes back to tensors, over geometries, spans, types and rotary layouts; exact tokens bit for bit. */
import { beforeAll, describe, expect, it } from "vitest";
import { compress } from "../../src/codec/compress.ts";
import type { CodecOptions } from "../../src/codec/options.ts";
import { restoreLayer } from "../../src/codec/restore.ts";
import { ELEMENT_BYTES, type ElementType, type TensorData } from "../../src/codec/source.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { pairSpans } from "../support/pair-spans.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { errorsOf } from "../support/restored.ts";
import { elementsOf, TinyCache, type TinyCacheOptions, tensorOf } from "../support/tiny-cache.ts";

let runtime: Runtime;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create({ poison: true });
});

const FINE = { keyBits: 8, valueBits: 8, sinks: 1, recent: 2 };
/** At 8 bits what is left are steps of 1/255 of a channel's range and of the basis: well below a part in 3000. */
const SMALL = 3e-4;

async function expectSmallErrors(shape: TinyCacheOptions, options: Partial<CodecOptions> = {}): Promise<void> {
  const source = new TinyCache({ layers: 1, tokens: 67, ...shape });
  const cache = await compress(runtime, source, { ...FINE, ...options });
  const { key, value } = errorsOf(runtime, cache, source);
  expect(key).toBeLessThan(SMALL);
  expect(value).toBeLessThan(SMALL);
  expect(runtime.heap.bytesInUse).toBe(0);
}

describe("at 8 bits a cache comes back", () => {
  it.each([32, 36, 40, 44, 64, 80, 96, 128, 192, 252, 256])("of head dim %i", async (headDim) => {
    await expectSmallErrors({ headDim, kvHeads: 1 });
    await expectSmallErrors({ headDim, kvHeads: 2, tokens: 40 }, { grouping: "head" });
  });

  it.each([1, 3, 4, 5, 7, 8, 12])("of %i kv heads side by side", (kvHeads) => expectSmallErrors({ kvHeads }));

  it.each([16, 31, 32])("of %i kv heads, each alone", (kvHeads) =>
    expectSmallErrors({ kvHeads, tokens: 20 }, { grouping: "head" }),
  );

  it("of a layer so wide that only its leading channels are looked for", () =>
    expectSmallErrors({ kvHeads: 32, noise: 0, tokens: 80 }, { keyBits: 1, valueBits: 1 }));

  it.each([1, 2, 4, 16, 32, 64, 1024, 1 << 24, null])("with anchor span %s", async (anchorSpan) => {
    await expectSmallErrors({ tokens: 150 }, { anchorSpan });
    await expectSmallErrors({ tokens: 150, layout: "interleaved" }, { anchorSpan, sinks: 5 });
    await expectSmallErrors({ tokens: 150, pairs: 7, queries: 10 }, { anchorSpan, grouping: "head" });
  });

  it("with an anchor span for each rotary pair", async () => {
    await expectSmallErrors({ tokens: 150 }, { anchorSpan: pairSpans(16) });
    await expectSmallErrors({ tokens: 150, layout: "interleaved" }, { anchorSpan: pairSpans(16), sinks: 5 });
    await expectSmallErrors({ tokens: 150, pairs: 7, queries: 10 }, { anchorSpan: pairSpans(7), grouping: "head" });
    await expectSmallErrors({ tokens: 150, pairs: 3 }, { anchorSpan: [1, 4, null] });
  });

  it.each([0, 1, 15, 16])("with %i rotary pairs of 32 dimensions, both layouts", async (pairs) => {
    await expectSmallErrors({ pairs }, { anchorSpan: 8 });
    await expectSmallErrors({ pairs, layout: "interleaved" }, { anchorSpan: 8 });
  });

  it("by the paper's schedule of 8 bits throughout", () =>
    expectSmallErrors({}, { schedule: [8, 8, 8, 8, 8, 8, 8, 8], basisBits: 12 }));
});

describe("anchor spans", () => {
  it("cost where keys turn: before RoPE few bits do what they do not after it", async () => {
    const source = new TinyCache({ layers: 1, tokens: 300, noise: 0.05 });
    const errors = [];
    for (const anchorSpan of [1, 32, null]) {
      const cache = await compress(runtime, source, { keyBits: 0.75, sinks: 1, recent: 2, anchorSpan });
      errors.push(errorsOf(runtime, cache, source).key);
    }
    expect(errors[0]).toBeLessThan(0.5 * errors[1]);
    expect(errors[1]).toBeLessThan(errors[2]);
  });
});

/** Bytes of the first `head` and last `tail` tokens of each head. */
function ends({ type, bytes }: TensorData, source: TinyCache, head: number, tail: number): Uint8Array[] {
  const { kvHeads, headDim } = source.geometry;
  const row = headDim * ELEMENT_BYTES[type];
  return Array.from({ length: kvHeads }, (_, h) => [
    bytes.slice(h * source.tokenCount * row, (h * source.tokenCount + head) * row),
    bytes.slice(((h + 1) * source.tokenCount - tail) * row, (h + 1) * source.tokenCount * row),
  ]).flat();
}

describe("exact tokens", () => {
  it.each<[ElementType, number, number]>([
    ["f32", 1, 2],
    ["f16", 4, 7],
    ["bf16", 3, 0],
    ["f16", 0, 5],
    ["f32", 39, 0],
    ["bf16", 10, 29],
  ])("of %s come back bit for bit: %i sinks, %i recent", async (type, sinks, recent) => {
    const source = new TinyCache({ layers: 2, kvHeads: 3, tokens: 40, type });
    const cache = await compress(runtime, source, { sinks, recent });
    source.layers.forEach((layer, i) => {
      const { key, value } = restoreLayer(runtime, cache, i, type);
      expect(ends({ type, bytes: key }, source, sinks, recent)).toEqual(ends(layer.key, source, sinks, recent));
      expect(ends({ type, bytes: value }, source, sinks, recent)).toEqual(ends(layer.value, source, sinks, recent));
    });
  });

  it("alone, nothing coded, are the cache", async () => {
    const source = new TinyCache({ layers: 1, tokens: 40 });
    const cache = await compress(runtime, source, { sinks: 4, recent: 35 });
    // No codec makes this; a reader may meet it.
    const { layers } = source;
    const group = { ...cache.layers[0].keys[0], books: [], planes: new Uint8Array(0) };
    const basis = { widths: new Uint8Array(0), scales: new Float32Array(0), codes: new Int16Array(0) };
    const all = {
      ...cache,
      recent: 36,
      layers: [
        {
          keys: [{ ...group, basis }],
          values: [
            {
              ...cache.layers[0].values[0],
              books: [],
              basis,
              planes: new Uint8Array(0),
              norms: { codes: new Uint8Array(0), least: 0, step: 1 },
            },
          ],
          exactKeys: layers[0].key.bytes,
          exactValues: layers[0].value.bytes,
        },
      ],
    };
    expect(restoreLayer(runtime, all, 0, "f16")).toEqual({ key: layers[0].key.bytes, value: layers[0].value.bytes });
  });
});

describe("restoring", () => {
  it("to another type rounds what f32 gives", async () => {
    const cache = await compress(runtime, new TinyCache({ layers: 1 }), { sinks: 1, recent: 2 });
    const exact = elementsOf({ type: "f32", bytes: restoreLayer(runtime, cache, 0, "f32").value });
    const halves = restoreLayer(runtime, cache, 0, "f16").value;
    expect(halves).toEqual(tensorOf("f16", exact).bytes);
    const short = elementsOf({ type: "bf16", bytes: restoreLayer(runtime, cache, 0, "bf16").value });
    for (let i = 0; i < exact.length; i++)
      expect(Math.abs(short[i] - exact[i])).toBeLessThanOrEqual(2 ** -8 * Math.abs(exact[i]));
  });

  it("gives the same twice, in any order of layers, and leaves the cache alone", async () => {
    const cache = await compress(runtime, new TinyCache(), { sinks: 1, recent: 2 });
    const before = structuredClone(cache);
    const [second, first] = [1, 0].map((layer) => restoreLayer(runtime, cache, layer, "f16"));
    expect(restoreLayer(runtime, cache, 0, "f16")).toEqual(first);
    expect(restoreLayer(runtime, cache, 1, "f16")).toEqual(second);
    expect(first).not.toEqual(second);
    expect(cache).toStrictEqual(before);
    expect(runtime.heap.bytesInUse).toBe(0);
  });

  it("does the same on every platform", async () => {
    const cache = await compress(runtime, new TinyCache({ queries: 8, noise: 0.2 }), {
      sinks: 1,
      recent: 2,
      anchorSpan: 32,
    });
    const expected = restoreLayer(runtime, cache, 1, "f32");
    for (const { create } of PLATFORMS) {
      const other = await create();
      expect(restoreLayer(other, cache, 1, "f32")).toEqual(expected);
      expect(other.heap.bytesInUse).toBe(0);
    }
  });
});
