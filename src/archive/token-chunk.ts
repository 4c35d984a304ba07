/**
 * One chunk of tokens as bytes: docs/format.md, "Chunks of tokens". Everything little-endian.
 *
 *   0 magic "SVDC\r\n\x1a\n" | 8 u32 version, 1 | 12 u32 headerBytes | 16 u64 chunkBytes
 *   24 u32 link: the checksum of the chunk before, 0 for the first | 28 u32 CRC-32C of bytes 0 to 27, then of 32 to the end
 *   32 header, JSON in UTF-8 | body
 */
import type { CodedCache } from "../codec/coded.ts";
import { brief, FormatError } from "../errors.ts";
import { crc32c, hex32 } from "./checksum.ts";
import { ARCHIVE_VERSIONS, type ArchiveHeader } from "./format.ts";
import { headerOf } from "./writer.ts";

const CHUNK_MAGIC = Uint8Array.of(0x53, 0x56, 0x44, 0x43, 0x0d, 0x0a, 0x1a, 0x0a);
const CHUNK_VERSION = 1;
const AT = { version: 8, headerBytes: 12, chunkBytes: 16, link: 24, crc: 28, header: 32 } as const;

/** What all chunks share, as an archive's header has it. */
export type SharedHeader = Omit<ArchiveHeader, "tokenCount" | "recent" | "segments" | "sections">;

/** A segment begins (1) or goes on (0), and its tokens in this chunk. */
export type Piece = [0 | 1, number];

export interface ChunkHeader {
  /** Of the first chunk. */
  shared?: SharedHeader;
  tokenFrom: number;
  tokenTo: number;
  /** Of these tokens the last that are exact; 0 in all chunks but the last. */
  recent: number;
  hasTokens: boolean;
  /** Of each layer. */
  pieces: Piece[][];
}

export function sharedOf(cache: CodedCache): SharedHeader {
  const {
    tokenCount: _tokens,
    recent: _recent,
    sections: _sections,
    ...shared
  } = headerOf(cache, ARCHIVE_VERSIONS.oneSegment, []);
  return shared;
}

/** `crc` is the link of the next chunk. */
export function encodeTokenChunk(
  header: ChunkHeader,
  link: number,
  body: Uint8Array,
): { bytes: Uint8Array; crc: number } {
  const json = new TextEncoder().encode(JSON.stringify(header));
  const bytes = new Uint8Array(AT.header + json.length + body.length);
  const view = new DataView(bytes.buffer);
  bytes.set(CHUNK_MAGIC);
  view.setUint32(AT.version, CHUNK_VERSION, true);
  view.setUint32(AT.headerBytes, json.length, true);
  view.setBigUint64(AT.chunkBytes, BigInt(bytes.length), true);
  view.setUint32(AT.link, link, true);
  bytes.set(json, AT.header);
  bytes.set(body, AT.header + json.length);
  const crc = checksumOf(bytes);
  view.setUint32(AT.crc, crc, true);
  return { bytes, crc };
}

const checksumOf = (chunk: Uint8Array): number => crc32c(chunk.subarray(AT.header), crc32c(chunk.subarray(0, AT.crc)));

/** A chunk whose checksum and link are right; its header is still to be checked. */
export interface OpenChunk {
  header: unknown;
  /** Where the chunk starts and its body starts and ends, among all bytes. */
  start: number;
  bodyStart: number;
  end: number;
}

/** Chunks that follow one another in `bytes`. */
export function openTokenChunks(bytes: Uint8Array, name: string): OpenChunk[] {
  const chunks: OpenChunk[] = [];
  let [start, link] = [0, 0];
  while (start < bytes.length || chunks.length === 0) {
    const opened = openChunk(bytes, start, link, `${name}: chunk ${chunks.length}`);
    chunks.push(opened.chunk);
    [start, link] = [opened.chunk.end, opened.crc];
  }
  return chunks;
}

function openChunk(bytes: Uint8Array, start: number, link: number, where: string): { chunk: OpenChunk; crc: number } {
  const fail = (what: string, expected: unknown, got: unknown, at: number): never => {
    throw new FormatError(`${where}: ${what}: expected ${String(expected)}, got ${brief(got)}`, start + at);
  };
  const left = bytes.length - start;
  if (left < AT.header) fail("length", `at least ${AT.header} bytes`, left, 0);
  const wrong = CHUNK_MAGIC.findIndex((byte, i) => bytes[start + i] !== byte);
  if (wrong >= 0) fail("magic", "that of a chunk of tokens", `other bytes`, wrong);
  const view = new DataView(bytes.buffer, bytes.byteOffset + start, left);
  const version = view.getUint32(AT.version, true);
  if (version !== CHUNK_VERSION) fail("version", CHUNK_VERSION, version, AT.version);
  const size = Number(view.getBigUint64(AT.chunkBytes, true));
  if (size < AT.header || size > left) fail("length", `${AT.header} to ${left} bytes`, size, AT.chunkBytes);
  const chunk = bytes.subarray(start, start + size);
  const [got, crc] = [checksumOf(chunk), view.getUint32(AT.crc, true)];
  if (got !== crc) fail("checksum", hex32(crc), hex32(got), AT.crc);
  const linked = view.getUint32(AT.link, true);
  if (linked !== link) fail("link", `${hex32(link)}, the chunk before`, hex32(linked), AT.link);
  const headerBytes = view.getUint32(AT.headerBytes, true);
  const most = size - AT.header;
  if (headerBytes > most) fail("header length", `at most ${most} bytes`, headerBytes, AT.headerBytes);
  const json = chunk.subarray(AT.header, AT.header + headerBytes);
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(json));
  } catch (cause) {
    fail("header", "JSON in UTF-8", (cause as Error).message, AT.header);
  }
  const bodyStart = start + AT.header + headerBytes;
  return { chunk: { header, start, bodyStart, end: start + size }, crc };
}
