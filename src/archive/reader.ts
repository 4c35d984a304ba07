/**
 * Archive version 1: bytes to a compressed cache. Nothing is believed before it is checked: sizes against the file,
 * bytes against their checksums, contents against the rules of check.ts. Every failure is a FormatError.
 */
import {
  type ChannelBook,
  type CodedBasis,
  type CodedCache,
  type CodedGroup,
  type CodedLayer,
  layerOfSegments,
} from "../codec/coded.ts";
import { countWidths } from "../codec/layout.ts";
import { checkRotary, type Rotary } from "../codec/rotary.ts";
import { brief, FormatError } from "../errors.ts";
import { fileError } from "./atomic-file.ts";
import { packedRowBytes, unpackRow } from "./bits.ts";
import type { Fail, GroupPlace } from "./check.ts";
import {
  checkBasisWidths,
  checkExact,
  checkGroup,
  checkHeads,
  checkWidths,
  exactBytes,
  placeOf,
  planesBytes,
} from "./check.ts";
import { crc32c, fingerprintOf, hex32 } from "./checksum.ts";
import { ByteReader } from "./cursor.ts";
import { BOOK_KINDS, describeSection, GROUP, PREAMBLE, type SectionKind } from "./format.ts";
import { asFormatError, type Head, readHead } from "./header.ts";

/** A cache with arrays of its own. `name` stands in front of every message, a path for instance. */
export function decodeArchive(bytes: Uint8Array | ArrayBuffer, name = "archive"): CodedCache {
  const plain = plainBytes(bytes);
  const archive = new OpenArchive(plain, name, readHead(plain, name));
  const { shape } = archive.head;
  const rotary = archive.rotary();
  const tokens = archive.tokens();
  const layers = Array.from({ length: shape.geometry.layerCount }, (_, i) => archive.layer(i));
  return { ...shape, rotary, ...(tokens && { tokens }), layers };
}

/** A Buffer's slice is a view; those of what is returned here are copies. */
function plainBytes(bytes: Uint8Array | ArrayBuffer): Uint8Array {
  if (ArrayBuffer.isView(bytes)) return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // By name: an ArrayBuffer of another realm is one too.
  if (Object.prototype.toString.call(bytes) === "[object ArrayBuffer]") return new Uint8Array(bytes);
  throw new TypeError(`bytes: expected a Uint8Array or an ArrayBuffer, got ${brief(bytes)}`);
}

/** Reads a file. Node, Deno and Bun only. */
export async function readArchive(path: string): Promise<CodedCache> {
  const { readFile } = await import("node:fs/promises");
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw fileError("read", path, cause);
  }
  return decodeArchive(bytes, path);
}

class OpenArchive {
  readonly head: Head;
  readonly #bytes: Uint8Array;
  readonly #name: string;

  constructor(bytes: Uint8Array, name: string, head: Head) {
    this.#bytes = bytes;
    this.#name = name;
    this.head = head;
  }

  /** The section whose checksum is right, or undefined where the file has none of that name. */
  #open(kind: SectionKind, layer?: number): ByteReader | undefined {
    const entry = this.head.sections.find((section) => section.kind === kind && section.layer === layer);
    if (!entry) return undefined;
    const end = entry.offset + entry.bytes;
    const where = `${this.#name}: ${describeSection(entry)}`;
    const crc = crc32c(this.#bytes.subarray(entry.offset, end));
    if (crc !== entry.crc32c) {
      throw new FormatError(`${where}: checksum: expected ${hex32(entry.crc32c)}, got ${hex32(crc)}`, entry.offset);
    }
    return new ByteReader(this.#bytes, entry.offset, end, where);
  }

  rotary(): Rotary {
    const { shape, layout, pairs, fingerprint } = this.head;
    const section = this.#open("frequencies")!;
    const rotary: Rotary = { layout, frequencies: section.f64(pairs, "frequencies") };
    expectEnd(section);
    asFormatError(section.where, section.at - 8 * pairs, () => checkRotary(rotary, shape.geometry.headDim));
    const got = fingerprintOf({ ...shape, rotary });
    if (got !== fingerprint) {
      const message = `${this.#name}: fingerprint: expected "${got}", got ${brief(fingerprint)}`;
      throw new FormatError(message, PREAMBLE.bytes);
    }
    return rotary;
  }

  tokens(): Int32Array | undefined {
    const section = this.#open("tokens");
    const tokens = section?.i32(this.head.shape.tokenCount, "tokens");
    if (section) expectEnd(section);
    return tokens;
  }

  layer(layer: number): CodedLayer {
    const keys = this.#groups("keys", layer);
    const values = this.#groups("values", layer);
    const segments = this.head.segments[layer].map((tokens, i) => ({ tokens, keys: keys[i], values: values[i] }));
    return {
      ...layerOfSegments(segments),
      exactKeys: this.#exact("exact-keys", layer),
      exactValues: this.#exact("exact-values", layer),
    };
  }

  #exact(kind: "exact-keys" | "exact-values", layer: number): Uint8Array {
    const section = this.#open(kind, layer)!;
    const start = section.at;
    const bytes = section.u8(exactBytes(this.head.shape), "elements");
    expectEnd(section);
    checkExact(bytes, this.head.shape, failAt(section, "", start));
    return bytes;
  }

  /** Groups of each segment. */
  #groups(role: "keys" | "values", layer: number): CodedGroup[][] {
    const section = this.#open(role, layer)!;
    const counts = this.head.segments[layer];
    const all = counts.map((tokens, i) => {
      const place = placeOf(this.head.shape, role, tokens);
      const groups: CodedGroup[] = [];
      for (let next = 0; next < place.kvHeads; ) {
        const prefix = `${counts.length > 1 ? `segment ${i}: ` : ""}group ${groups.length}: `;
        const group = readGroup(section, place, next, prefix);
        groups.push(group);
        next += group.headCount;
      }
      return groups;
    });
    expectEnd(section);
    return all;
  }
}

function expectEnd(section: ByteReader): void {
  if (section.left !== 0) {
    throw new FormatError(`${section.where}: expected its end here, got ${section.left} more bytes`, section.at);
  }
}

const failAt =
  (section: ByteReader, prefix: string, at: number): Fail =>
  (what, expected, got) => {
    throw new FormatError(`${section.where}: ${prefix}${what}: expected ${expected}, got ${brief(got)}`, at);
  };

/** See GROUP in format.ts. Widths are checked before a size depends on them, the whole group at the end. */
function readGroup(section: ByteReader, place: GroupPlace, nextHead: number, prefix: string): CodedGroup {
  const fail: Fail = failAt(section, prefix, section.at);
  const [firstHead, headCount, channels, flags] = section.u16(4, `${prefix}head`);
  checkHeads({ firstHead, headCount }, nextHead, place.kvHeads, fail);
  const known = GROUP.flagOffsets | GROUP.flagColumns;
  if ((flags & ~known) !== 0) fail("flags", `0 to ${known}`, flags);
  const dim = headCount * place.headDim;
  const widths = section.u8(channels, `${prefix}books`);
  checkWidths(widths, dim, fail);
  const books = readBooks(section, widths, (flags & GROUP.flagOffsets) !== 0, prefix, fail);
  const basis = readBasis(section, channels, dim, (flags & GROUP.flagColumns) !== 0, prefix, fail);
  const side: Pick<CodedGroup, "centre" | "norms"> = {};
  if (place.role === "keys") {
    side.centre = section.u16(dim, `${prefix}centre`);
  } else {
    const [least, step] = section.f32(2, `${prefix}norms`);
    side.norms = { codes: section.u8(place.codedTokens, `${prefix}norms`), least, step };
  }
  const planes = section.u8(planesBytes(countWidths(widths), place.codedTokens), `${prefix}planes`);
  const group: CodedGroup = { firstHead, headCount, books, basis, ...side, planes };
  checkGroup(group, place, fail);
  return group;
}

function readBooks(section: ByteReader, widths: Uint8Array, offsetsToo: boolean, prefix: string, fail: Fail) {
  const count = widths.length;
  const kinds = section.u8(count, `${prefix}books`);
  const scales = section.f32(count, `${prefix}books`);
  const offsets = offsetsToo ? section.f32(count, `${prefix}books`) : new Float32Array(count);
  return Array.from(widths, (width, i): ChannelBook => {
    const kind = BOOK_KINDS[kinds[i]] ?? fail(`books[${i}].kind`, "0 or 1", kinds[i]);
    return { width: width as ChannelBook["width"], kind, scale: scales[i], offset: offsets[i] };
  });
}

function readBasis(
  section: ByteReader,
  channels: number,
  dim: number,
  columnsToo: boolean,
  prefix: string,
  fail: Fail,
): CodedBasis {
  const part = `${prefix}basis`;
  const widths = section.u8(channels, part);
  checkBasisWidths(widths, channels, fail);
  const scales = section.f32(channels, part);
  const packed = section.u8(
    widths.reduce((sum, width) => sum + packedRowBytes(dim, width), 0),
    part,
  );
  const codes = new Int16Array(channels * dim);
  for (let c = 0, at = 0; c < channels; at += packedRowBytes(dim, widths[c++])) {
    const rest = unpackRow(packed, at, widths[c], codes.subarray(c * dim, (c + 1) * dim));
    if (rest !== 0) fail(`basis row ${c}`, "zero bits after the last code", rest);
  }
  return { widths, scales, codes, ...(columnsToo && { columnScales: section.u16(dim, part) }) };
}
