/**
 * What a sound cache looks like. Writer and reader ask the same questions, so what is written can be read: the writer
 * throws the answers as RangeErrors, the reader as FormatErrors.
 */
import { isSpan, MAX_SPAN } from "../codec/anchors.ts";
import type { CodedCache, CodedGroup } from "../codec/coded.ts";
import { checkGeometry } from "../codec/geometry.ts";
import { fromHalf } from "../codec/half.ts";
import {
  BLOCK_TOKENS,
  blockCount,
  countWidths,
  PLANE_BYTES,
  planeCount,
  usedNibbles,
  type WidthCounts,
} from "../codec/layout.ts";
import { normLevels } from "../codec/norms.ts";
import { ELEMENT_BYTES } from "../codec/source.ts";
import { brief, expectInteger } from "../errors.ts";
import { fitsWidth } from "./bits.ts";
import { BOOK_KINDS } from "./format.ts";

/** Throws an error that says `what: expected …, got …`. */
export type Fail = (what: string, expected: string, got: unknown) => never;

/** What a group's sizes depend on. */
export interface GroupPlace {
  role: "keys" | "values";
  kvHeads: number;
  headDim: number;
  codedTokens: number;
  /** Basis rows are numbers in a profile. */
  inProfile: boolean;
}

const MAX_COUNT = 0x7fffffff;
const isIntegerIn = (value: unknown, low: number, high: number): value is number =>
  typeof value === "number" && Number.isInteger(value) && value >= low && value <= high;
/** f32 holds the number exactly. */
const isF32 = (value: number): boolean => Number.isFinite(value) && Math.fround(value) === value;

export interface CacheShape
  extends Pick<
    CodedCache,
    "geometry" | "layerNumbers" | "model" | "tokenCount" | "sinks" | "recent" | "exactType" | "anchorSpan"
  > {
  /** Fingerprint of the profile that holds the basis rows (profile-rows.ts). */
  profile?: string;
}

/** Everything but rotary, tokens and layers. */
export function checkShape(shape: CacheShape, fail: Fail): void {
  for (const [name, value] of Object.entries(shape.geometry)) {
    if (typeof value !== "number") fail(`geometry.${name}`, "an integer", value);
  }
  checkGeometry(shape.geometry);
  const { model, layerNumbers, tokenCount, sinks, recent, exactType, anchorSpan } = shape;
  if (typeof model !== "string") fail("model", "a string", model);
  if (!Array.isArray(layerNumbers) || layerNumbers.length !== shape.geometry.layerCount) {
    fail("layerNumbers", `${shape.geometry.layerCount} numbers`, layerNumbers);
  }
  layerNumbers.forEach((n, i) => {
    if (!isIntegerIn(n, 0, 65535)) fail(`layerNumbers[${i}]`, "an integer from 0 to 65535", n);
  });
  if (new Set(layerNumbers).size !== layerNumbers.length) fail("layerNumbers", "numbers that differ", layerNumbers);
  // A profile has bases and no tokens.
  if (!isIntegerIn(tokenCount, 0, MAX_COUNT)) fail("tokenCount", `an integer from 0 to ${MAX_COUNT}`, tokenCount);
  if (!isIntegerIn(sinks, 0, tokenCount)) fail("sinks", `an integer from 0 to ${tokenCount}`, sinks);
  if (!isIntegerIn(recent, 0, tokenCount - sinks)) {
    fail("recent", `an integer from 0 to ${tokenCount - sinks}`, recent);
  }
  if (typeof exactType !== "string" || !Object.hasOwn(ELEMENT_BYTES, exactType)) {
    fail("exactType", '"f32", "f16" or "bf16"', exactType);
  }
  const isList = Array.isArray(anchorSpan);
  for (const [i, span] of (isList ? anchorSpan : [anchorSpan]).entries()) {
    if (span === null || isSpan(span)) continue;
    fail(isList ? `anchorSpan[${i}]` : "anchorSpan", `null or a power of two up to ${MAX_SPAN}`, span);
  }
}

/** A list of spans has one for each rotary pair, not all alike: those are written as one number. */
export function checkPairSpans({ anchorSpan }: Pick<CacheShape, "anchorSpan">, pairs: number, fail: Fail): void {
  if (anchorSpan === null || typeof anchorSpan === "number") return;
  if (anchorSpan.length !== pairs) fail("anchorSpan", `${pairs} spans, one for each rotary pair`, anchorSpan);
  if (new Set(anchorSpan).size < 2) fail("anchorSpan", "spans that differ, or one number", anchorSpan);
}

/** Coded tokens of each segment of a layer: they make up all coded tokens. */
export function checkSegments(tokens: unknown, coded: number, fail: Fail): asserts tokens is number[] {
  if (!Array.isArray(tokens) || tokens.length === 0) fail("segments", "at least one number of tokens", tokens);
  let left = coded;
  (tokens as unknown[]).forEach((count, i) => {
    if (!isIntegerIn(count, 0, left)) fail(`segments[${i}]`, `an integer from 0 to ${left}`, count);
    left -= count;
  });
  if (left !== 0) fail("segments", `${coded} tokens in all`, coded - left);
}

export const placeOf = (shape: CacheShape, role: GroupPlace["role"], segmentTokens: number): GroupPlace => ({
  role,
  kvHeads: shape.geometry.kvHeads,
  headDim: shape.geometry.headDim,
  codedTokens: segmentTokens,
  inProfile: shape.profile !== undefined,
});

/** Bytes of the exact keys, or values, of a layer. */
export const exactBytes = ({ geometry, sinks, recent, exactType }: CacheShape): number =>
  geometry.kvHeads * (sinks + recent) * geometry.headDim * ELEMENT_BYTES[exactType];

/** Heads of the next group: groups follow one another until every kv head has been named once. */
export function checkHeads(
  group: Pick<CodedGroup, "firstHead" | "headCount">,
  next: number,
  kvHeads: number,
  fail: Fail,
) {
  if (group.firstHead !== next) fail("firstHead", String(next), group.firstHead);
  if (!isIntegerIn(group.headCount, 1, kvHeads - next)) {
    fail("headCount", `an integer from 1 to ${kvHeads - next}`, group.headCount);
  }
}

/** Widths of the books, before a size depends on them. */
export function checkWidths(widths: ArrayLike<number>, dim: number, fail: Fail): void {
  if (widths.length > dim) fail("books", `at most ${dim} channels`, widths.length);
  let before = 8;
  for (let i = 0; i < widths.length; i++) {
    const width = widths[i];
    if (width !== 1 && width !== 2 && width !== 4 && width !== 8) fail(`books[${i}].width`, "1, 2, 4 or 8", width);
    if (width > before) fail(`books[${i}].width`, `falling widths, at most ${before}`, width);
    before = width;
  }
}

export function checkBasisWidths(widths: Uint8Array, channels: number, inProfile: boolean, fail: Fail): void {
  if (widths.length !== channels) fail("basis.widths", `${channels} widths`, widths.length);
  widths.forEach((width, i) => {
    if (inProfile && width !== 0) fail(`basis.widths[${i}]`, "0 where rows lie in a profile", width);
    if (!inProfile && !isIntegerIn(width, 2, 12)) fail(`basis.widths[${i}]`, "an integer from 2 to 12", width);
  });
}

/** Planes, in bytes, of all coded tokens. */
export const planesBytes = (counts: WidthCounts, tokens: number): number =>
  blockCount(tokens) * planeCount(counts) * PLANE_BYTES;

/** A group whose heads are checked. */
export function checkGroup(group: CodedGroup, place: GroupPlace, fail: Fail): void {
  const dim = group.headCount * place.headDim;
  const channels = group.books.length;
  const widths = group.books.map((book) => book.width);
  checkWidths(widths, dim, fail);
  group.books.forEach(({ width, kind, scale, offset }, i) => {
    if (!BOOK_KINDS.includes(kind)) fail(`books[${i}].kind`, '"normal" or "uniform"', kind);
    // Lloyd-Max centroids are known up to 4 bits; levels rise.
    if (kind === "normal" && width === 8) fail(`books[${i}].kind`, '"uniform" at width 8', kind);
    if (!isF32(scale) || scale < 0) fail(`books[${i}].scale`, "a finite f32, not negative", scale);
    if (!isF32(offset)) fail(`books[${i}].offset`, "a finite f32", offset);
  });
  checkBasis(group, channels, dim, place.inProfile, fail);
  if (place.role === "keys") checkCentre(group, dim, fail);
  else checkNorms(group, place.codedTokens, fail);
  if (group.stream) checkStream(group, fail);
  else checkPlanes(group.planes, countWidths(widths), place.codedTokens, fail);
}

function checkPlanes(planes: Uint8Array, counts: WidthCounts, tokens: number, fail: Fail): void {
  const bytes = planesBytes(counts, tokens);
  if (planes.length !== bytes) fail("planes", `${bytes} bytes`, planes.length);
  checkFreePlaces(planes, counts, tokens, fail);
}

/** Codes are looked at when they are decoded (codec/streams.ts). */
function checkStream({ stream, planes, books }: CodedGroup, fail: Fail): void {
  const { leading, parts } = stream!;
  if (planes.length > 0) fail("planes", "none beside a stream", `${planes.length} bytes`);
  if (!isIntegerIn(leading, 0, books.length)) fail("stream.leading", `0 to ${books.length} channels`, leading);
  const counts = [leading, books.length - leading];
  parts.forEach((part, i) => {
    if (counts[i] === 0 && part.length > 0) fail(`stream.parts[${i}]`, "no bytes of no channels", part.length);
  });
}

function checkBasis({ basis }: CodedGroup, channels: number, dim: number, inProfile: boolean, fail: Fail): void {
  checkBasisWidths(basis.widths, channels, inProfile, fail);
  if (basis.scales.length !== channels) fail("basis.scales", `${channels} scales`, basis.scales.length);
  basis.scales.forEach((scale, i) => {
    if (!Number.isFinite(scale)) fail(`basis.scales[${i}]`, "a finite number", scale);
  });
  if (basis.codes.length !== channels * dim) fail("basis.codes", `${channels * dim} codes`, basis.codes.length);
  const { columnScales } = basis;
  if (columnScales && columnScales.length !== dim) fail("basis.columnScales", `${dim} elements`, columnScales.length);
  // A positive, finite f16: not zero, no sign, exponent below 31.
  const bad = columnScales?.findIndex((bits) => bits === 0 || bits >= 0x7c00) ?? -1;
  if (bad >= 0) fail(`basis.columnScales[${bad}]`, "a positive finite f16", fromHalf(columnScales![bad]));
  for (let c = 0, i = 0; c < channels; c++) {
    const width = basis.widths[c];
    for (const end = i + dim; i < end; i++) {
      if (!fitsWidth(basis.codes[i], width))
        fail(`basis.codes[${i}]`, `a signed code of ${width} bits`, basis.codes[i]);
    }
  }
}

function checkCentre({ centre, norms }: CodedGroup, dim: number, fail: Fail): void {
  if (norms) fail("norms", "none in a group of keys", `${norms.codes.length} codes`);
  if (centre?.length !== dim) fail("centre", `${dim} elements`, centre?.length);
  const bad = centre.findIndex((bits) => (bits & 0x7c00) === 0x7c00);
  if (bad >= 0) fail(`centre[${bad}]`, "a finite f16", fromHalf(centre[bad]));
}

function checkNorms({ centre, norms }: CodedGroup, tokens: number, fail: Fail): void {
  if (centre) fail("centre", "none in a group of values", `${centre.length} elements`);
  if (norms?.codes.length !== tokens) fail("norms.codes", `${tokens} codes`, norms?.codes.length);
  const { least, step } = norms;
  if (!isF32(least) || least < 0) fail("norms.least", "a finite f32, not negative", least);
  if (!isF32(step) || step < 1) fail("norms.step", "a finite f32 of at least 1", step);
  if (!Number.isFinite(normLevels(norms).at(-1))) fail("norms", "a greatest level in f32", `${least} * ${step}^255`);
}

/** Free places hold zero codes: places without a channel in each last plane, and tokens past the end of the last block. */
function checkFreePlaces(planes: Uint8Array, counts: WidthCounts, tokens: number, fail: Fail): void {
  const blockPlanes = planeCount(counts);
  const check = (plane: number, byte: number, freeNibbles: number) => {
    const value = planes[plane * PLANE_BYTES + byte];
    if (value & freeNibbles) fail(`planes, byte ${plane * PLANE_BYTES + byte}`, "zero codes in free places", value);
  };
  const last2 = 2 * counts.count8 + counts.count4 + Math.ceil(counts.count2 / 2) - 1;
  const free1 = counts.count1 % 4 === 0 ? 0 : (0xf << (counts.count1 % 4)) & 0xf;
  for (let plane = 0; plane < blockCount(tokens) * blockPlanes; plane += blockPlanes) {
    for (let byte = 0; byte < PLANE_BYTES; byte++) {
      if (counts.count2 % 2) check(plane + last2, byte, 0xcc);
      if (free1) check(plane + blockPlanes - 1, byte, free1 | (free1 << 4));
    }
  }
  const used = tokens % BLOCK_TOKENS;
  if (used === 0) return;
  for (let plane = (blockCount(tokens) - 1) * blockPlanes; plane < blockCount(tokens) * blockPlanes; plane++) {
    for (let byte = 0; byte < PLANE_BYTES; byte++) check(plane, byte, 0xff & ~usedNibbles(byte, used));
  }
}

/** Exact keys or values: their size, and no NaN or infinity, which attention would spread over every token. */
export function checkExact(bytes: Uint8Array, shape: CacheShape, fail: Fail): void {
  const expected = exactBytes(shape);
  if (bytes.length !== expected) fail("length", `${expected} bytes`, bytes.length);
  const size = ELEMENT_BYTES[shape.exactType];
  // The exponent of all three types lies in the last two bytes: 5 bits for f16, 8 for bf16 and f32.
  const exponent = shape.exactType === "f16" ? 0x7c00 : 0x7f80;
  for (let at = size; at <= bytes.length; at += size) {
    const high = bytes[at - 2] | (bytes[at - 1] << 8);
    if ((high & exponent) === exponent) fail(`element ${at / size - 1}`, "a finite number", "NaN or infinity");
  }
}

/** Indices of layers to read, all unless given; RangeError for any that a cache does not hold. */
export function expectLayers(layers: readonly number[] | undefined, layerCount: number): number[] {
  const all = Array.from({ length: layerCount }, (_, i) => i);
  if (layers === undefined) return all;
  if (!Array.isArray(layers) || layers.length === 0)
    throw new RangeError(`layers: expected some, got ${brief(layers)}`);
  for (const [i, layer] of layers.entries()) {
    if (expectInteger(`layers[${i}]`, layer, 0, layerCount - 1) <= (layers[i - 1] ?? -1)) {
      throw new RangeError(`layers: expected rising numbers, got ${brief(layer)} after ${layers[i - 1]}`);
    }
  }
  return [...layers];
}

/** The shape of some layers of a cache alone. */
export const shapeOfLayers = <T extends CacheShape>(shape: T, layers: number[]): T => ({
  ...shape,
  geometry: { ...shape.geometry, layerCount: layers.length },
  layerNumbers: layers.map((layer) => shape.layerNumbers[layer]),
});
