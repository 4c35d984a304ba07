/** The writer refuses what the reader would: RangeErrors that name the field. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { encodeArchive } from "../../src/archive/writer.ts";
import { joinChunks } from "../../src/codec/chunks.ts";
import type { CodedCache, CodedGroup } from "../../src/codec/coded.ts";
import { anyCache } from "../support/any-cache.ts";

/** Two layers, several groups, offsets and columns among them. */
const [sample] = fc.sample(
  anyCache().filter(
    ({ layers, tokens, sinks, geometry }) =>
      layers.length === 2 &&
      tokens !== undefined &&
      sinks > 0 &&
      geometry.kvHeads > 1 &&
      layers[1].keys[0].books.length > 2 &&
      layers[1].keys[0].basis.columnScales !== undefined &&
      layers[1].values[0].books.length > 2,
  ),
  { numRuns: 1, seed: 11 },
);

function refused(change: (cache: CodedCache, key: CodedGroup, value: CodedGroup) => void): string {
  const cache = structuredClone(sample);
  change(cache, cache.layers[1].keys[0], cache.layers[1].values[0]);
  try {
    encodeArchive(cache);
  } catch (error) {
    expect(error).toBeInstanceOf(RangeError);
    return (error as Error).message;
  }
  throw new Error("expected a RangeError, got an archive");
}

const KEYS = "section keys of layer 1: group 0: ";
const VALUES = "section values of layer 1: group 0: ";

describe("writer", () => {
  it("makes chunks that join to the file, sections at multiples of 16", () => {
    const chunks = encodeArchive(sample);
    const bytes = joinChunks(chunks);
    expect(bytes.length).toBe(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
    expect(new DataView(bytes.buffer).getBigUint64(16, true)).toBe(BigInt(bytes.length));
    expect(chunks[0].length % 16).toBe(0);
  });

  it("gives a cache that is the same the same bytes", () => {
    expect(joinChunks(encodeArchive(structuredClone(sample)))).toEqual(joinChunks(encodeArchive(sample)));
  });

  it.each<[string, (cache: CodedCache, key: CodedGroup, value: CodedGroup) => void]>([
    ["geometry.headDim: expected a multiple of 4, got 50", (c) => (c.geometry.headDim = 50)],
    ["layers: expected 2, got 1", (c) => c.layers.pop()],
    ["layerNumbers: expected 2 numbers, got [4]", (c) => (c.layerNumbers = [4])],
    ["layerNumbers: expected numbers that differ, got [4, 4]", (c) => (c.layerNumbers = [4, 4])],
    ["sinks: expected an integer from 0 to ", (c) => (c.sinks = -1)],
    ["recent: expected an integer from 0 to ", (c) => (c.recent = c.tokenCount)],
    ["anchorSpan: expected null or a power of two up to 16777216, got 12", (c) => (c.anchorSpan = 12)],
    [
      'rotary.layout: expected "half-split" or "interleaved", got none',
      (c) => (c.rotary.layout = "none" as "interleaved"),
    ],
    ["rotary.frequencies[0]: expected a number from", (c) => (c.rotary.frequencies = Float64Array.of(Number.NaN))],
    ["section tokens: length: expected ", (c) => (c.tokens = new Int32Array(1))],
    ["section exact-keys of layer 1: length: expected ", (c) => (c.layers[1].exactKeys = new Uint8Array(1))],
    ["section exact-values of layer 0: element 0: expected a finite number", (c) => c.layers[0].exactValues.fill(0xff)],
    [`${KEYS}firstHead: expected 0, got 1`, (_, k) => (k.firstHead = 1)],
    ["section keys of layer 1: groups: expected ", (c) => (c.layers[1].keys = [])],
    [`${KEYS}books[0].width: expected 1, 2, 4 or 8, got 3`, (_, k) => (k.books[0].width = 3 as 4)],
    [`${KEYS}books[0].scale: expected a finite f32, not negative, got 0.1`, (_, k) => (k.books[0].scale = 0.1)],
    [`${KEYS}books[0].offset: expected a finite f32, got Infinity`, (_, k) => (k.books[0].offset = Infinity)],
    [`${KEYS}basis.widths: expected `, (_, k) => (k.basis.widths = new Uint8Array(1))],
    [`${KEYS}basis.scales: expected `, (_, k) => (k.basis.scales = new Float32Array(1))],
    [`${KEYS}basis.codes: expected `, (_, k) => (k.basis.codes = new Int16Array(1))],
    [`${KEYS}basis.codes[0]: expected a signed code of `, (_, k) => (k.basis.codes[0] = 2048)],
    [`${KEYS}basis.columnScales: expected `, (_, k) => (k.basis.columnScales = new Uint16Array(1))],
    [`${KEYS}centre: expected `, (_, k) => delete k.centre],
    [`${KEYS}norms: expected none in a group of keys`, (_, k, v) => (k.norms = v.norms!)],
    [`${VALUES}centre: expected none in a group of values`, (_, k, v) => (v.centre = k.centre!)],
    [`${VALUES}norms.codes: expected `, (_, __, v) => delete v.norms],
    [`${VALUES}planes: expected `, (_, __, v) => (v.planes = new Uint8Array(16))],
  ])("refuses a cache: %s", (message, change) => {
    expect(refused(change)).toContain(message);
  });
});
