/** Head groups to bytes: GROUP of format.ts. */
import { type ChannelBook, type CodedGroup, needsOffsets } from "../codec/coded.ts";
import { packedRowBytes, packRow } from "./bits.ts";
import { ByteWriter } from "./cursor.ts";
import { BOOK_KINDS, GROUP } from "./format.ts";

/** The group; where its codes are streams, the channels that lead. */
export function groupBytes(group: CodedGroup, dim: number): Uint8Array {
  const { basis, centre, norms, stream } = group;
  const leading = stream?.leading ?? group.books.length;
  const codes = stream ? sized(stream.parts[0]) : group.planes;
  const channels = channelBytes(group, 0, leading, dim);
  const sideBytes =
    2 * ((basis.columnScales?.length ?? 0) + (centre?.length ?? 0)) + (norms ? 8 + norms.codes.length : 0);
  const out = new ByteWriter(GROUP.headBytes + channels.length + sideBytes + codes.length);
  const flags =
    (needsOffsets(group) ? GROUP.flagOffsets : 0) |
    (basis.columnScales ? GROUP.flagColumns : 0) |
    (stream ? GROUP.flagStreams : 0);
  out.u16([group.firstHead, group.headCount, leading, flags]);
  out.u8(channels);
  if (basis.columnScales) out.u16(basis.columnScales);
  if (centre) out.u16(centre);
  if (norms) {
    out.f32([norms.least, norms.step]);
    out.u8(norms.codes);
  }
  out.u8(codes);
  return out.bytes;
}

/** The channels of a group with streams that do not lead. */
export function restBytes(group: CodedGroup, dim: number): Uint8Array {
  const { leading, parts } = group.stream!;
  const channels = channelBytes(group, leading, group.books.length, dim);
  const codes = sized(parts[1]);
  const out = new ByteWriter(2 + channels.length + codes.length);
  out.u16([group.books.length - leading]);
  out.u8(channels);
  out.u8(codes);
  return out.bytes;
}

function sized(stream: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + stream.length);
  new DataView(bytes.buffer).setUint32(0, stream.length, true);
  bytes.set(stream, 4);
  return bytes;
}

/** Books and basis rows of channels `from` to `to` - 1. */
function channelBytes(group: CodedGroup, from: number, to: number, dim: number): Uint8Array {
  const { basis } = group;
  const hasOffsets = needsOffsets(group);
  const books: ChannelBook[] = group.books.slice(from, to);
  const basisWidths = basis.widths.subarray(from, to);
  let size = (hasOffsets ? 15 : 11) * books.length;
  for (const width of basisWidths) size += packedRowBytes(dim, width);
  const out = new ByteWriter(size);
  out.u8(Uint8Array.from(books, (book) => book.width));
  out.u8(Uint8Array.from(books, (book) => BOOK_KINDS.indexOf(book.kind)));
  out.f32(books.map((book) => book.scale));
  if (hasOffsets) out.f32(books.map((book) => book.offset));
  out.u8(basisWidths);
  out.f32(basis.scales.subarray(from, to));
  basisWidths.forEach((width, i) => {
    const row = basis.codes.subarray((from + i) * dim, (from + i + 1) * dim);
    packRow(row, width, out.bytes, out.skip(packedRowBytes(dim, width)));
  });
  return out.bytes;
}
