/**
 * Archives: bytes to a compressed cache. Nothing is believed before it is checked: sizes against the file, bytes against
 * their checksums, contents against the rules of check.ts. Every failure is a FormatError.
 */
import { joinChunks } from "../codec/chunks.ts";
import { type CodedCache, type CodedGroup, type CodedLayer, hasStreams, layerOfSegments } from "../codec/coded.ts";
import { checkRotary, type Rotary } from "../codec/rotary.ts";
import { brief, expectInteger, FormatError } from "../errors.ts";
import { fileError } from "./atomic-file.ts";
import { type CacheShape, checkExact, exactBytes, expectLayers, placeOf, shapeOfLayers } from "./check.ts";
import { crc32c, fingerprintOf, hex32 } from "./checksum.ts";
import { ByteReader } from "./cursor.ts";
import {
  ARCHIVE_VERSIONS,
  describeSection,
  PREAMBLE,
  REST_KINDS,
  type SectionEntry,
  type SectionKind,
} from "./format.ts";
import { failAt, readGroup } from "./group-reader.ts";
import { asFormatError, expectZeros, type Head, readHead } from "./header.ts";
import { expectProfile, withRows } from "./profile-rows.ts";
import { type ByteSource, openSource, type RandomAccess } from "./random-access.ts";

export interface ReadOptions {
  /**
   * The bases, a cache without tokens (`createProfile`), that an archive of version 4 is coded on; without them, or with
   * others, it is refused with a MismatchError. Other archives need none.
   */
  profile?: CodedCache | undefined;
}

/** A cache with arrays of its own. `name` stands in front of every message, a path for instance. */
export function decodeArchive(
  bytes: Uint8Array | ArrayBuffer,
  name = "archive",
  { profile }: ReadOptions = {},
): CodedCache {
  const plain = plainBytes(bytes);
  const head = readHead(plain, name);
  expectZeros(plain, 0, head.end, head.sections, name);
  return cacheOf(new OpenArchive(head, name, sectionsOf(plain), profile));
}

function cacheOf(archive: OpenArchive): CodedCache {
  const rotary = archive.rotary();
  const tokens = archive.tokens();
  const { layerCount } = archive.head.shape.geometry;
  const layers = Array.from({ length: layerCount }, (_, i) => archive.layer(i));
  return assembled(archive, rotary, tokens, layers);
}

/** The cache of what was read, once all of it was. */
export function assembled(
  archive: OpenArchive,
  rotary: Rotary,
  tokens: Int32Array | undefined,
  layers: CodedLayer[],
): CodedCache {
  const { name, head } = archive;
  const { version, shape } = head;
  if (version === ARCHIVE_VERSIONS.streams && !Array.isArray(shape.anchorSpan) && !layers.some(hasStreams)) {
    const message = `${name}: expected streams or spans by pair in version ${version}, got neither`;
    throw new FormatError(message, PREAMBLE.version);
  }
  return withShape(archive, shape, rotary, tokens, layers);
}

/** With the rows of the profile that the archive names, if it names one. */
function withShape(
  { name, profile }: OpenArchive,
  { profile: _, ...shape }: CacheShape,
  rotary: Rotary,
  tokens: Int32Array | undefined,
  layers: CodedLayer[],
): CodedCache {
  const cache = { ...shape, rotary, ...(tokens && { tokens }), layers };
  return profile ? withRows(cache, profile, name) : cache;
}

/** A Buffer's slice is a view; those of what is returned here are copies. */
function plainBytes(bytes: Uint8Array | ArrayBuffer): Uint8Array {
  if (ArrayBuffer.isView(bytes)) return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // By name: an ArrayBuffer of another realm is one too.
  if (Object.prototype.toString.call(bytes) === "[object ArrayBuffer]") return new Uint8Array(bytes);
  throw new TypeError(`bytes: expected a Uint8Array or an ArrayBuffer, got ${brief(bytes)}`);
}

/** Reads a file. Node, Deno and Bun only. */
export async function readArchive(path: string, options: ReadOptions = {}): Promise<CodedCache> {
  const { readFile } = await import("node:fs/promises");
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw fileError("read", path, cause);
  }
  return decodeArchive(bytes, path, options);
}

export interface PartOptions extends ReadOptions {
  /** Bytes to read at most; the leading channels of all layers are read in any case. Default: all. */
  maxBytes?: number;
  /** Indices of the layers to read, rising, counted over those held; the cache then has no others. Default: all. */
  layers?: readonly number[];
}

/**
 * Reads an archive from where it lies, by ranges: a file, a Blob, or anything with `size` and `read` (an HTTP resource,
 * an object in a bucket). Of an archive with streams (from version 3 on) it reads no more than `maxBytes`, and what is
 * left out are channels that do not lead: the cache is coarser, not shorter. Other versions are read whole, unless
 * `layers` says which layers are wanted: no others are read, or looked at.
 */
export async function openArchive(source: ByteSource, options: PartOptions = {}): Promise<CodedCache> {
  const { maxBytes = Infinity, profile } = options;
  if (maxBytes !== Infinity) expectInteger("maxBytes", maxBytes, 1, Number.MAX_SAFE_INTEGER);
  const { access, name } = await openSource(source);
  try {
    let bytes = await access.read(0, Math.min(access.size, FIRST_BYTES));
    const headEnd = bytes.length < PREAMBLE.bytes ? 0 : PREAMBLE.bytes + headerBytesOf(bytes);
    // A lying length is refused below, where it is compared with the size of the file.
    if (headEnd > bytes.length && headEnd <= access.size) bytes = await access.read(0, headEnd);
    const head = readHead(bytes, name, access.size);
    const layers = expectLayers(options.layers, head.shape.geometry.layerCount);
    const sections = head.sections.filter((section) => isWanted(section, maxBytes, layers));
    const held = new Map<SectionEntry, Uint8Array>();
    for (const run of runsOf(sections, head.sections)) {
      const start = run[0] === head.sections[0] ? head.end : run[0].offset;
      const last = run[run.length - 1];
      const all = await bytesFrom(access, bytes, { start, end: last.offset + last.bytes }, name);
      expectZeros(all, start, start, run, name);
      for (const entry of run) held.set(entry, all.subarray(entry.offset - start, entry.offset - start + entry.bytes));
    }
    const archive = new OpenArchive({ ...head, sections }, name, (entry) => held.get(entry) as Uint8Array, profile);
    if (options.layers === undefined) return cacheOf(archive);
    const rotary = archive.rotary();
    const tokens = archive.tokens();
    const some = layers.map((layer) => archive.layer(layer));
    return withShape(archive, shapeOfLayers(head.shape, layers), rotary, tokens, some);
  } finally {
    await access.close?.();
  }
}

/** Holds the header of most archives. */
const FIRST_BYTES = 65536;

const headerBytesOf = (bytes: Uint8Array): number =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint32(PREAMBLE.headerBytes, true);

const isRest = (kind: SectionKind): boolean => (REST_KINDS as readonly string[]).includes(kind);

const isWanted = ({ kind, layer, offset, bytes }: SectionEntry, maxBytes: number, layers: number[]): boolean =>
  (layer === undefined || layers.includes(layer)) && (!isRest(kind) || offset + bytes <= maxBytes);

/** Sections that lie next to each other are read at once. */
function runsOf(sections: SectionEntry[], all: SectionEntry[]): SectionEntry[][] {
  const runs: SectionEntry[][] = [];
  for (const section of sections) {
    const run = runs[runs.length - 1];
    if (run && all[all.indexOf(section) - 1] === run[run.length - 1]) run.push(section);
    else runs.push([section]);
  }
  return runs;
}

/** Bytes `start` to `end` - 1 of a file whose first ones are `held`. */
async function bytesFrom(
  access: RandomAccess,
  held: Uint8Array,
  { start, end }: { start: number; end: number },
  name: string,
): Promise<Uint8Array> {
  if (end <= held.length) return held.subarray(start, end);
  const from = Math.max(start, held.length);
  const rest = await access.read(from, end - from);
  if (rest.length < end - from) {
    throw new FormatError(`${name}: expected ${end} bytes, got ${from + rest.length}`, from + rest.length);
  }
  return joinChunks([held.subarray(start, from), rest]);
}

/** Bytes of a section. */
export type SectionBytes = (entry: SectionEntry) => Uint8Array;

/** `bytes` hold the file from its start on. */
const sectionsOf =
  (bytes: Uint8Array): SectionBytes =>
  ({ offset, bytes: count }) =>
    bytes.subarray(offset, offset + count);

export class OpenArchive {
  readonly head: Head;
  readonly name: string;
  /** Holds the basis rows of the archive; undefined where it has its own. */
  readonly profile: CodedCache | undefined;
  readonly #bytesOf: SectionBytes;

  constructor(head: Head, name: string, bytesOf: SectionBytes, profile?: CodedCache) {
    const named = head.shape.profile;
    this.profile = named === undefined ? undefined : expectProfile(named, profile, name);
    this.head = head;
    this.name = name;
    this.#bytesOf = bytesOf;
  }

  /** The section whose checksum is right, or undefined where there is none of that name. */
  #open(kind: SectionKind, layer?: number): ByteReader | undefined {
    const entry = this.head.sections.find((section) => section.kind === kind && section.layer === layer);
    if (!entry) return undefined;
    const bytes = this.#bytesOf(entry);
    const where = `${this.name}: ${describeSection(entry)}`;
    const crc = crc32c(bytes);
    if (crc !== entry.crc32c) {
      throw new FormatError(`${where}: checksum: expected ${hex32(entry.crc32c)}, got ${hex32(crc)}`, entry.offset);
    }
    return new ByteReader(bytes, entry.offset, entry.offset + entry.bytes, where, entry.offset);
  }

  rotary(): Rotary {
    const { shape, layout, pairs, fingerprint } = this.head;
    const section = this.#open("frequencies")!;
    const rotary: Rotary = { layout, frequencies: section.f64(pairs, "frequencies") };
    expectEnd(section);
    asFormatError(section.where, section.at - 8 * pairs, () => checkRotary(rotary, shape.geometry.headDim));
    const got = fingerprintOf({ ...shape, rotary });
    if (got !== fingerprint) {
      const message = `${this.name}: fingerprint: expected "${got}", got ${brief(fingerprint)}`;
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
    const rest = this.#open(`${role}-rest`, layer);
    const { version } = this.head;
    const counts = this.head.segments[layer];
    const all = counts.map((tokens, i) => {
      const place = placeOf(this.head.shape, role, tokens);
      const groups: CodedGroup[] = [];
      for (let next = 0; next < place.kvHeads; ) {
        const prefix = `${counts.length > 1 ? `segment ${i}: ` : ""}group ${groups.length}: `;
        const group = readGroup(section, next, { place, version, rest, prefix });
        groups.push(group);
        next += group.headCount;
      }
      return groups;
    });
    expectEnd(section);
    if (rest) expectEnd(rest);
    return all;
  }
}

function expectEnd(section: ByteReader): void {
  if (section.left !== 0) {
    throw new FormatError(`${section.where}: expected its end here, got ${section.left} more bytes`, section.at);
  }
}
