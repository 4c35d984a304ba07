/**
 * What a PrefixStore holds, as one value of JSON that is replaced as a whole: so every change is atomic, whatever fails.
 * Functions here change an index in memory; prefix-store.ts writes it.
 */
import { brief, CapacityError, FormatError } from "../errors.ts";

export interface IndexChunk {
  /** See token-chain.ts. */
  id: string;
  /** Tokens it covers; 0 for bytes that belong to those after it. */
  tokens: number;
  /** Name of its bytes. */
  object: string;
}

export interface IndexPrefix {
  model: string;
  chunks: IndexChunk[];
  /** Milliseconds since 1970, as the two below. */
  created: number;
  used: number;
  expires: number | null;
  pinned: boolean;
  labels: Labels;
}

/** What a caller wants to know of a prefix without reading it. */
export type Labels = Record<string, string | number>;

export interface IndexObject {
  bytes: number;
  /** Of the bytes as they were given: chunks of one digest are held once. */
  digest: string;
}

/** Sums since the store was made. */
export interface Counts {
  hits: number;
  misses: number;
  matchedTokens: number;
  evicted: number;
  expired: number;
}

export interface PrefixIndex {
  format: 1;
  /** By the id of their last chunk. */
  prefixes: Record<string, IndexPrefix>;
  objects: Record<string, IndexObject>;
  /** Names of objects that nothing needs and that are to be deleted. */
  garbage: string[];
  counts: Counts;
}

export const NO_COUNTS: Readonly<Counts> = { hits: 0, misses: 0, matchedTokens: 0, evicted: 0, expired: 0 };

export const emptyIndex = (): PrefixIndex => ({
  ...{ format: 1, prefixes: Object.create(null), objects: Object.create(null) },
  ...{ garbage: [], counts: { ...NO_COUNTS } },
});

export const encodeIndex = (index: PrefixIndex): Uint8Array => new TextEncoder().encode(JSON.stringify(index));

/** Throws a FormatError for bytes that are no index, whatever they are. */
export function decodeIndex(bytes: Uint8Array): PrefixIndex {
  let given: PrefixIndex;
  try {
    given = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw new FormatError("prefix index: expected JSON, got something else");
  }
  const fail = (what: string, expected: string, got: unknown): never => {
    throw new FormatError(`prefix index: ${what}: expected ${expected}, got ${brief(got)}`);
  };
  if (given?.format !== 1) fail("format", "1", given?.format);
  if (!isRecord(given.prefixes) || !isRecord(given.objects)) fail("prefixes and objects", "objects", given.prefixes);
  if (!Array.isArray(given.garbage) || !given.garbage.every(isText)) fail("garbage", "names", given.garbage);
  for (const [name, { bytes, digest }] of Object.entries(given.objects)) {
    if (!isCount(bytes) || !isText(digest)) fail(`objects ${name}`, "bytes and digest", bytes);
  }
  for (const [id, prefix] of Object.entries(given.prefixes)) {
    if (!isPrefix(prefix)) fail(`prefixes ${id}`, "a prefix", prefix);
    const lost = prefix.chunks.find(({ object }) => !Object.hasOwn(given.objects, object));
    if (lost) fail(`prefixes ${id}`, "objects that the index has", lost.object);
  }
  const counts = { ...NO_COUNTS, ...given.counts };
  const table = <T>(record: Record<string, T>): Record<string, T> => Object.assign(Object.create(null), record);
  return { ...given, prefixes: table(given.prefixes), objects: table(given.objects), counts };
}

const isRecordOf = (value: unknown, isGood: (one: unknown) => unknown): boolean =>
  typeof value === "object" && value !== null && Object.values(value).every(isGood);
const isRecord = (value: unknown): value is Record<string, object> =>
  isRecordOf(value, (one) => typeof one === "object" && one !== null);
const isText = (value: unknown): value is string => typeof value === "string";
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const isPrefix = ({ model, chunks, created, used, expires, pinned, labels }: IndexPrefix): boolean =>
  isText(model) &&
  Number.isFinite(created) &&
  Number.isFinite(used) &&
  (expires === null || Number.isFinite(expires)) &&
  typeof pinned === "boolean" &&
  isRecordOf(labels, (value) => isText(value) || Number.isFinite(value)) &&
  Array.isArray(chunks) &&
  chunks.length > 0 &&
  chunks.every((chunk) => isText(chunk?.id) && isText(chunk.object) && isCount(chunk.tokens));

export const tokenCountOf = ({ chunks }: IndexPrefix): number => chunks.reduce((sum, { tokens }) => sum + tokens, 0);

/** Length of a prefix's bytes, those that others share included. */
export const prefixBytes = (index: PrefixIndex, { chunks }: IndexPrefix): number =>
  chunks.reduce((sum, { object }) => sum + index.objects[object].bytes, 0);

/** Bytes of all objects, each once. */
export const heldBytes = (index: PrefixIndex): number =>
  Object.values(index.objects).reduce((sum, { bytes }) => sum + bytes, 0);

export const isExpired = ({ expires }: IndexPrefix, now: number): boolean => expires !== null && expires <= now;

/** Moves objects that no prefix names to the garbage. */
export function dropUnnamed(index: PrefixIndex): void {
  const named = new Set(Object.values(index.prefixes).flatMap(({ chunks }) => chunks.map(({ object }) => object)));
  for (const name of Object.keys(index.objects)) {
    if (named.has(name)) continue;
    delete index.objects[name];
    index.garbage.push(name);
  }
}

export function dropExpired(index: PrefixIndex, now: number): void {
  for (const [id, prefix] of Object.entries(index.prefixes)) {
    if (!isExpired(prefix, now)) continue;
    delete index.prefixes[id];
    index.counts.expired++;
  }
  dropUnnamed(index);
}

/**
 * Drops prefixes, the one used longest ago first, until what is left fits the budget. Pinned ones stay, and the one
 * named `keep`. Throws CapacityError where that is not enough; the index is then to be thrown away.
 */
export function evict(index: PrefixIndex, budgetBytes: number, keep: string): void {
  const order = Object.keys(index.prefixes)
    .filter((id) => id !== keep && !index.prefixes[id].pinned)
    .sort((a, b) => index.prefixes[a].used - index.prefixes[b].used);
  for (const id of order) {
    if (heldBytes(index) <= budgetBytes) return;
    delete index.prefixes[id];
    index.counts.evicted++;
    dropUnnamed(index);
  }
  const held = heldBytes(index);
  if (held <= budgetBytes) return;
  throw new CapacityError(`prefix: expected room within ${budgetBytes} bytes, got ${held} with pinned prefixes`);
}
