/** Bytes of a compressed cache by kind: everything counts. */
import type { CodedBasis, CodedCache, CodedGroup } from "./coded.ts";
import { codedTokens, needsOffsets, segmentsOf } from "./coded.ts";
import { rowDim } from "./geometry.ts";

export interface KindBytes {
  /** Planes, padding included, or streams. */
  codes: number;
  /** Scale, kind and width of every kept channel; offsets where a group has any. */
  scales: number;
  /** One code a token and its range (values). */
  norms: number;
  basis: number;
  /** Centres (keys). */
  means: number;
  /** Sinks and recent tokens. */
  exact: number;
}

/** Synthesis rows of `dim` elements. */
export function basisBytes(basis: CodedBasis, dim: number): number {
  let bytes = 2 * (basis.columnScales?.length ?? 0);
  for (const width of basis.widths) bytes += Math.ceil((dim * width) / 8) + 4 + 1;
  return bytes;
}

const streamBytes = ({ stream }: CodedGroup): number =>
  stream ? stream.parts.reduce((sum, part) => sum + part.length, 0) : 0;

function add(bytes: KindBytes, group: CodedGroup): void {
  bytes.codes += group.planes.length + streamBytes(group);
  bytes.scales += group.books.length * (needsOffsets(group) ? 10 : 6);
  bytes.norms += group.norms ? group.norms.codes.length + 8 : 0;
  bytes.basis += basisBytes(group.basis, group.books.length ? group.basis.codes.length / group.books.length : 0);
  bytes.means += group.centre ? 2 * group.centre.length : 0;
}

const none = (): KindBytes => ({ codes: 0, scales: 0, norms: 0, basis: 0, means: 0, exact: 0 });
export const totalBytes = (bytes: KindBytes): number => Object.values(bytes).reduce((a, b) => a + b, 0);

/** Bytes of keys and of values, by kind. */
export function bytesOf(cache: CodedCache): { keys: KindBytes; values: KindBytes } {
  const keys = none();
  const values = none();
  for (const layer of cache.layers) {
    for (const segment of segmentsOf(layer, codedTokens(cache))) {
      for (const group of segment.keys) add(keys, group);
      for (const group of segment.values) add(values, group);
    }
    keys.exact += layer.exactKeys.length;
    values.exact += layer.exactValues.length;
  }
  return { keys, values };
}

/** Bits an element of the coded tokens: without and with what is paid once a cache (basis, means). Exact tokens out. */
export function bitsOf(bytes: KindBytes, cache: CodedCache): { bits: number; bitsWithBasis: number } {
  const elements = cache.geometry.layerCount * codedTokens(cache) * rowDim(cache.geometry);
  const perToken = bytes.codes + bytes.scales + bytes.norms;
  return {
    bits: elements ? (8 * perToken) / elements : 0,
    bitsWithBasis: elements ? (8 * (perToken + bytes.basis + bytes.means)) / elements : 0,
  };
}
