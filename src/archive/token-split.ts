/**
 * An archive cut by tokens: chunks that a longer archive on the same bases shares, for stores that hold equal chunks
 * once. docs/format.md, "Chunks of tokens", says them byte by byte.
 */
import { joinChunks } from "../codec/chunks.ts";
import {
  type CodedCache,
  type CodedGroup,
  type CodedLayer,
  type CodedSegment,
  codedTokens,
  segmentsOf,
} from "../codec/coded.ts";
import { BLOCK_TOKENS, countWidths, PLANE_BYTES, planeCount, RANGE_TOKENS } from "../codec/layout.ts";
import { ELEMENT_BYTES } from "../codec/source.ts";
import { endsOfHeads } from "../codec/tensors.ts";
import { expectInteger, expectOptions } from "../errors.ts";
import { ByteWriter } from "./cursor.ts";
import { groupBytes, restBytes } from "./group-writer.ts";
import { type ChunkHeader, encodeTokenChunk, type Piece, sharedOf } from "./token-chunk.ts";
import { chunksOf } from "./writer.ts";

/** Tokens `tokenFrom` to `tokenTo` - 1 of an archive, as `PrefixStore.put` takes them. */
export interface TokenChunk {
  tokenFrom: number;
  tokenTo: number;
  bytes: Uint8Array;
}

export interface SplitOptions {
  /** Coded tokens a chunk, a multiple of 32. Default: 256, and 1,024 where codes are streams, which are cut there only. */
  chunkTokens?: number;
}

/**
 * Cuts a cache into chunks in the order of its tokens. The first n chunks of an archive make a cache by themselves
 * (`joinTokenChunks`), all of them the same cache. An archive that a live cache grew on, or that `extendCache` extended,
 * has all of its chunks but the last in the longer one. Throws RangeError for a cache that is not sound.
 */
export function splitByTokens(cache: CodedCache, options: SplitOptions = {}): TokenChunk[] {
  expectOptions("options", options, ["chunkTokens"]);
  // Asks whether the cache is sound, as for an archive.
  chunksOf(cache);
  const coded = codedTokens(cache);
  const layers = cache.layers.map((layer) => segmentsOf(layer, coded));
  const isStream = layers.flat().some((segment) => unitOf(segment) === RANGE_TOKENS);
  const chunkTokens = expectInteger("chunkTokens", options.chunkTokens ?? (isStream ? 1024 : 256), 32, 1 << 24);
  if (chunkTokens % BLOCK_TOKENS !== 0) {
    throw new RangeError(`chunkTokens: expected a multiple of ${BLOCK_TOKENS}, got ${chunkTokens}`);
  }
  const ends = cutsOf(layers, coded, chunkTokens).filter((cut) => cut + cache.sinks < cache.tokenCount);
  const chunks: TokenChunk[] = [];
  let [from, link] = [0, 0];
  for (const to of [...ends, coded]) {
    const made = chunkOf(cache, layers, from, to, chunks.length === ends.length, link);
    chunks.push(made.chunk);
    [from, link] = [to, made.crc];
  }
  return chunks;
}

/** Coded tokens after which every layer can be cut: its segment ends, or a block or range code of it. */
function cutsOf(layers: CodedSegment[][], coded: number, chunkTokens: number): number[] {
  const cuts: number[] = [];
  for (let cut = chunkTokens; cut <= coded; cut += chunkTokens) {
    if (layers.every((segments) => isClean(segments, cut))) cuts.push(cut);
  }
  return cuts;
}

function isClean(segments: CodedSegment[], cut: number): boolean {
  let start = 0;
  for (const segment of segments) {
    const end = start + segment.tokens;
    if (cut > start && cut < end) return (cut - start) % unitOf(segment) === 0;
    start = end;
  }
  return true;
}

const unitOf = ({ keys, values }: CodedSegment): number =>
  [...keys, ...values].some(({ stream }) => stream) ? RANGE_TOKENS : BLOCK_TOKENS;

/** Coded tokens `from` to `to` - 1, with the sinks before the first and the recent tokens behind the last. */
function chunkOf(
  cache: CodedCache,
  layers: CodedSegment[][],
  from: number,
  to: number,
  isLast: boolean,
  link: number,
): { chunk: TokenChunk; crc: number } {
  const isFirst = from === 0;
  const [sinks, recent] = [isFirst ? cache.sinks : 0, isLast ? cache.recent : 0];
  const tokenFrom = isFirst ? 0 : cache.sinks + from;
  const tokenTo = isLast ? cache.tokenCount : cache.sinks + to;
  const cuts = layers.map((segments) => slicesOf(segments, from, to, isLast));
  const header: ChunkHeader = {
    ...(isFirst && { shared: sharedOf(cache) }),
    ...{ tokenFrom, tokenTo, recent, hasTokens: cache.tokens !== undefined },
    pieces: cuts.map((slices) => slices.map(({ begins, first, end }): Piece => [begins ? 1 : 0, end - first])),
  };
  const body: Uint8Array[] = [];
  if (isFirst) body.push(written(8 * cache.rotary.frequencies.length, (out) => out.f64(cache.rotary.frequencies)));
  const tokens = cache.tokens?.subarray(tokenFrom, tokenTo);
  if (tokens) body.push(written(4 * tokens.length, (out) => out.i32(tokens)));
  cache.layers.forEach((layer, i) => {
    for (const slice of cuts[i]) body.push(...sliceBytes(slice, cache.geometry.headDim));
    body.push(...exactOf(cache, layer, sinks, recent));
  });
  const { bytes, crc } = encodeTokenChunk(header, link, joinChunks(body));
  return { chunk: { tokenFrom, tokenTo, bytes }, crc };
}

/** Tokens `first` to `end` - 1 of a segment; begins: its bases come with them. */
interface Slice {
  segment: CodedSegment;
  begins: boolean;
  first: number;
  end: number;
}

function slicesOf(segments: CodedSegment[], from: number, to: number, isLast: boolean): Slice[] {
  const slices: Slice[] = [];
  let start = 0;
  for (const segment of segments) {
    const begins = start >= from && (start < to || isLast);
    const first = Math.max(from - start, 0);
    const end = Math.min(to - start, segment.tokens);
    if (begins || first < end) slices.push({ segment, begins, first, end });
    start += segment.tokens;
  }
  return slices;
}

function sliceBytes({ segment, begins, first, end }: Slice, headDim: number): Uint8Array[] {
  const bytes: Uint8Array[] = [];
  for (const groups of begins ? [segment.keys, segment.values] : []) {
    for (const group of groups.map(withoutCodes)) {
      bytes.push(groupBytes(group, group.headCount * headDim));
      if (group.stream) bytes.push(restBytes(group, group.headCount * headDim));
    }
  }
  for (const group of [...segment.keys, ...segment.values]) bytes.push(...codesOf(group, first, end));
  return bytes;
}

const NONE = new Uint8Array(0);

/** The group of no tokens. */
export const withoutCodes = (group: CodedGroup): CodedGroup => ({
  ...group,
  planes: NONE,
  ...(group.norms && { norms: { ...group.norms, codes: NONE } }),
  ...(group.stream && { stream: { leading: group.stream.leading, parts: [NONE, NONE] } }),
});

function codesOf({ books, norms, planes, stream }: CodedGroup, first: number, end: number): Uint8Array[] {
  const bytes = norms ? [norms.codes.subarray(first, end)] : [];
  if (stream) return [...bytes, ...stream.parts.flatMap((part) => rangeCodesOf(part, first, end))];
  const block = planeCount(countWidths(books.map(({ width }) => width))) * PLANE_BYTES;
  const blockAfter = Math.ceil(end / BLOCK_TOKENS);
  return [...bytes, planes.subarray((first / BLOCK_TOKENS) * block, blockAfter * block)];
}

/** Range codes of these tokens, behind their bytes as u32. */
function rangeCodesOf(stream: Uint8Array, first: number, end: number): Uint8Array[] {
  const view = new DataView(stream.buffer, stream.byteOffset, stream.byteLength);
  const starts = [0];
  for (let at = 0; at + 4 <= stream.length; ) {
    at = Math.min(stream.length, at + 4 + view.getUint32(at, true));
    starts.push(at);
  }
  const startOf = (token: number) => starts[Math.min(Math.ceil(token / RANGE_TOKENS), starts.length - 1)];
  const codes = stream.subarray(startOf(first), startOf(end));
  return [written(4, (out) => out.i32([codes.length])), codes];
}

/** The first `sinks` and the last `recent` exact tokens of every head. */
function exactOf({ geometry, exactType }: CodedCache, layer: CodedLayer, sinks: number, recent: number): Uint8Array[] {
  const tokenBytes = geometry.headDim * ELEMENT_BYTES[exactType];
  return [layer.exactKeys, layer.exactValues].map((bytes) =>
    endsOfHeads(bytes, geometry.kvHeads, sinks * tokenBytes, recent * tokenBytes),
  );
}

function written(size: number, write: (out: ByteWriter) => void): Uint8Array {
  const out = new ByteWriter(size);
  write(out);
  return out.bytes;
}
