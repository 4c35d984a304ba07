/** Damage: every byte, every length, every section; nothing gets through, and every message says what and where. */
import { beforeAll, describe, expect, it } from "vitest";
import { encodeArchive } from "../../src/archive/writer.ts";
import { joinChunks } from "../../src/codec/chunks.ts";
import { compress } from "../../src/codec/compress.ts";
import type { FormatError } from "../../src/errors.ts";
import { ArchiveParts, refusalOf, resignPreamble } from "../support/archive-parts.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { TinyCache } from "../support/tiny-cache.ts";

let archive: Uint8Array;
let parts: ArchiveParts;
/** Where the first section starts. */
let first: number;

beforeAll(async () => {
  const runtime = await PLATFORMS[2].create({});
  const source = new TinyCache({ layers: 1, kvHeads: 1, tokens: 36, queries: 8 });
  const cache = await compress(runtime, source, { sinks: 1, recent: 2, keyBits: 0.6, valueBits: 0.6 });
  archive = joinChunks(encodeArchive(cache));
  parts = new ArchiveParts(archive);
  const last = parts.header.sections.at(-1)!;
  first = archive.length - last.offset - last.bytes;
});

/** The section that byte `at` lies in, by the table, or undefined. */
const sectionAt = (at: number) =>
  parts.header.sections.find(({ offset, bytes }) => at >= first + offset && at < first + offset + bytes);

/** Who notices first when byte `at` is flipped: its message and its offset. */
function expected(at: number): [RegExp, number | undefined] {
  if (at < 8) return [/^x\.svdq: magic: expected 53 56 44 51 0d 0a 1a 0a, got ([0-9a-f]{2} ?){8}/, at];
  if (at < 12) return [/^x\.svdq: version: expected 1 to 4, those that this svdq reads, got \d+/, 8];
  if (at < 32) return [/^x\.svdq: checksum of the preamble: expected [0-9a-f]{8}, got [0-9a-f]{8}/, 28];
  const section = sectionAt(at);
  if (section) {
    const name = section.layer === undefined ? section.kind : `${section.kind} of layer ${section.layer}`;
    return [
      new RegExp(`^x\\.svdq: section ${name}: checksum: expected [0-9a-f]{8}, got [0-9a-f]{8} \\(at byte `),
      first + section.offset,
    ];
  }
  const headerEnd = 32 + new DataView(archive.buffer).getUint32(12, true);
  if (at < headerEnd) return [/^x\.svdq: checksum of the header: expected [0-9a-f]{8}, got [0-9a-f]{8}/, 32];
  return [/^x\.svdq: padding before section [a-z-]+( of layer 0)?: expected 0, got \d+/, at];
}

describe("a small archive", () => {
  it("has padding and every kind of section, or the tests below would miss some", () => {
    const kinds = parts.header.sections.map(({ kind }) => kind);
    expect(kinds).toEqual(["frequencies", "tokens", "keys", "values", "exact-keys", "exact-values"]);
    expect(parts.sections.every((bytes) => bytes.length > 0)).toBe(true);
    const sum = parts.sections.reduce((bytes, section) => bytes + section.length, 0);
    expect(archive.length - first - sum).toBeGreaterThan(0);
    expect(archive.length).toBeLessThan(8192);
  });

  it("does not survive a flip of any byte, and says where it is", () => {
    for (let at = 0; at < archive.length; at++) {
      const bytes = archive.slice();
      bytes[at] ^= 1 << (at % 8);
      const error = refusalOf(bytes);
      const [message, offset] = expected(at);
      if (!message.test(error.message) || error.offsetBytes !== offset) {
        expect.fail(`byte ${at}: expected ${message} at ${offset}, got ${error.message}`);
      }
    }
  });

  it("is refused at every cut length", () => {
    for (let length = 0; length < archive.length; length++) {
      const error = refusalOf(archive.subarray(0, length));
      const least = length < 32 ? "at least 32" : String(archive.length);
      const message = `x.svdq: length: expected ${least} bytes, got ${length} (at byte ${length})`;
      if (error.message !== message) expect.fail(`cut at ${length}: expected ${message}, got ${error.message}`);
    }
  });

  it("is refused with bytes after its end", () => {
    const bytes = new Uint8Array(archive.length + 1);
    bytes.set(archive);
    expect(refusalOf(bytes).message).toContain(`length: expected ${archive.length} bytes, got ${archive.length + 1}`);
  });

  it("says what a transfer in text mode did", () => {
    const unix = Uint8Array.from([...archive].filter((byte) => byte !== 0x0d));
    const message = refusalOf(unix).message;
    expect(message).toContain("magic: expected 53 56 44 51 0d 0a 1a 0a, got 53 56 44 51 0a 1a 0a");
    expect(message).toContain("a transfer in text mode does this (at byte 4)");
    expect(refusalOf(Uint8Array.of(0x50, 0x4b, 3, 4)).message).toBe(
      "x.svdq: magic: expected 53 56 44 51 0d 0a 1a 0a, got 50 4b 03 04 (at byte 0)",
    );
  });

  it.each([
    [5, "5; this file is of a newer svdq"],
    [0x7fffffff, "2147483647; this file is of a newer svdq"],
    [0, "0"],
  ])("of version %i is refused as such, whatever else it holds", (version, got) => {
    const bytes = archive.slice();
    new DataView(bytes.buffer).setUint32(8, version, true);
    bytes.fill(0xee, 32);
    // With and without the checksum: a later version may place it elsewhere.
    for (const file of [bytes, resignPreamble(bytes.slice())]) {
      expect(refusalOf(file).message).toBe(
        `x.svdq: version: expected 1 to 4, those that this svdq reads, got ${got} (at byte 8)`,
      );
    }
  });

  it("is refused with preamble fields that a right checksum covers but the file belies", () => {
    const change = (edit: (view: DataView) => void): FormatError => {
      const bytes = archive.slice();
      edit(new DataView(bytes.buffer));
      return refusalOf(resignPreamble(bytes));
    };
    const n = archive.length;
    expect(change((view) => view.setBigUint64(16, 2n ** 63n, true)).message).toBe(
      `x.svdq: length: expected 9223372036854775808 bytes, got ${n} (at byte ${n})`,
    );
    expect(change((view) => view.setUint32(12, 0xffffffff, true)).message).toBe(
      `x.svdq: header length: expected at most ${n - 32} bytes, got 4294967295 (at byte 12)`,
    );
    expect(change((view) => view.setUint32(12, 0, true)).message).toMatch(/checksum of the header: expected/);
    expect(change((view) => view.setUint32(24, 1, true)).message).toMatch(/checksum of the header: expected 00000001/);
  });

  it("is taken apart and put together again by the test's own hands", () => {
    expect(parts.bytes()).toEqual(archive);
  });
});
