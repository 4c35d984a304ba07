/** Bytes to head groups: GROUP of format.ts. Widths are checked before a size depends on them, the whole group at the end. */
import type { ChannelBook, CodedBasis, CodedGroup } from "../codec/coded.ts";
import { countWidths } from "../codec/layout.ts";
import { brief, FormatError } from "../errors.ts";
import { packedRowBytes, unpackRow } from "./bits.ts";
import {
  checkBasisWidths,
  checkGroup,
  checkHeads,
  checkWidths,
  type Fail,
  type GroupPlace,
  planesBytes,
} from "./check.ts";
import type { ByteReader } from "./cursor.ts";
import { ARCHIVE_VERSIONS, BOOK_KINDS, GROUP } from "./format.ts";

/** What a group's bytes depend on besides them. */
export interface GroupContext {
  place: GroupPlace;
  version: number;
  /** The next section of the same role with the channels that do not lead; undefined where it is left out. */
  rest: ByteReader | undefined;
  /** Put before each message. */
  prefix: string;
}

export const failAt =
  (section: ByteReader, prefix: string, at: number): Fail =>
  (what, expected, got) => {
    throw new FormatError(`${section.where}: ${prefix}${what}: expected ${expected}, got ${brief(got)}`, at);
  };

/** The group that starts with kv head `nextHead`. */
export function readGroup(section: ByteReader, nextHead: number, context: GroupContext): CodedGroup {
  const { place, prefix, rest } = context;
  const fail = failAt(section, prefix, section.at);
  const [firstHead, headCount, channels, flags] = section.u16(4, `${prefix}head`);
  checkHeads({ firstHead, headCount }, nextHead, place.kvHeads, fail);
  const streamsToo = context.version >= ARCHIVE_VERSIONS.streams ? GROUP.flagStreams : 0;
  const known = GROUP.flagOffsets | GROUP.flagColumns | streamsToo;
  if ((flags & ~known) !== 0) fail("flags", `0 to ${known}`, flags);
  const dim = headCount * place.headDim;
  const offsetsToo = (flags & GROUP.flagOffsets) !== 0;
  const { books, basis } = readChannels(section, channels, { dim, offsetsToo, prefix, place });
  if (flags & GROUP.flagColumns) basis.columnScales = section.u16(dim, `${prefix}basis`);
  const group: CodedGroup = {
    firstHead,
    headCount,
    books,
    basis,
    ...readSide(section, place, dim, prefix),
    ...NO_CODES,
  };
  if (flags & GROUP.flagStreams) {
    group.stream = { leading: channels, parts: [readStream(section, prefix), NO_CODES.planes] };
    if (rest) readRest(rest, group, { dim, offsetsToo, prefix, place });
  } else {
    const counts = countWidths(books.map((book) => book.width));
    group.planes = section.u8(planesBytes(counts, place.codedTokens), `${prefix}planes`);
  }
  checkGroup(group, place, fail);
  return group;
}

const NO_CODES = { planes: new Uint8Array(0) };

function readSide(section: ByteReader, place: GroupPlace, dim: number, prefix: string) {
  if (place.role === "keys") return { centre: section.u16(dim, `${prefix}centre`) };
  const [least, step] = section.f32(2, `${prefix}norms`);
  return { norms: { codes: section.u8(place.codedTokens, `${prefix}norms`), least, step } };
}

function readStream(section: ByteReader, prefix: string): Uint8Array {
  const [bytes] = section.u32(1, `${prefix}stream`);
  return section.u8(bytes, `${prefix}stream`);
}

/** Adds the channels that do not lead. */
function readRest(section: ByteReader, group: CodedGroup, context: ChannelContext): void {
  const [count] = section.u16(1, `${context.prefix}channels`);
  const { books, basis } = readChannels(section, count, context);
  group.books.push(...books);
  const { widths, scales, codes } = group.basis;
  group.basis.widths = Uint8Array.of(...widths, ...basis.widths);
  group.basis.scales = Float32Array.of(...scales, ...basis.scales);
  group.basis.codes = new Int16Array(codes.length + basis.codes.length);
  group.basis.codes.set(codes);
  group.basis.codes.set(basis.codes, codes.length);
  group.stream!.parts[1] = readStream(section, context.prefix);
}

/** What the bytes of channels depend on besides their number. */
interface ChannelContext extends Pick<GroupContext, "place" | "prefix"> {
  dim: number;
  offsetsToo: boolean;
}

function readChannels(
  section: ByteReader,
  count: number,
  { dim, offsetsToo, prefix, place }: ChannelContext,
): { books: ChannelBook[]; basis: CodedBasis } {
  const fail = failAt(section, prefix, section.at);
  const widths = section.u8(count, `${prefix}books`);
  checkWidths(widths, dim, fail);
  const books = readBooks(section, widths, offsetsToo, prefix, fail);
  return { books, basis: readBasis(section, count, dim, place.inProfile, prefix, fail) };
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
  inProfile: boolean,
  prefix: string,
  fail: Fail,
): CodedBasis {
  const part = `${prefix}basis`;
  const widths = section.u8(channels, part);
  checkBasisWidths(widths, channels, inProfile, fail);
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
  return { widths, scales, codes };
}
