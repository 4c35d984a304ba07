/** What every store of bytes does, and the checks that all of them share. */
import { brief, expectInteger } from "../errors.ts";

/** Bytes `start` to `end` - 1 of a value; to its end where `end` is left out or lies past it. */
export interface ByteRange {
  start: number;
  end?: number;
}

export interface StoredBytes {
  /** The value, or the part of it that was asked for: a copy of the caller's own. */
  bytes: Uint8Array;
  /** Length of the whole value. */
  totalBytes: number;
  /** Tells this value from those put before and after it; undefined where the store cannot. */
  version: string | undefined;
}

/** Of a put that must not lose what another wrote: the version that was read, null where there was no value. */
export interface PutCondition {
  version: string | null;
}

export interface ListedKey {
  key: string;
  bytes: number | undefined;
}

/**
 * Values by key. A put is atomic: whatever fails, the old value or the new one is there. Keys are lower-case ASCII
 * letters, digits, dots, dashes and underscores, in parts between single slashes (`checkKey`).
 */
export interface ByteStore {
  /** False where puts take no condition; then one process at a time may write. */
  readonly conditionalPut: boolean;
  /** Undefined where there is no such value. */
  get(key: string, range?: ByteRange): Promise<StoredBytes | undefined>;
  /** False where the condition does not hold; nothing is written then. UnsupportedError without `conditionalPut`. */
  put(key: string, bytes: Uint8Array, condition?: PutCondition): Promise<boolean>;
  /** Nothing happens where there is no such value. */
  delete(key: string): Promise<void>;
  /** All keys that begin with `prefix`, in no order. */
  list(prefix: string): Promise<ListedKey[]>;
}

const PART = /^[a-z0-9_-][a-z0-9._-]*$/;
/** Workers KV takes 512 bytes; backends add some of their own, and a file's name has 255. */
const MOST_KEY_CHARACTERS = 400;
const MOST_PART_CHARACTERS = 200;

const isPart = (part: string): boolean => part.length <= MOST_PART_CHARACTERS && PART.test(part);

/** Throws a RangeError for anything but a key; so no key climbs out of a folder, or differs from another by case only. */
export function checkKey(key: string): string {
  if (typeof key !== "string" || key.length > MOST_KEY_CHARACTERS || !key.split("/").every(isPart)) {
    throw new RangeError(`key: expected parts of a-z, 0-9, ".", "_" and "-" between slashes, got ${brief(key)}`);
  }
  return key;
}

/** A prefix of keys: nothing, or a key, or one with a slash behind it. */
export function checkPrefix(prefix: string): string {
  if (prefix !== "") checkKey(typeof prefix === "string" ? prefix.replace(/\/$/, "") : prefix);
  return prefix;
}

/** Start and end of a range in a value of `totalBytes`; RangeError where it is none. */
export function rangeIn(range: ByteRange | undefined, totalBytes: number): { start: number; end: number } {
  if (!range) return { start: 0, end: totalBytes };
  const start = expectInteger("range.start", range.start, 0, Number.MAX_SAFE_INTEGER);
  const end = expectInteger("range.end", range.end ?? Number.MAX_SAFE_INTEGER, start, Number.MAX_SAFE_INTEGER);
  return { start: Math.min(start, totalBytes), end: Math.min(end, totalBytes) };
}

/** A copy of the part of `bytes` that lies in the range. */
export function sliceOf(bytes: Uint8Array, range: ByteRange | undefined): Uint8Array {
  const { start, end } = rangeIn(range, bytes.length);
  return Uint8Array.prototype.slice.call(bytes, start, end);
}

/** Work on one thing at a time, in the order of the calls. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  take<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#last.then(work, work);
    this.#last = mine.catch(() => undefined);
    return mine;
  }
}
