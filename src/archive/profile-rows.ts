/**
 * Basis rows that lie in a profile: an archive of such a cache (version 4) names the profile, and has of each row its
 * number there. Without that profile it cannot be read.
 */
import CRC32 from "crc-32";
import { pickRows } from "../codec/basis-codes.ts";
import { joinChunks } from "../codec/chunks.ts";
import type { CodedBasis, CodedCache, CodedGroup, CodedLayer } from "../codec/coded.ts";
import { FormatError, MismatchError } from "../errors.ts";
import { crc32c, fingerprintOf, hex32 } from "./checksum.ts";
import { groupBytes } from "./group-writer.ts";

/** A cache whose rows are numbers in a profile: no codes, width 0, the number as scale. */
export interface CacheWithoutRows extends CodedCache {
  profile: string;
}

/** 16 hex digits of the rows, allocation and books of a profile: any other one has others. */
export function profileFingerprint(profile: CodedCache): string {
  const groups = profile.layers.flatMap(({ keys, values }) => [...keys, ...values]);
  const bytes = joinChunks(groups.map((group) => groupBytes(group, dimOf(group, profile))));
  const all = joinChunks([new TextEncoder().encode(fingerprintOf(profile)), bytes]);
  return hex32(crc32c(all)) + hex32(CRC32.buf(all));
}

/** The cache with numbers in place of rows. RangeError where a row is none of the profile's. */
export function withoutRows(cache: CodedCache, profile: CodedCache): CacheWithoutRows {
  const layers = eachBasis(cache, profile, (group, held, where) => {
    const [basis, rows] = [group.basis, held.basis];
    const dim = dimOf(group, cache);
    if (!sameNumbers(basis.columnScales, rows.columnScales)) {
      throw new RangeError(`${where}: expected the column scales of the profile, got others`);
    }
    const numbers = Array.from(basis.widths, (_, i) => {
      const number = numberOf(basis, i, rows, dim);
      if (number < 0) throw new RangeError(`${where}: expected rows of the profile, got others in channel ${i}`);
      return number;
    });
    return {
      widths: new Uint8Array(numbers.length),
      scales: Float32Array.from(numbers),
      codes: new Int16Array(basis.codes.length),
    };
  });
  return { ...cache, layers, profile: profileFingerprint(profile) };
}

/** The cache with the profile's rows in place of their numbers. */
export function withRows(cache: CodedCache, profile: CodedCache, name: string): CodedCache {
  const layers = eachBasis(cache, profile, (group, held, where) => {
    const count = held.basis.widths.length;
    const numbers = Array.from(group.basis.scales);
    const bad = numbers.find((number) => !Number.isInteger(number) || number < 0 || number >= count);
    if (bad !== undefined) {
      throw new FormatError(`${name}: ${where}: expected rows 0 to ${count - 1} of the profile, got ${bad}`, 0);
    }
    return pickRows(held.basis, numbers, dimOf(group, cache));
  });
  return { ...cache, layers };
}

/** MismatchError unless `profile` is the one that an archive names. */
export function expectProfile(expected: string, profile: CodedCache | undefined, name: string): CodedCache {
  const got = profile && profileFingerprint(profile);
  if (profile && got === expected) return profile;
  throw new MismatchError(
    `${name}: expected the profile ${expected}, whose bases it is coded on, got ${got ?? "none"}`,
  );
}

const dimOf = ({ headCount }: CodedGroup, { geometry }: CodedCache): number => headCount * geometry.headDim;

/** Layers with other bases. RangeError where layers or head groups are not those of the profile. */
function eachBasis(
  cache: CodedCache,
  profile: CodedCache,
  basisOf: (group: CodedGroup, held: CodedGroup, where: string) => CodedBasis,
): CodedLayer[] {
  return cache.layers.map((layer, l) => {
    const number = cache.layerNumbers[l];
    const held = profile.layers[profile.layerNumbers.indexOf(number)];
    const swap = (kind: "keys" | "values", groups: CodedGroup[]): CodedGroup[] =>
      groups.map((group, g) => {
        const where = `${kind} of layer ${l}`;
        const place = ({ firstHead, headCount }: CodedGroup) => `${headCount} heads from ${firstHead} on`;
        const other = held?.[kind][g];
        if (!other || place(other) !== place(group)) {
          const got = other ? place(other) : "none";
          throw new RangeError(`${where}: expected bases of ${place(group)} in the profile, got ${got}`);
        }
        return { ...group, basis: basisOf(group, other, where) };
      });
    const both = <T extends Pick<CodedLayer, "keys" | "values">>(of: T): T => ({
      ...of,
      keys: swap("keys", of.keys),
      values: swap("values", of.values),
    });
    return { ...both(layer), ...(layer.earlier && { earlier: layer.earlier.map(both) }) };
  });
}

/** Which of `rows` row `i` is; -1 for none. */
function numberOf(basis: CodedBasis, i: number, rows: CodedBasis, dim: number): number {
  const codes = basis.codes.subarray(i * dim, (i + 1) * dim);
  return rows.scales.findIndex(
    (scale, r) =>
      scale === basis.scales[i] &&
      rows.widths[r] === basis.widths[i] &&
      sameNumbers(codes, rows.codes.subarray(r * dim, (r + 1) * dim)),
  );
}

const sameNumbers = (a: ArrayLike<number> | undefined, b: ArrayLike<number> | undefined): boolean =>
  a === b || (!!a && !!b && a.length === b.length && Array.prototype.every.call(a, (x, i) => x === b[i]));
