/** A prefix's bytes as HTTP has them: ETags, ranges of one part, conditions (RFC 9110, sections 13 and 14). */
import parseRange from "range-parser";
import type { PrefixInfo } from "svdq/store";
import { Refusal } from "./errors.ts";

export const etagOf = ({ etag }: PrefixInfo): string => `"${etag}"`;

/** True where If-None-Match names what is there. */
export const isKnown = (header: string | undefined, etag: string): boolean =>
  header !== undefined &&
  (header.trim() === "*" || header.split(",").some((one) => one.trim().replace(/^W\//, "") === etag));

/**
 * Part asked for; undefined for the whole: no Range, one that is not understood, of several parts, or under an If-Range
 * that does not hold. A Refusal with 416 where it lies past the end.
 */
export function partOf(
  headers: { range: string | undefined; ifRange: string | undefined },
  info: PrefixInfo,
): { start: number; end: number } | undefined {
  const { range, ifRange } = headers;
  if (range === undefined || (ifRange !== undefined && ifRange !== etagOf(info))) return undefined;
  const parsed = parseRange(info.bytes, range);
  if (parsed === -1) {
    throw new Refusal(416, "RANGE", `range: expected one within ${info.bytes} bytes, got ${range.slice(0, 60)}`);
  }
  if (parsed === -2 || parsed.type !== "bytes" || parsed.length !== 1) return undefined;
  return { start: parsed[0].start, end: parsed[0].end + 1 };
}
