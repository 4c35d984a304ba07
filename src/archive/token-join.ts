/** Chunks of tokens back to a cache. Checked as an archive is: checksums, then the header, then every number. */
import { joinChunks } from "../codec/chunks.ts";
import { type CodedCache, type CodedGroup, type CodedSegment, layerOfSegments } from "../codec/coded.ts";
import { countWidths } from "../codec/layout.ts";
import type { Rotary, RotaryLayout } from "../codec/rotary.ts";
import { ELEMENT_BYTES } from "../codec/source.ts";
import { brief, FormatError } from "../errors.ts";
import { type CacheShape, expectLayers, type Fail, placeOf, planesBytes, shapeOfLayers } from "./check.ts";
import { fingerprintOf } from "./checksum.ts";
import { ByteReader } from "./cursor.ts";
import { ARCHIVE_VERSIONS } from "./format.ts";
import { readGroup } from "./group-reader.ts";
import { asFormatError, isCount, readRotary, readShape } from "./header.ts";
import { type ChunkHeader, openTokenChunks, type SharedHeader } from "./token-chunk.ts";
import { chunksOf } from "./writer.ts";

/** Bytes of a group's codes as chunks bring them: norms, planes, both parts of a stream. */
interface Growing {
  group: CodedGroup;
  norms: Uint8Array[];
  planes: Uint8Array[];
  parts: [Uint8Array[], Uint8Array[]];
}

interface GrowingSegment {
  tokens: number;
  keys: Growing[];
  values: Growing[];
}

/** Sinks, and recent tokens, of a layer: (kvHeads, tokens, headDim). */
interface Exact {
  keys: Uint8Array[];
  values: Uint8Array[];
}

/**
 * The cache of the first chunks that `splitByTokens` made, one after the other; of all of them, the cache that
 * was split. Without the last chunk a cache has no recent tokens. Throws FormatError for anything else. `layers`: only
 * these, as `openArchive` takes them; of the others no more is looked at than where they end.
 */
export function joinTokenChunks(
  given: Uint8Array | readonly Uint8Array[],
  name = "chunks",
  options: { layers?: readonly number[] } = {},
): CodedCache {
  const bytes = given instanceof Uint8Array ? given : joinChunks(given);
  const chunks = openTokenChunks(bytes, name);
  const headers = chunks.map(({ header, start }, i) => checkHeader(header, i, start, name));
  const { shared, shape } = shapeOf(headers, name);
  const wanted = expectLayers(options.layers, shape.geometry.layerCount);
  const layers = shape.layerNumbers.map((_, i) => ({
    ...{ segments: [] as GrowingSegment[], exact: { keys: [], values: [] }, isWanted: wanted.includes(i) },
  }));
  const tokens = headers[0].hasTokens ? new Int32Array(Math.min(shape.tokenCount, bytes.length / 4)) : undefined;
  const rotary: Rotary = { layout: shared.rotary.layout as RotaryLayout, frequencies: new Float64Array(0) };
  chunks.forEach((chunk, i) => {
    const body = new ByteReader(bytes, chunk.bodyStart, chunk.end, `${name}: chunk ${i}`);
    const header = headers[i];
    if (i === 0) rotary.frequencies = body.f64(shared.rotary.pairs, "frequencies");
    const count = header.tokenTo - header.tokenFrom;
    if (tokens) tokens.set(body.i32(count, "tokens"), header.tokenFrom);
    layers.forEach((layer, l) => {
      const take: Take = (bytes, part) => (layer.isWanted ? body.u8(bytes, part) : body.pass(bytes, part));
      readPieces(body, header.pieces[l], layer.segments, shape, take);
      readExact(take, (i === 0 ? shape.sinks : 0) + header.recent, layer.exact, shape);
    });
    if (body.left > 0) fail(body.where, "body", "its end here", `${body.left} more bytes`, body.at);
  });
  const cache = {
    ...shapeOfLayers(shape, wanted),
    rotary,
    ...(tokens && { tokens }),
    layers: wanted
      .map((layer) => layers[layer])
      .map(({ segments, exact }) => ({
        ...layerOfSegments(segments.map(grown)),
        exactKeys: joinHeads(exact.keys, shape.geometry.kvHeads),
        exactValues: joinHeads(exact.values, shape.geometry.kvHeads),
      })),
  };
  // Whatever an archive is asked: sizes, widths, finite numbers, free places.
  asFormatError(name, 0, () => chunksOf(cache));
  const fingerprint = fingerprintOf({ ...shape, rotary });
  if (fingerprint !== shared.fingerprint) fail(name, "fingerprint", fingerprint, shared.fingerprint, 0);
  return cache;
}

function fail(where: string, what: string, expected: string, got: unknown, at: number): never {
  throw new FormatError(`${where}: ${what}: expected ${expected}, got ${brief(got)}`, at);
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const isPiece = (piece: unknown): boolean =>
  Array.isArray(piece) && piece.length === 2 && (piece[0] === 0 || piece[0] === 1) && isCount(piece[1]);

function checkHeader(header: unknown, index: number, start: number, name: string): ChunkHeader {
  const where = `${name}: chunk ${index}: header`;
  if (!isObject(header)) return fail(where, "JSON", "an object", header, start);
  for (const field of ["tokenFrom", "tokenTo", "recent"]) {
    if (!isCount(header[field])) fail(where, field, "an integer, not negative", header[field], start);
  }
  if (typeof header.hasTokens !== "boolean") fail(where, "hasTokens", "true or false", header.hasTokens, start);
  const { pieces } = header;
  if (!Array.isArray(pieces) || !pieces.every((all) => Array.isArray(all) && all.every(isPiece))) {
    fail(where, "pieces", "of each layer arrays of [0 or 1, tokens]", pieces, start);
  }
  if (isObject(header.shared) !== (index === 0)) {
    fail(where, "shared", index === 0 ? "an object in the first chunk" : "none after it", header.shared, start);
  }
  return header as unknown as ChunkHeader;
}

/** Chunks follow one another; only the last has recent tokens. */
function shapeOf(headers: ChunkHeader[], name: string): { shared: SharedHeader; shape: CacheShape } {
  const shared = headers[0].shared as SharedHeader;
  const last = headers[headers.length - 1];
  const failShape: Fail = (what, expected, got) => fail(`${name}: header`, what, expected, got, 0);
  const fields = { ...shared, tokenCount: last.tokenTo, recent: last.recent };
  const shape = readShape(fields, `${name}: header`, 0, failShape);
  const { layerCount, headDim } = shape.geometry;
  readRotary(shared.rotary, headDim, failShape);
  headers.forEach(({ tokenFrom, tokenTo, recent: exact, hasTokens, pieces }, i) => {
    const failChunk: Fail = (what, expected, got) => fail(`${name}: chunk ${i}: header`, what, expected, got, 0);
    const start = i === 0 ? 0 : headers[i - 1].tokenTo;
    if (tokenFrom !== start || tokenTo < start) failChunk("tokens", `from ${start} on`, `${tokenFrom} to ${tokenTo}`);
    if (i < headers.length - 1 && exact > 0) failChunk("recent", "0 before the last chunk", exact);
    if (hasTokens !== headers[0].hasTokens) failChunk("hasTokens", `${headers[0].hasTokens}`, hasTokens);
    if (pieces.length !== layerCount) failChunk("pieces", `${layerCount} layers`, pieces.length);
  });
  return { shared, shape };
}

/** So many bytes of a body: a copy, or none where they are not wanted. */
type Take = (count: number, part: string) => Uint8Array;
function readPieces(
  body: ByteReader,
  pieces: ChunkHeader["pieces"][0],
  segments: GrowingSegment[],
  shape: CacheShape,
  take: Take,
): void {
  for (const [begins, tokens] of pieces) {
    if (begins)
      segments.push({ tokens: 0, keys: readGroups(body, "keys", shape), values: readGroups(body, "values", shape) });
    const segment = segments[segments.length - 1];
    if (!segment) fail(body.where, "pieces", "a segment that begins", "one that goes on", body.at);
    for (const growing of [...segment.keys, ...segment.values]) readCodes(body, growing, tokens, take);
    segment.tokens += tokens;
  }
}

function readGroups(body: ByteReader, role: "keys" | "values", shape: CacheShape): Growing[] {
  const place = placeOf(shape, role, 0);
  const groups: Growing[] = [];
  for (let next = 0; next < place.kvHeads; ) {
    const prefix = `${role}: group ${groups.length}: `;
    const group = readGroup(body, next, { place, version: ARCHIVE_VERSIONS.streams, rest: body, prefix });
    groups.push({ group, norms: [], planes: [], parts: [[], []] });
    next += group.headCount;
  }
  return groups;
}

function readCodes(body: ByteReader, { group, norms, planes, parts }: Growing, tokens: number, take: Take): void {
  if (group.norms) norms.push(take(tokens, "norms"));
  if (!group.stream) {
    planes.push(take(planesBytes(countWidths(group.books.map(({ width }) => width)), tokens), "planes"));
    return;
  }
  for (const part of parts) part.push(take(body.u32(1, "stream")[0], "stream"));
}

function readExact(take: Take, tokens: number, exact: Exact, { geometry, exactType }: CacheShape): void {
  const bytes = geometry.kvHeads * tokens * geometry.headDim * ELEMENT_BYTES[exactType];
  exact.keys.push(take(bytes, "exact keys"));
  exact.values.push(take(bytes, "exact values"));
}

function grown({ tokens, keys, values }: GrowingSegment): CodedSegment {
  const whole = ({ group, norms, planes, parts }: Growing): CodedGroup => ({
    ...group,
    planes: joinChunks(planes),
    ...(group.norms && { norms: { ...group.norms, codes: joinChunks(norms) } }),
    ...(group.stream && { stream: { ...group.stream, parts: [joinChunks(parts[0]), joinChunks(parts[1])] } }),
  });
  return { tokens, keys: keys.map(whole), values: values.map(whole) };
}

/** Tensors (heads, …) side by side in every head. */
function joinHeads(tensors: Uint8Array[], heads: number): Uint8Array {
  const ofHead = (head: number) =>
    tensors.map((bytes) => bytes.subarray((head * bytes.length) / heads, ((head + 1) * bytes.length) / heads));
  return joinChunks(Array.from({ length: heads }, (_, head) => joinChunks(ofHead(head))));
}
