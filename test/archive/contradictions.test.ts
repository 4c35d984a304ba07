/** Files whose checksums are right and whose contents are not: what a writer with a fault, or an attacker, makes. */
import { beforeAll, describe, expect, it } from "vitest";
import { crc32c } from "../../src/archive/checksum.ts";
import { decodeArchive } from "../../src/archive/reader.ts";
import { encodeArchive, joinChunks } from "../../src/archive/writer.ts";
import type { CodedCache } from "../../src/codec/coded.ts";
import { compress } from "../../src/codec/compress.ts";
import { toHalf } from "../../src/codec/half.ts";
import { FormatError } from "../../src/errors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { ArchiveParts, resignPreamble } from "../support/archive-parts.ts";
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

function refusal(bytes: Uint8Array): FormatError {
  try {
    decodeArchive(bytes);
  } catch (error) {
    expect(error).toBeInstanceOf(FormatError);
    return error as FormatError;
  }
  throw new Error("expected a FormatError, got an archive that reads");
}

// biome-ignore lint/suspicious/noExplicitAny: headers here are wrong on purpose
type Any = any;

/** What one change of the header makes the reader say. */
const HEADERS: [string, (header: Any) => void, RegExp][] = [
  ["no geometry", (h) => delete h.geometry, /geometry: expected an object, got nothing/],
  ["geometry as an array", (h) => (h.geometry = [1, 2, 32]), /geometry: expected an object, got \[1, 2, 32\]/],
  ["no kv heads", (h) => (h.geometry.kvHeads = 0), /geometry.kvHeads: expected an integer from 1 to 32, got 0/],
  ["33 kv heads", (h) => (h.geometry.kvHeads = 33), /geometry.kvHeads: expected an integer from 1 to 32, got 33/],
  ["kv heads as text", (h) => (h.geometry.kvHeads = "2"), /geometry.kvHeads: expected an integer, got "2"/],
  ["an odd head dim", (h) => (h.geometry.headDim = 33), /geometry.headDim: expected a multiple of 4, got 33/],
  ["a large head dim", (h) => (h.geometry.headDim = 260), /geometry.headDim: expected an integer from 32 to 256/],
  ["too many layers", (h) => (h.geometry.layerCount = 1025), /geometry.layerCount: expected an integer from 1 to 1024/],
  ["another number of layers", (h) => (h.geometry.layerCount = 2), /layerNumbers: expected 2 numbers, got \[1\]/],
  ["a half layer number", (h) => (h.layerNumbers = [0.5]), /layerNumbers\[0\]: expected an integer from 0 to 65535/],
  ["layer numbers as text", (h) => (h.layerNumbers = "1"), /layerNumbers: expected 1 numbers, got "1"/],
  ["a model that is no text", (h) => (h.model = { toString: 1 }), /model: expected a string, got an object/],
  ["no tokens", (h) => (h.tokenCount = 0), /tokenCount: expected an integer from 1 to 2147483647, got 0/],
  ["tokens past 32 bits", (h) => (h.tokenCount = 2 ** 31), /tokenCount: expected an integer from 1 to 2147483647/],
  ["more sinks than tokens", (h) => (h.sinks = 41), /sinks: expected an integer from 0 to 40, got 41/],
  ["more exact tokens than tokens", (h) => (h.recent = 40), /recent: expected an integer from 0 to 39, got 40/],
  ["a type that no tensor has", (h) => (h.exactType = "toString"), /exactType: expected "f32", "f16" or "bf16"/],
  ["a span of 3", (h) => (h.anchorSpan = 3), /anchorSpan: expected null or a power of two up to 16777216, got 3/],
  ["a span of 0", (h) => (h.anchorSpan = 0), /anchorSpan: expected null or a power of two up to 16777216, got 0/],
  ["no span", (h) => delete h.anchorSpan, /anchorSpan: expected null or a power of two up to 16777216, got nothing/],
  ["another block", (h) => (h.layout.blockTokens = 64), /layout.blockTokens: expected 32, got 64/],
  ["another plane", (h) => (h.layout.planeBytes = 32), /layout.planeBytes: expected 16, got 32/],
  ["no layout", (h) => (h.layout = null), /layout: expected an object, got null/],
  ["an unknown rotary", (h) => (h.rotary.layout = "alibi"), /rotary.layout: expected "half-split" or "interleaved"/],
  ["too many pairs", (h) => (h.rotary.pairs = 17), /rotary.pairs: expected an integer from 0 to 16, got 17/],
  [
    "fewer pairs than frequencies",
    (h) => (h.rotary.pairs = 15),
    /section frequencies: expected its end here, got 8 more/,
  ],
  ["no fingerprint", (h) => delete h.fingerprint, /fingerprint: expected a string, got nothing/],
  ["another fingerprint", (h) => (h.fingerprint = "0".repeat(16)), /fingerprint: expected "[0-9a-f]{16}", got "0{16}"/],
  [
    "a long fingerprint",
    (h) => (h.fingerprint = "f".repeat(1e6)),
    /fingerprint: expected "[0-9a-f]{16}", got "f{60}…"/,
  ],
  ["another model", (h) => (h.model = "other"), /fingerprint: expected "[0-9a-f]{16}", got "[0-9a-f]{16}"/],
  ["another layer number", (h) => (h.layerNumbers = [7]), /fingerprint: expected "[0-9a-f]{16}", got/],
  ["another pairing", (h) => (h.rotary.layout = "interleaved"), /fingerprint: expected "[0-9a-f]{16}", got/],
  ["one token less", (h) => (h.tokenCount = 39), /section tokens: expected its end here, got 4 more bytes/],
  ["one token more", (h) => (h.tokenCount = 41), /section tokens: tokens: expected 164 bytes, got 160/],
  ["tokens that nothing holds", (h) => (h.tokenCount = 2147483647), /tokens: expected 8589934588 bytes, got 160/],
  ["a sink less", (h) => (h.sinks = 0), /section values of layer 0: group 0: planes: expected \d+ bytes, got \d+/],
  ["f32 for f16", (h) => (h.exactType = "f32"), /section exact-keys of layer 0: elements: expected 768 bytes, got 384/],
];

/** What one change of the table makes the reader say. */
const TABLES: [string, (rows: Any[], header: Any) => void, RegExp][] = [
  ["no table", (_, h) => delete h.sections, /sections: expected an array, got nothing/],
  ["a section missing", (rows) => rows.pop(), /sections: expected 6 sections, got 5/],
  ["a section twice", (rows) => rows.push(rows[5]), /sections: expected 6 sections, got 7/],
  ["a row that is null", (rows) => (rows[1] = null), /sections: expected 5 sections, got 6/],
  ["a row that is none", (rows) => (rows[0] = 7), /sections\[0\]: expected an object, got 7/],
  [
    "rows in another order",
    (rows) => rows.splice(2, 2, rows[3], rows[2]),
    /sections\[2\]: expected section keys of layer 0, got "values"/,
  ],
  [
    "an unknown section",
    (rows) => (rows[5].kind = "extra"),
    /sections\[5\]: expected section exact-values of layer 0, got "extra"/,
  ],
  ["another layer", (rows) => (rows[2].layer = 1), /sections\[2\]: expected section keys of layer 0, got 1/],
  ["a layer for frequencies", (rows) => (rows[0].layer = 0), /sections\[0\]: expected section frequencies, got 0/],
  [
    "sections that overlap",
    (rows) => (rows[3].offset -= 16),
    /section values of layer 0: offset: expected \d+, got \d+/,
  ],
  ["a gap", (rows) => (rows[5].offset += 16), /section exact-values of layer 0: offset: expected \d+, got \d+/],
  ["an offset before the file", (rows) => (rows[0].offset = -16), /section frequencies: offset: expected 0, got -16/],
  [
    "a section past the end",
    (rows) => (rows[5].bytes += 1),
    /section exact-values of layer 0: bytes: expected an integer from 0 to 384, got 385/,
  ],
  [
    "a section of 2^60 bytes",
    (rows) => (rows[2].bytes = 2 ** 60),
    /section keys of layer 0: bytes: expected an integer from 0 to/,
  ],
  ["bytes below 0", (rows) => (rows[2].bytes = -1), /section keys of layer 0: bytes: expected an integer from 0/],
  ["half a byte", (rows) => (rows[2].bytes = 0.5), /section keys of layer 0: bytes: expected an integer from 0/],
  ["a last section that ends early", (rows) => (rows[5].bytes -= 16), /length: expected \d+ bytes, got \d+/],
  [
    "no checksum",
    (rows) => delete rows[0].crc32c,
    /section frequencies: crc32c: expected a 32-bit integer, got nothing/,
  ],
  [
    "a checksum past 32 bits",
    (rows) => (rows[0].crc32c = 2 ** 32),
    /section frequencies: crc32c: expected a 32-bit integer/,
  ],
  ["another checksum", (rows) => (rows[0].crc32c ^= 1), /section frequencies: checksum: expected [0-9a-f]{8}, got/],
];

describe("header", () => {
  it.each(HEADERS)("with %s is refused", (_, change, message) => {
    const parts = new ArchiveParts(archive);
    change(parts.header);
    expect(refusal(parts.bytes()).message).toMatch(message);
  });

  it.each(TABLES)("with %s is refused", (_, change, message) => {
    const parts = new ArchiveParts(archive);
    change(parts.header.sections, parts.header);
    expect(refusal(parts.withHeader(parts.header)).message).toMatch(message);
  });

  it.each<[string, string, RegExp]>([
    ["nothing", "", /header: expected JSON in UTF-8, got/],
    ["half an object", '{"model": "m"', /header: expected JSON in UTF-8, got/],
    ["an array", "[]", /header: expected an object, got \[\]/],
    ["null", "null", /header: expected an object, got null/],
    ["a million brackets", "[".repeat(1e6), /header: expected JSON in UTF-8, got/],
    ["a byte-order mark", "\ufeff{}", /header: expected JSON in UTF-8, got/],
  ])("of %s is refused", (_, text, message) => {
    expect(refusal(new ArchiveParts(archive).withHeader(text)).message).toMatch(message);
  });

  it("that is not UTF-8 is refused", () => {
    const parts = new ArchiveParts(archive);
    // Latin-1 in place of the model's last letter: signed again, so that only the decoder can object.
    parts.header.model = "tin@";
    const bytes = parts.bytes();
    const at = Buffer.from(bytes).indexOf("tin@") + 3;
    bytes[at] = 0xff;
    expect(refusal(resignHeader(bytes)).message).toMatch(/header: expected JSON in UTF-8, got/);
  });

  it("may hold fields that this version does not know, and spaces", () => {
    const parts = new ArchiveParts(archive);
    const text = JSON.stringify({ ...JSON.parse(headerText(archive)), made: "by hand" }, null, 1);
    expect(decodeArchive(parts.withHeader(text))).toStrictEqual(decodeArchive(archive));
  });
});

const headerText = (bytes: Uint8Array): string => {
  const length = new DataView(bytes.buffer).getUint32(12, true);
  return new TextDecoder().decode(bytes.subarray(32, 32 + length));
};

function resignHeader(bytes: Uint8Array): Uint8Array {
  const view = new DataView(bytes.buffer);
  view.setUint32(24, crc32c(bytes.subarray(32, 32 + view.getUint32(12, true))), true);
  return resignPreamble(bytes);
}

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
  ["offsets that are not there", (v) => v.setUint16(6, 3, true), /archive: section keys of layer 0: group 0: /],
  ["columns that nothing flags", (v) => v.setUint16(6, 0, true), /archive: section keys of layer 0: group 0: /],
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
    const error = refusal(changed("keys", change));
    expect(error.message).toMatch(/^archive: section keys of layer 0: group 0: /);
    expect(error.message).toMatch(message);
  });

  it.each(VALUES)("of values with %s is refused", (_, change, message) => {
    const error = refusal(changed("values", change));
    expect(error.message).toMatch(/^archive: section values of layer 0: group 0: /);
    expect(error.message).toMatch(message);
  });

  it("with a normal book of 8 bits is refused: no such levels are known", async () => {
    const wide = await compress(runtime, new TinyCache({ layers: 1, tokens: 40 }), { sinks: 1, recent: 2, keyBits: 8 });
    const { books } = wide.layers[0].keys[0];
    expect(books[0]).toMatchObject({ width: 8, kind: "uniform" });
    const parts = new ArchiveParts(joinChunks(encodeArchive(wide)));
    parts.edit("keys", 0, (bytes) => bytes.fill(0, 8 + books.length, 9 + books.length));
    expect(refusal(parts.bytes()).message).toMatch(/books\[0\].kind: expected "uniform" at width 8, got "normal"/);
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
    expect(refusal(parts.bytes()).message).toMatch(
      /group 0: basis row 0: expected zero bits after the last code, got 1/,
    );
  });

  it("that ends before its section does is refused, and one that its section cuts", () => {
    const parts = () => new ArchiveParts(archive);
    const longer = parts().edit("values", 0, (bytes) => Uint8Array.from([...bytes, 0]));
    expect(refusal(longer.bytes()).message).toMatch(
      /section values of layer 0: expected its end here, got 1 more bytes/,
    );
    for (let cut = 1; ; cut += 7) {
      const index = parts().indexOf("keys", 0);
      const { length } = parts().sections[index];
      if (cut > length) break;
      const shorter = parts().edit("keys", 0, (bytes) => bytes.slice(0, length - cut));
      expect(refusal(shorter.bytes()).message).toMatch(
        /section keys of layer 0: group 0: [a-z]+: expected \d+ bytes, got/,
      );
    }
  });

  it("that leaves a kv head out is refused", () => {
    const parts = new ArchiveParts(archive).edit("keys", 0, () => new Uint8Array(0));
    expect(refusal(parts.bytes()).message).toMatch(/section keys of layer 0: group 0: head: expected 8 bytes, got 0/);
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
      else expect(refusal(bytes).message).toContain(`planes, byte ${byte}: expected zero codes in free places, got`);
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
    expect(refusal(parts.bytes()).message).toMatch(
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
    expect(refusal(parts.bytes()).message).toMatch(
      /section frequencies: rotary.frequencies\[1\]: expected a number from -3.14\d+ to 3.14\d+, got/,
    );
  });
});

describe("a small file that claims a large cache", () => {
  it.each<[string, (header: Any) => void]>([
    ["tokens", (h) => (h.tokenCount = 2147483647)],
    [
      "coded tokens without ids",
      (h) =>
        Object.assign(h, { tokenCount: 2147483647, sections: h.sections.filter((row: Any) => row.kind !== "tokens") }),
    ],
    ["exact tokens", (h) => Object.assign(h, { tokenCount: 2147483647, recent: 2147483000 })],
    ["layers", (h) => (h.geometry.layerCount = 1024)],
    ["heads of 256", (h) => Object.assign(h.geometry, { kvHeads: 32, headDim: 256 })],
  ])("in %s is refused before anything of that size is made", (_, change) => {
    const parts = new ArchiveParts(archive);
    change(parts.header);
    if (parts.header.sections.length < parts.sections.length) parts.sections.splice(1, 1);
    const bytes = parts.bytes();
    const before = process.memoryUsage().arrayBuffers;
    const error = refusal(bytes);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1 << 20);
    expect(error.offsetBytes).toBeLessThanOrEqual(bytes.length);
  });
});
