/** Preamble, header and section table of an archive, checked in the order in which they can be believed. */
import { type CodedCache, codedTokens } from "../codec/coded.ts";
import { BLOCK_TOKENS, PLANE_BYTES, roundUp } from "../codec/layout.ts";
import type { RotaryLayout } from "../codec/rotary.ts";
import { brief, FormatError } from "../errors.ts";
import { type CacheShape, checkPairSpans, checkSegments, checkShape, type Fail } from "./check.ts";
import { crc32c, hex32 } from "./checksum.ts";
import type { SectionEntry } from "./format.ts";
import { ARCHIVE_VERSIONS, describeSection, MAGIC, PREAMBLE, SECTION_ALIGN, sectionNames } from "./format.ts";

export interface Head {
  version: number;
  shape: CacheShape;
  fingerprint: string;
  /** Coded tokens of every segment, layer by layer. */
  segments: number[][];
  layout: RotaryLayout;
  /** Rotary pairs. */
  pairs: number;
  /** In order, inside the file, the last at its end; `offset` counts from the start of the file. */
  sections: SectionEntry[];
  /** Where the header ends. */
  end: number;
}

export type Fields = Record<string, unknown>;

/** A RangeError of a check shared with callers becomes a FormatError. */
export function asFormatError<T>(where: string, offset: number, check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (error instanceof RangeError) throw new FormatError(`${where}: ${error.message}`, offset);
    throw error;
  }
}

/** `bytes`: the file, or as much of it from the start on as holds the header; `size`: bytes of the file. */
export function readHead(bytes: Uint8Array, name: string, size = bytes.length): Head {
  const { headerBytes, version } = readPreamble(bytes, size, name);
  const fields = parseHeader(bytes.subarray(PREAMBLE.bytes, PREAMBLE.bytes + headerBytes), name);
  const fail: Fail = (what, expected, got) => {
    throw new FormatError(`${name}: header: ${what}: expected ${expected}, got ${brief(got)}`, PREAMBLE.bytes);
  };
  const shape = readShape(fields, `${name}: header`, PREAMBLE.bytes, fail);
  if (version === ARCHIVE_VERSIONS.profile) {
    if (!/^[0-9a-f]{16}$/.test(String(fields.profile))) fail("profile", "16 hex digits", fields.profile);
    shape.profile = fields.profile as string;
  }
  if (Array.isArray(shape.anchorSpan) && version < ARCHIVE_VERSIONS.streams) {
    fail("anchorSpan", "one span before version 3", fields.anchorSpan);
  }
  const segments = readSegments(version, fields.segments, shape, fail);
  const identity = fieldsOf(fields.layout, "layout", fail);
  if (identity.blockTokens !== BLOCK_TOKENS) fail("layout.blockTokens", `${BLOCK_TOKENS}`, identity.blockTokens);
  if (identity.planeBytes !== PLANE_BYTES) fail("layout.planeBytes", `${PLANE_BYTES}`, identity.planeBytes);
  const { layout, pairs } = readRotary(fields.rotary, shape.geometry.headDim, fail);
  checkPairSpans(shape, pairs, fail);
  if (typeof fields.fingerprint !== "string") fail("fingerprint", "a string", fields.fingerprint);
  const end = PREAMBLE.bytes + headerBytes;
  const sections = readTable(fields.sections, version, shape, roundUp(end, SECTION_ALIGN), size, name, fail);
  return { version, shape, fingerprint: fields.fingerprint, segments, layout, pairs, sections, end };
}

/** What a header says of geometry, tokens and spans, checked; chunks of tokens say it in the same words. */
export function readShape(fields: Fields, where: string, offset: number, fail: Fail): CacheShape {
  const geometry = fieldsOf(fields.geometry, "geometry", fail);
  const shape = {
    geometry: { layerCount: geometry.layerCount, kvHeads: geometry.kvHeads, headDim: geometry.headDim },
    layerNumbers: fields.layerNumbers,
    model: fields.model,
    tokenCount: fields.tokenCount,
    sinks: fields.sinks,
    recent: fields.recent,
    exactType: fields.exactType,
    anchorSpan: fields.anchorSpan,
  } as CacheShape;
  asFormatError(where, offset, () => checkShape(shape, fail));
  return shape;
}

export function readRotary(value: unknown, headDim: number, fail: Fail): { layout: RotaryLayout; pairs: number } {
  const { layout, pairs } = fieldsOf(value, "rotary", fail);
  if (layout !== "half-split" && layout !== "interleaved") {
    return fail("rotary.layout", '"half-split" or "interleaved"', layout);
  }
  if (!isCount(pairs) || pairs > headDim / 2) {
    return fail("rotary.pairs", `an integer from 0 to ${headDim / 2}`, pairs);
  }
  return { layout, pairs };
}

function readSegments(version: number, table: unknown, shape: CacheShape, fail: Fail): number[][] {
  const { layerCount } = shape.geometry;
  const coded = codedTokens(shape as CodedCache);
  // Version 1 ignores fields that it does not know.
  const isPlain = version === ARCHIVE_VERSIONS.oneSegment;
  if (isPlain) return Array.from({ length: layerCount }, () => [coded]);
  if (!Array.isArray(table) || table.length !== layerCount) fail("segments", `${layerCount} layers`, table);
  (table as unknown[]).forEach((tokens, i) => {
    checkSegments(tokens, coded, (what, ...rest) => fail(`layer ${i}: ${what}`, ...rest));
  });
  const segments = table as number[][];
  if (version >= ARCHIVE_VERSIONS.streams) return segments;
  if (segments.every(({ length }) => length === 1)) fail("segments", "a layer of several in version 2", "one each");
  return segments;
}

export const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

function fieldsOf(value: unknown, what: string, fail: Fail): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) fail(what, "an object", value);
  return value as Fields;
}

function readPreamble(bytes: Uint8Array, size: number, name: string): { headerBytes: number; version: number } {
  const magicLength = Math.min(bytes.length, MAGIC.length);
  for (let i = 0; i < magicLength; i++) {
    if (bytes[i] === MAGIC[i]) continue;
    const hint = i < 4 ? "" : "; a transfer in text mode does this";
    throw new FormatError(`${name}: magic: expected ${hexOf(MAGIC)}, got ${hexOf(bytes.subarray(0, 8))}${hint}`, i);
  }
  const fail = (what: string, expected: unknown, got: unknown, offset: number): never => {
    throw new FormatError(`${name}: ${what}: expected ${String(expected)}, got ${String(got)}`, offset);
  };
  if (bytes.length < PREAMBLE.bytes) fail("length", `at least ${PREAMBLE.bytes} bytes`, bytes.length, bytes.length);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // Before the checksum: a later version may place it elsewhere.
  const version = view.getUint32(PREAMBLE.version, true);
  const newest = ARCHIVE_VERSIONS.profile;
  if (version < ARCHIVE_VERSIONS.oneSegment || version > newest) {
    const hint = version > newest ? "; this file is of a newer svdq" : "";
    fail("version", `1 to ${newest}, those that this svdq reads`, `${version}${hint}`, PREAMBLE.version);
  }
  const crc = hex32(crc32c(bytes.subarray(0, PREAMBLE.preambleCrc)));
  const preambleCrc = hex32(view.getUint32(PREAMBLE.preambleCrc, true));
  if (crc !== preambleCrc) fail("checksum of the preamble", preambleCrc, crc, PREAMBLE.preambleCrc);
  const fileBytes = view.getBigUint64(PREAMBLE.fileBytes, true);
  if (fileBytes !== BigInt(size)) fail("length", `${fileBytes} bytes`, size, size);
  const headerBytes = view.getUint32(PREAMBLE.headerBytes, true);
  const most = bytes.length - PREAMBLE.bytes;
  if (headerBytes > most) fail("header length", `at most ${most} bytes`, headerBytes, PREAMBLE.headerBytes);
  const got = hex32(crc32c(bytes.subarray(PREAMBLE.bytes, PREAMBLE.bytes + headerBytes)));
  const headerCrc = hex32(view.getUint32(PREAMBLE.headerCrc, true));
  if (got !== headerCrc) fail("checksum of the header", headerCrc, got, PREAMBLE.bytes);
  return { headerBytes, version };
}

const hexOf = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");

function parseHeader(json: Uint8Array, name: string): Fields {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(json));
  } catch (cause) {
    throw new FormatError(`${name}: header: expected JSON in UTF-8, got ${(cause as Error).message}`, PREAMBLE.bytes);
  }
  return fieldsOf(value, "header", (_, expected, got) => {
    throw new FormatError(`${name}: header: expected ${expected}, got ${brief(got)}`, PREAMBLE.bytes);
  });
}

/** The table must list exactly the sections of the cache, each where the one before it leaves off. */
function readTable(
  table: unknown,
  version: number,
  shape: CacheShape,
  first: number,
  size: number,
  name: string,
  fail: Fail,
): SectionEntry[] {
  if (!Array.isArray(table)) fail("sections", "an array", table);
  const hasTokens = (table[1] as Fields | undefined)?.kind === "tokens";
  const names = sectionNames(version, shape.geometry.layerCount, hasTokens);
  if (table.length !== names.length) fail("sections", `${names.length} sections`, table.length);
  let end = first;
  const sections = names.map((name, i) => {
    const row = fieldsOf(table[i], `sections[${i}]`, fail);
    if (row.kind !== name.kind || row.layer !== name.layer) {
      fail(`sections[${i}]`, describeSection(name), row.kind === name.kind ? row.layer : row.kind);
    }
    const what = describeSection(name);
    const offset = roundUp(end, SECTION_ALIGN);
    if (row.offset !== offset - first) fail(`${what}: offset`, String(offset - first), row.offset);
    if (!isCount(row.bytes) || offset + row.bytes > size) {
      fail(`${what}: bytes`, `an integer from 0 to ${Math.max(0, size - offset)}`, row.bytes);
    }
    if (!isCount(row.crc32c) || row.crc32c > 0xffffffff) fail(`${what}: crc32c`, "a 32-bit integer", row.crc32c);
    end = offset + row.bytes;
    return { ...name, offset, bytes: row.bytes, crc32c: row.crc32c };
  });
  if (end !== size) throw new FormatError(`${name}: length: expected ${end} bytes, got ${size}`, end);
  return sections;
}

/** Bytes under no checksum: those before each section. `bytes` hold the file from `start` on. */
export function expectZeros(
  bytes: Uint8Array,
  start: number,
  end: number,
  sections: SectionEntry[],
  name: string,
): void {
  for (const section of sections) {
    for (; end < section.offset; end++) {
      if (bytes[end - start] === 0) continue;
      const got = bytes[end - start];
      throw new FormatError(`${name}: padding before ${describeSection(section)}: expected 0, got ${got}`, end);
    }
    end = section.offset + section.bytes;
  }
}
