/** A compressed cache to bytes. The cache is checked before the first byte is made. */
import { joinChunks } from "../codec/chunks.ts";
import { type CodedCache, type CodedGroup, codedTokens, hasStreams, segmentsOf } from "../codec/coded.ts";
import { BLOCK_TOKENS, PLANE_BYTES, roundUp } from "../codec/layout.ts";
import { checkRotary } from "../codec/rotary.ts";
import { brief } from "../errors.ts";
import { writeFileAtomically } from "./atomic-file.ts";
import {
  checkExact,
  checkGroup,
  checkHeads,
  checkPairSpans,
  checkSegments,
  checkShape,
  type Fail,
  type GroupPlace,
  placeOf,
} from "./check.ts";
import { crc32c, fingerprintOf } from "./checksum.ts";
import { ByteWriter } from "./cursor.ts";
import type { ArchiveHeader, SectionEntry, SectionName } from "./format.ts";
import { ARCHIVE_VERSIONS, describeSection, MAGIC, PREAMBLE, SECTION_ALIGN, sectionNames } from "./format.ts";
import { groupBytes, restBytes } from "./group-writer.ts";
import { type CacheWithoutRows, withoutRows } from "./profile-rows.ts";

type WrittenCache = CodedCache & Partial<CacheWithoutRows>;

const failFor =
  (where: string): Fail =>
  (what, expected, got) => {
    throw new RangeError(`${where}${what}: expected ${expected}, got ${brief(got)}`);
  };

export interface WriteOptions {
  /** Bases on which the cache is coded (`compressOnBases`): the archive names them and has no basis rows of its own. */
  profile?: CodedCache | undefined;
}

/**
 * `archive` as chunks in order, as `new Blob` takes them; some share memory with the cache, so write them before you
 * change it.
 */
export function encodeArchive(cache: CodedCache, { profile }: WriteOptions = {}): Uint8Array<ArrayBuffer>[] {
  const made: Uint8Array[] = [];
  const head = headOf(profile ? withoutRows(cache, profile) : cache, (bytes) => made.push(bytes));
  return [head.bytes, ...sectionChunks(head.sections, (i) => made[i])];
}

/** The same chunks, each made when its turn comes; the head, which needs all checksums, is made at once. */
export function chunksOf(given: CodedCache, { profile }: WriteOptions = {}): Iterator<Uint8Array<ArrayBuffer>> {
  const cache = profile ? withoutRows(given, profile) : given;
  const head = headOf(cache);
  const chunks = function* (): Generator<Uint8Array<ArrayBuffer>> {
    yield head.bytes;
    yield* sectionChunks(head.sections, (i) => encodeSection(cache, head.sections[i]));
  };
  return chunks();
}

/** Sections with the zeros before them. */
function* sectionChunks(
  sections: SectionEntry[],
  bytesOf: (index: number) => Uint8Array,
): Generator<Uint8Array<ArrayBuffer>> {
  let end = 0;
  for (const [i, section] of sections.entries()) {
    if (section.offset > end) yield new Uint8Array(section.offset - end);
    // No cache of this package lies in shared memory.
    if (section.bytes > 0) yield bytesOf(i) as Uint8Array<ArrayBuffer>;
    end = section.offset + section.bytes;
  }
}

/** Checks the cache, makes every section once and gives it to `keep`. */
function headOf(cache: WrittenCache, keep: (bytes: Uint8Array) => void = () => {}) {
  checkCache(cache);
  const version = versionOf(cache);
  let offset = 0;
  const names = sectionNames(version, cache.geometry.layerCount, cache.tokens !== undefined);
  const sections = names.map((name): SectionEntry => {
    const bytes = encodeSection(cache, name);
    keep(bytes);
    const start = roundUp(offset, SECTION_ALIGN);
    offset = start + bytes.length;
    return { ...name, offset: start, bytes: bytes.length, crc32c: crc32c(bytes) };
  });
  return { bytes: encodeHead(headerOf(cache, version, sections), version, offset), sections };
}

/** All but what lies in sections, which are checked when they are made. */
function checkCache(cache: CodedCache): void {
  checkShape(cache, failFor(""));
  checkRotary(cache.rotary, cache.geometry.headDim);
  checkPairSpans(cache, cache.rotary.frequencies.length, failFor(""));
  if (cache.layers.length !== cache.geometry.layerCount) {
    throw new RangeError(`layers: expected ${cache.geometry.layerCount}, got ${cache.layers.length}`);
  }
  cache.layers.forEach((layer, i) => {
    const tokens = segmentsOf(layer, codedTokens(cache)).map((segment) => segment.tokens);
    checkSegments(tokens, codedTokens(cache), failFor(`layer ${i}: `));
  });
}

/** Writes a file in one step: after a failure the old file is as it was. Node, Deno and Bun only. */
export async function writeArchive(path: string, cache: CodedCache, options: WriteOptions = {}): Promise<void> {
  const chunks = encodeArchive(cache, options);
  await writeFileAtomically(path, async (write) => {
    for (const chunk of chunks) await write(chunk);
  });
}

function versionOf({ anchorSpan, layers, profile: inProfile }: WrittenCache): number {
  const { oneSegment, segments, streams, profile } = ARCHIVE_VERSIONS;
  if (inProfile !== undefined) return profile;
  if (Array.isArray(anchorSpan) || layers.some(hasStreams)) return streams;
  return layers.some(({ earlier }) => earlier?.length) ? segments : oneSegment;
}

/** Without `segments` in version 1. */
export function headerOf(cache: WrittenCache, version: number, sections: SectionEntry[]): ArchiveHeader {
  const { layerCount, kvHeads, headDim } = cache.geometry;
  return {
    model: cache.model,
    fingerprint: fingerprintOf(cache),
    geometry: { layerCount, kvHeads, headDim },
    rotary: { layout: cache.rotary.layout, pairs: cache.rotary.frequencies.length },
    layerNumbers: cache.layerNumbers,
    tokenCount: cache.tokenCount,
    sinks: cache.sinks,
    recent: cache.recent,
    exactType: cache.exactType,
    anchorSpan: cache.anchorSpan,
    ...(cache.profile !== undefined && { profile: cache.profile }),
    ...(version > ARCHIVE_VERSIONS.oneSegment && { segments: segmentTokens(cache) }),
    layout: { blockTokens: BLOCK_TOKENS, planeBytes: PLANE_BYTES },
    sections,
  };
}

const segmentTokens = (cache: CodedCache): number[][] =>
  cache.layers.map((layer) => segmentsOf(layer, codedTokens(cache)).map(({ tokens }) => tokens));

/** Preamble, header and the zeros after it. */
function encodeHead(header: ArchiveHeader, version: number, sectionBytes: number): Uint8Array<ArrayBuffer> {
  const json = new TextEncoder().encode(JSON.stringify(header));
  const bytes = new Uint8Array(roundUp(PREAMBLE.bytes + json.length, SECTION_ALIGN));
  const view = new DataView(bytes.buffer);
  bytes.set(MAGIC);
  bytes.set(json, PREAMBLE.bytes);
  view.setUint32(PREAMBLE.version, version, true);
  view.setUint32(PREAMBLE.headerBytes, json.length, true);
  view.setBigUint64(PREAMBLE.fileBytes, BigInt(bytes.length + sectionBytes), true);
  view.setUint32(PREAMBLE.headerCrc, crc32c(json), true);
  view.setUint32(PREAMBLE.preambleCrc, crc32c(bytes.subarray(0, PREAMBLE.preambleCrc)), true);
  return bytes;
}

function encodeSection(cache: WrittenCache, name: SectionName): Uint8Array {
  const fail = failFor(`${describeSection(name)}: `);
  const layer = cache.layers[name.layer ?? 0];
  switch (name.kind) {
    case "frequencies": {
      const out = new ByteWriter(8 * cache.rotary.frequencies.length);
      out.f64(cache.rotary.frequencies);
      return out.bytes;
    }
    case "tokens": {
      const tokens = cache.tokens!;
      if (tokens.length !== cache.tokenCount) fail("length", `${cache.tokenCount} tokens`, tokens.length);
      const out = new ByteWriter(4 * tokens.length);
      out.i32(tokens);
      return out.bytes;
    }
    case "keys":
    case "values": {
      const { kind } = name;
      const segments = segmentsOf(layer, codedTokens(cache));
      const parts = segments.map((segment, i) => {
        const failSegment: Fail = (what, ...rest) =>
          fail(segments.length > 1 ? `segment ${i}: ${what}` : what, ...rest);
        return encodeGroups(segment[kind], placeOf(cache, kind, segment.tokens), failSegment);
      });
      return parts.length > 1 ? joinChunks(parts) : parts[0];
    }
    case "keys-rest":
    case "values-rest": {
      const role = name.kind === "keys-rest" ? "keys" : "values";
      const groups = segmentsOf(layer, codedTokens(cache)).flatMap((segment) => segment[role]);
      const streamed = groups.filter(({ stream }) => stream);
      return joinChunks(streamed.map((group) => restBytes(group, group.headCount * cache.geometry.headDim)));
    }
    case "exact-keys":
      checkExact(layer.exactKeys, cache, fail);
      return layer.exactKeys;
    case "exact-values":
      checkExact(layer.exactValues, cache, fail);
      return layer.exactValues;
  }
}

function encodeGroups(groups: CodedGroup[], place: GroupPlace, fail: Fail): Uint8Array {
  let next = 0;
  groups.forEach((group, i) => {
    const failGroup: Fail = (what, expected, got) => fail(`group ${i}: ${what}`, expected, got);
    checkHeads(group, next, place.kvHeads, failGroup);
    checkGroup(group, place, failGroup);
    next += group.headCount;
  });
  if (next !== place.kvHeads) fail("groups", `${place.kvHeads} kv heads in all`, next);
  return joinChunks(groups.map((group) => groupBytes(group, group.headCount * place.headDim)));
}
