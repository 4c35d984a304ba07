/** Sections with contents that no cache has, checksums right: what a writer with a fault, or an attacker, makes. */
import { beforeAll, describe, expect, it } from "vitest";
import { decodeArchive } from "../../src/archive/reader.ts";
import { encodeArchive } from "../../src/archive/writer.ts";
import { joinChunks } from "../../src/codec/chunks.ts";
import type { CodedCache } from "../../src/codec/coded.ts";
import { compress } from "../../src/codec/compress.ts";
import { toHalf } from "../../src/codec/half.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { ArchiveParts, refusalOf } from "../support/archive-parts.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { TinyCache } from "../support/tiny-cache.ts";

/** One layer, 2 kv heads of 32, 40 tokens: 1 sink, 37 coded, 2 recent; one group of 64 dimensions. */
let archive: Uint8Array;
let cache: CodedCache;
/** Channels of the keys' only group. */
let channels: number;
let runtime: Runtime;

beforeAll(async () => {
  runtime = await PLATFORMS[2].create({});
  const source = new TinyCache({ layers: 1, tokens: 40, queries: 8, noise: 0.2 });
  cache = await compress(runtime, source, { sinks: 1, recent: 2, keyBits: 0.7, valueBits: 0.6 });
  archive = joinChunks(encodeArchive(cache));
  channels = cache.layers[0].keys[0].books.length;
});

/** The keys or values of the layer with one change, signed. */
const changed = (role: "keys" | "values", change: (view: DataView) => void): Uint8Array =>
  new ArchiveParts(archive)
    .edit(role, 0, (bytes) => {
      change(new DataView(bytes.buffer));
      return undefined;
    })
    .bytes();

/** Starts of the parts of a group of keys. */
const places = () => {
  const [kinds, scales] = [8 + channels, 8 + 2 * channels];
  const basisWidths = scales + 4 * channels;
  return { widths: 8, kinds, scales, basisWidths, basisScales: basisWidths + channels };
};
/** The same from the end of the section on: what stands before the planes. */
const centreAt = (view: DataView): number => view.byteLength - cache.layers[0].keys[0].planes.length - 128;
const normsAt = (view: DataView): number => view.byteLength - cache.layers[0].values[0].planes.length - 37 - 8;

const KEYS: [string, (view: DataView) => void, RegExp][] = [
  ["heads from 1", (v) => v.setUint16(0, 1, true), /group 0: firstHead: expected 0, got 1/],
  ["no heads", (v) => v.setUint16(2, 0, true), /group 0: headCount: expected an integer from 1 to 2, got 0/],
  ["3 heads of 2", (v) => v.setUint16(2, 3, true), /group 0: headCount: expected an integer from 1 to 2, got 3/],
  ["an unknown flag", (v) => v.setUint16(6, 4, true), /group 0: flags: expected 0 to 3, got 4/],
  ["65535 channels", (v) => v.setUint16(4, 65535, true), /group 0: books: expected 65535 bytes, got \d+/],
  ["65 channels of 64", (v) => v.setUint16(4, 65, true), /group 0: books: expected at most 64 channels, got 65/],
  ["a width of 3", (v) => v.setUint8(8, 3), /group 0: books\[0\].width: expected 1, 2, 4 or 8, got 3/],
  ["a width of 0", (v) => v.setUint8(8, 0), /group 0: books\[0\].width: expected 1, 2, 4 or 8, got 0/],
  [
    "rising widths",
    (v) => v.setUint8(7 + channels, 8),
    /books\[\d+\].width: expected falling widths, at most [124], got 8/,
  ],
  ["a book that stays open", (v) => v.setUint8(places().kinds, 2), /books\[0\].kind: expected 0 or 1, got 2/],
  [
    "a scale below 0",
    (v) => v.setFloat32(places().scales, -1, true),
    /scale: expected a finite f32, not negative, got -1/,
  ],
  [
    "a scale of NaN",
    (v) => v.setFloat32(places().scales, Number.NaN, true),
    /scale: expected a finite f32, not negative/,
  ],
  [
    "basis codes of 1 bit",
    (v) => v.setUint8(places().basisWidths, 1),
    /basis.widths\[0\]: expected an integer from 2 to 12/,
  ],
  [
    "basis codes of 13 bits",
    (v) => v.setUint8(places().basisWidths, 13),
    /basis.widths\[0\]: expected an integer from 2 to 12/,
  ],
  [
    "an infinite basis",
    (v) => v.setFloat32(places().basisScales, Infinity, true),
    /basis.scales\[0\]: expected a finite number/,
  ],
  [
    "a column of 0",
    (v) => v.setUint16(centreAt(v) - 128, 0, true),
    /columnScales\[0\]: expected a positive finite f16, got 0/,
  ],
  [
    "a column below 0",
    (v) => v.setUint16(centreAt(v) - 2, toHalf(-1), true),
    /columnScales\[63\]: expected a positive finite f16, got -1/,
  ],
  [
    "a column of infinity",
    (v) => v.setUint16(centreAt(v) - 2, 0x7c00, true),
    /columnScales\[63\]: expected a positive finite f16/,
  ],
  ["a centre of NaN", (v) => v.setUint16(centreAt(v) + 4, 0x7e00, true), /centre\[2\]: expected a finite f16, got NaN/],
  [
    "a centre of -infinity",
    (v) => v.setUint16(centreAt(v), 0xfc00, true),
    /centre\[0\]: expected a finite f16, got -Infinity/,
  ],
  ["offsets that are not there", (v) => v.setUint16(6, 3, true), /x\.svdq: section keys of layer 0: group 0: /],
  ["columns that nothing flags", (v) => v.setUint16(6, 0, true), /x\.svdq: section keys of layer 0: group 0: /],
];

const VALUES: [string, (view: DataView) => void, RegExp][] = [
  [
    "norms below 0",
    (v) => v.setFloat32(normsAt(v), -1, true),
    /norms.least: expected a finite f32, not negative, got -1/,
  ],
  [
    "falling norms",
    (v) => v.setFloat32(normsAt(v) + 4, 0.5, true),
    /norms.step: expected a finite f32 of at least 1, got 0.5/,
  ],
  [
    "norms of NaN",
    (v) => v.setFloat32(normsAt(v) + 4, Number.NaN, true),
    /norms.step: expected a finite f32 of at least 1/,
  ],
  ["norms past f32", (v) => v.setFloat32(normsAt(v) + 4, 2, true), /norms: expected a greatest level in f32, got/],
];

describe("group", () => {
  it.each(KEYS)("of keys with %s is refused", (_, change, message) => {
    const error = refusalOf(changed("keys", change));
    expect(error.message).toMatch(/^x\.svdq: section keys of layer 0: group 0: /);
    expect(error.message).toMatch(message);
  });

  it.each(VALUES)("of values with %s is refused", (_, change, message) => {
    const error = refusalOf(changed("values", change));
    expect(error.message).toMatch(/^x\.svdq: section values of layer 0: group 0: /);
    expect(error.message).toMatch(message);
  });

  it("with a normal book of 8 bits is refused: no such levels are known", async () => {
    const wide = await compress(runtime, new TinyCache({ layers: 1, tokens: 40 }), { sinks: 1, recent: 2, keyBits: 8 });
    const { books } = wide.layers[0].keys[0];
    expect(books[0]).toMatchObject({ width: 8, kind: "uniform" });
    const parts = new ArchiveParts(joinChunks(encodeArchive(wide)));
    parts.edit("keys", 0, (bytes) => bytes.fill(0, 8 + books.length, 9 + books.length));
    expect(refusalOf(parts.bytes()).message).toMatch(/books\[0\].kind: expected "uniform" at width 8, got "normal"/);
  });

  it("with a bit after the last code of a basis row is refused", async () => {
    const source = new TinyCache({ layers: 1, kvHeads: 1, headDim: 36, tokens: 40 });
    const odd = await compress(runtime, source, { sinks: 1, recent: 2, basisBits: 3 });
    const n = odd.layers[0].keys[0].books.length;
    const parts = new ArchiveParts(joinChunks(encodeArchive(odd)));
    // Rows of 36 codes of 3 bits: 13 bytes and a half.
    parts.edit("keys", 0, (bytes) => {
      bytes[8 + 11 * n + 13] |= 0x10;
      return undefined;
    });
    expect(refusalOf(parts.bytes()).message).toMatch(
      /group 0: basis row 0: expected zero bits after the last code, got 1/,
    );
  });

  it("that ends before its section does is refused, and one that its section cuts", () => {
    const parts = () => new ArchiveParts(archive);
    const longer = parts().edit("values", 0, (bytes) => Uint8Array.from([...bytes, 0]));
    expect(refusalOf(longer.bytes()).message).toMatch(
      /section values of layer 0: expected its end here, got 1 more bytes/,
    );
    for (let cut = 1; ; cut += 7) {
      const index = parts().indexOf("keys", 0);
      const { length } = parts().sections[index];
      if (cut > length) break;
      const shorter = parts().edit("keys", 0, (bytes) => bytes.slice(0, length - cut));
      expect(refusalOf(shorter.bytes()).message).toMatch(
        /section keys of layer 0: group 0: [a-z]+: expected \d+ bytes, got/,
      );
    }
  });

  it("that leaves a kv head out is refused", () => {
    const parts = new ArchiveParts(archive).edit("keys", 0, () => new Uint8Array(0));
    expect(refusalOf(parts.bytes()).message).toMatch(/section keys of layer 0: group 0: head: expected 8 bytes, got 0/);
  });
});

describe("free places of planes", () => {
  it("must be zero, each of them; all others may be anything", async () => {
    // 5 channels of each width: one alone in a plane of pairs, one alone in a plane of fours.
    const source = new TinyCache({ layers: 1, kvHeads: 1, headDim: 40, tokens: 40 });
    const odd = await compress(runtime, source, { sinks: 1, recent: 2, schedule: [8, 4, 2, 1, 0, 0, 0, 0] });
    const planesBytes = odd.layers[0].keys[0].planes.length;
    expect(planesBytes).toBe(2 * (10 + 5 + 3 + 2) * 16);
    const parts = new ArchiveParts(joinChunks(encodeArchive(odd)));
    const section = parts.sections[parts.indexOf("keys", 0)];
    for (let i = 0; i < 8 * planesBytes; i++) {
      const [byte, bit] = [Math.floor(i / 8), i % 8];
      const [block, plane] = [Math.floor(byte / 320), Math.floor(byte / 16) % 20];
      const token = 32 * block + (byte % 16) + (bit < 4 ? 0 : 16);
      const isFree = token >= 37 || (plane === 17 && bit % 4 > 1) || (plane === 19 && bit % 4 > 0);
      const at = section.length - planesBytes + byte;
      section[at] ^= 1 << bit;
      const bytes = parts.bytes();
      section[at] ^= 1 << bit;
      if (!isFree) decodeArchive(bytes);
      else expect(refusalOf(bytes).message).toContain(`planes, byte ${byte}: expected zero codes in free places, got`);
    }
  });
});

describe("exact tokens", () => {
  it.each([
    ["exact-keys", 0, 0x7c00],
    ["exact-values", 191, 0xfe01],
  ] as const)("in %s with NaN or infinity are refused", (kind, element, bits) => {
    const parts = new ArchiveParts(archive).edit(kind, 0, (bytes) => {
      new DataView(bytes.buffer).setUint16(2 * element, bits, true);
      return undefined;
    });
    expect(refusalOf(parts.bytes()).message).toMatch(
      `section ${kind} of layer 0: element ${element}: expected a finite number, got "NaN or infinity"`,
    );
  });
});

describe("frequencies", () => {
  it.each([Number.NaN, Infinity, 4])("of %d are refused", (frequency) => {
    const parts = new ArchiveParts(archive).edit("frequencies", undefined, (bytes) => {
      new DataView(bytes.buffer).setFloat64(8, frequency, true);
      return undefined;
    });
    expect(refusalOf(parts.bytes()).message).toMatch(
      /section frequencies: rotary.frequencies\[1\]: expected a number from -3.14\d+ to 3.14\d+, got/,
    );
  });
});
