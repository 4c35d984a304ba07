/**
 * Archive versions 1 to 4; docs/format.md says it byte by byte. Everything little-endian.
 *
 *   0 magic "SVDQ\r\n\x1a\n" | 8 u32 version | 12 u32 headerBytes | 16 u64 fileBytes
 *   24 u32 CRC-32C of the header | 28 u32 CRC-32C of bytes 0 to 27
 *   32 header, JSON in UTF-8 | zeros up to a multiple of 16 | sections
 *
 * The header's table lists the sections in the order of the file, each with its offset from the first section. A
 * section starts at the next multiple of 16 after the one before, with zeros between; the file ends with the last
 * section. So every byte is under a checksum or known to be zero, and there is one way only to write a cache.
 */
import type { AnchorSpan } from "../codec/anchors.ts";

/** Like PNG's: a transfer in text mode changes the line ends or stops at \x1a. */
export const MAGIC = Uint8Array.of(0x53, 0x56, 0x44, 0x51, 0x0d, 0x0a, 0x1a, 0x0a);
/**
 * Version 4 where basis rows lie in a profile, else 3 where some group has its codes as streams or rotary pairs have
 * anchor spans of their own, else 2 where some
 * layer has several segments, else 1.
 */
export const ARCHIVE_VERSIONS = { oneSegment: 1, segments: 2, streams: 3, profile: 4 } as const;
export const SECTION_ALIGN = 16;

export const PREAMBLE = {
  version: 8,
  headerBytes: 12,
  fileBytes: 16,
  headerCrc: 24,
  preambleCrc: 28,
  bytes: 32,
} as const;

/**
 *   frequencies    f64 a rotary pair
 *   tokens         i32 a token; absent where the token ids are unknown
 *   keys, values   the groups of a layer in turn, see GROUP; segment after segment
 *   exact-keys, exact-values   (kvHeads, sinks + recent, headDim) elements of `exactType`
 *   keys-rest, values-rest   from version 3 on: of each group with streams in turn the channels that do not lead, see GROUP
 */
export type SectionKind = "frequencies" | "tokens" | (typeof LAYER_KINDS)[number] | (typeof REST_KINDS)[number];

export interface SectionName {
  kind: SectionKind;
  /** Counts from 0 over the layers held; absent for sections of the whole cache. */
  layer?: number;
}

/** One row of the header's table. */
export interface SectionEntry extends SectionName {
  /** From the start of the first section. */
  offset: number;
  bytes: number;
  crc32c: number;
}

export const LAYER_KINDS = ["keys", "values", "exact-keys", "exact-values"] as const;
/** Behind all those: who stops before them has a coarser cache. */
export const REST_KINDS = ["keys-rest", "values-rest"] as const;

/** Every section of a file, in its order. */
export function sectionNames(version: number, layerCount: number, hasTokens: boolean): SectionName[] {
  const names: SectionName[] = [{ kind: "frequencies" }];
  if (hasTokens) names.push({ kind: "tokens" });
  const each = (kinds: readonly SectionKind[]): void => {
    for (let layer = 0; layer < layerCount; layer++) names.push(...kinds.map((kind) => ({ kind, layer })));
  };
  each(LAYER_KINDS);
  if (version >= ARCHIVE_VERSIONS.streams) each(REST_KINDS);
  return names;
}

export const describeSection = ({ kind, layer }: SectionName): string =>
  layer === undefined ? `section ${kind}` : `section ${kind} of layer ${layer}`;

/**
 * A head group, without padding inside, n channels of dim = headCount * headDim:
 *
 *   0 u16 firstHead | 2 u16 headCount | 4 u16 n | 6 u16 flags (1: offsets follow the scales; 2: column scales follow the
 *       basis rows; 4, from version 3 on: streams)
 *   8 the n channels: u8 width[n] | u8 kind[n] (0 normal, 1 uniform) | f32 scale[n] | f32 offset[n] where flagged
 *       u8 basis width[n] | f32 basis scale[n] | basis rows[n], each packed as bits.ts says
 *     u16 column scale[dim] (f16) where flagged
 *     keys:   u16 centre[dim] (f16)
 *     values: f32 least | f32 step | u8 norm code[coded tokens of the segment]
 *     u8 planes[blocks * planes a block * 16], or with flag 4: u32 bytes | stream
 *
 * In version 4 basis widths are 0, a row takes no bytes, and its scale is its number in the profile's group.
 *
 * With flag 4 these are the channels that lead. The others lie in `keys-rest` or `values-rest`:
 *
 *   0 u16 m | the m channels as above | u32 bytes | stream
 */
export const GROUP = { headBytes: 8, flagOffsets: 1, flagColumns: 2, flagStreams: 4 } as const;

export const BOOK_KINDS = ["normal", "uniform"] as const;

/** Header as JSON; the reader takes it for `unknown` until it is checked. */
export interface ArchiveHeader {
  model: string;
  fingerprint: string;
  geometry: { layerCount: number; kvHeads: number; headDim: number };
  rotary: { layout: string; pairs: number };
  layerNumbers: number[];
  tokenCount: number;
  sinks: number;
  recent: number;
  exactType: string;
  anchorSpan: AnchorSpan;
  /** Version 4: fingerprint of the profile that holds the basis rows. */
  profile?: string;
  /** From version 2 on: coded tokens of every segment, layer by layer. */
  segments?: number[][];
  layout: { blockTokens: number; planeBytes: number };
  sections: SectionEntry[];
}
