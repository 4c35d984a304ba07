/** Every byte is counted: kinds sum to what an archive stores. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { encodeArchive } from "../../src/archive/writer.ts";
import { bitsOf, bytesOf, type KindBytes, totalBytes } from "../../src/codec/bytes.ts";
import { joinChunks } from "../../src/codec/chunks.ts";
import type { CodedCache } from "../../src/codec/coded.ts";
import { anyCache } from "../support/any-cache.ts";
import { ArchiveParts } from "../support/archive-parts.ts";

/** Bytes of the sections of keys, or values, of all layers; each group begins with 8 that no kind has. */
function sectionBytes(cache: CodedCache, role: "keys" | "values"): number {
  const { header, sections } = new ArchiveParts(joinChunks(encodeArchive(cache)));
  const groups = cache.layers.reduce((sum, layer) => sum + layer[role].length, 0);
  return header.sections.reduce(
    (sum, { kind }, i) => (kind === role || kind === `exact-${role}` ? sum + sections[i].length : sum),
    -8 * groups,
  );
}

describe("bytes", () => {
  it("of all kinds sum to those of the archive's sections", () => {
    fc.assert(
      fc.property(anyCache(), (cache) => {
        const bytes = bytesOf(cache);
        expect(totalBytes(bytes.keys)).toBe(sectionBytes(cache, "keys"));
        expect(totalBytes(bytes.values)).toBe(sectionBytes(cache, "values"));
      }),
      { numRuns: 60 },
    );
  });

  it("of offsets count for every channel of a group where one has an offset, as they are stored", () => {
    const [cache] = fc.sample(
      anyCache().filter(({ layers }) => layers[0].keys[0].books.length > 2),
      { numRuns: 1, seed: 3 },
    );
    const scalesWith = (offset: number): number => {
      for (const group of cache.layers.flatMap(({ keys }) => keys)) for (const book of group.books) book.offset = 0;
      cache.layers[0].keys[0].books[1].offset = offset;
      expect(totalBytes(bytesOf(cache).keys)).toBe(sectionBytes(cache, "keys"));
      return bytesOf(cache).keys.scales;
    };
    const channels = cache.layers[0].keys[0].books.length;
    expect(scalesWith(1) - scalesWith(0)).toBe(4 * channels);
    expect(scalesWith(-0) - scalesWith(0)).toBe(4 * channels);
  });

  it("are those of a cache counted by hand", () => {
    // One head of 32, 33 coded tokens: 2 blocks. 3 channels of 8, 2 and 2 bits: 3 planes; basis rows of 3, 5 and 12 bits.
    const [template] = fc.sample(anyCache(), { numRuns: 1, seed: 4 });
    const books = ([8, 2, 2] as const).map((width) => ({ width, kind: "uniform" as const, scale: 1, offset: 0 }));
    const basis = { widths: Uint8Array.of(3, 5, 12), scales: new Float32Array(3), codes: new Int16Array(96) };
    const group = { firstHead: 0, headCount: 1, books, basis, planes: new Uint8Array(2 * 3 * 16) };
    const cache: CodedCache = {
      ...template,
      geometry: { layerCount: 1, kvHeads: 1, headDim: 32 },
      tokenCount: 35,
      sinks: 1,
      recent: 1,
      layers: [
        {
          keys: [{ ...group, centre: new Uint16Array(32), basis: { ...basis, columnScales: new Uint16Array(32) } }],
          values: [{ ...group, norms: { codes: new Uint8Array(33), least: 1, step: 1.01 } }],
          exactKeys: new Uint8Array(128),
          exactValues: new Uint8Array(128),
        },
      ],
    };
    const { keys, values } = bytesOf(cache);
    const rows = 4 * (3 + 5 + 12) + 3 * 5;
    expect(keys).toEqual({ codes: 96, scales: 18, norms: 0, basis: rows + 64, means: 64, exact: 128 });
    expect(values).toEqual({ codes: 96, scales: 18, norms: 33 + 8, basis: rows, means: 0, exact: 128 });
    expect(bitsOf(keys, cache)).toEqual({
      bits: (8 * (96 + 18)) / (33 * 32),
      bitsWithBasis: (8 * (96 + 18 + rows + 64 + 64)) / (33 * 32),
    });
  });

  it("a token are none where nothing is coded", () => {
    const [cache] = fc.sample(anyCache(), { numRuns: 1, seed: 5 });
    const bytes: KindBytes = { codes: 1, scales: 1, norms: 1, basis: 1, means: 1, exact: 1 };
    expect(bitsOf(bytes, { ...cache, tokenCount: 5, sinks: 2, recent: 3 })).toEqual({ bits: 0, bitsWithBasis: 0 });
  });
});
