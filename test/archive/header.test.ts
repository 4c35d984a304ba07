/** Headers that contradict themselves or the file, checksums right: what a writer with a fault, or an attacker, makes. */
import { beforeAll, describe, expect, it } from "vitest";
import { crc32c } from "../../src/archive/checksum.ts";
import { decodeArchive } from "../../src/archive/reader.ts";
import { encodeArchive } from "../../src/archive/writer.ts";
import { joinChunks } from "../../src/codec/chunks.ts";
import { compress } from "../../src/codec/compress.ts";
import { ArchiveParts, refusalOf, resignPreamble } from "../support/archive-parts.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { TinyCache } from "../support/tiny-cache.ts";

/** One layer, 2 kv heads of 32, 40 tokens: 1 sink, 37 coded, 2 recent; one group of 64 dimensions. */
let archive: Uint8Array;

beforeAll(async () => {
  const runtime = await PLATFORMS[2].create({});
  const source = new TinyCache({ layers: 1, tokens: 40, queries: 8, noise: 0.2 });
  const cache = await compress(runtime, source, { sinks: 1, recent: 2, keyBits: 0.7, valueBits: 0.6 });
  archive = joinChunks(encodeArchive(cache));
});

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
  ["fewer than no tokens", (h) => (h.tokenCount = -1), /tokenCount: expected an integer from 0 to 2147483647, got -1/],
  ["tokens past 32 bits", (h) => (h.tokenCount = 2 ** 31), /tokenCount: expected an integer from 0 to 2147483647/],
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
    expect(refusalOf(parts.bytes()).message).toMatch(message);
  });

  it.each(TABLES)("with %s is refused", (_, change, message) => {
    const parts = new ArchiveParts(archive);
    change(parts.header.sections, parts.header);
    expect(refusalOf(parts.withHeader(parts.header)).message).toMatch(message);
  });

  it.each<[string, string, RegExp]>([
    ["nothing", "", /header: expected JSON in UTF-8, got/],
    ["half an object", '{"model": "m"', /header: expected JSON in UTF-8, got/],
    ["an array", "[]", /header: expected an object, got \[\]/],
    ["null", "null", /header: expected an object, got null/],
    ["a million brackets", "[".repeat(1e6), /header: expected JSON in UTF-8, got/],
    ["a byte-order mark", "\ufeff{}", /header: expected JSON in UTF-8, got/],
  ])("of %s is refused", (_, text, message) => {
    expect(refusalOf(new ArchiveParts(archive).withHeader(text)).message).toMatch(message);
  });

  it("that is not UTF-8 is refused", () => {
    const parts = new ArchiveParts(archive);
    // Latin-1 in place of the model's last letter: signed again, so that only the decoder can object.
    parts.header.model = "tin@";
    const bytes = parts.bytes();
    const at = Buffer.from(bytes).indexOf("tin@") + 3;
    bytes[at] = 0xff;
    expect(refusalOf(resignHeader(bytes)).message).toMatch(/header: expected JSON in UTF-8, got/);
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
    const error = refusalOf(bytes);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1 << 20);
    expect(error.offsetBytes).toBeLessThanOrEqual(bytes.length);
  });
});
