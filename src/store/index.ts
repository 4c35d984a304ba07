/** What every host has: prefixes over a store of bytes. Each backend is an entry of its own beside this one. */
export type { ByteRange, ByteStore, ListedKey, PutCondition, StoredBytes } from "./byte-store.ts";
export { checkKey, checkPrefix, rangeIn, sliceOf } from "./byte-store.ts";
export { MemoryStore } from "./memory.ts";
export type { Counts, Labels } from "./prefix-index.ts";
export {
  type HeldChunk,
  type NewPrefix,
  type OpenPrefix,
  type PrefixChunk,
  type PrefixInfo,
  type PrefixStats,
  PrefixStore,
  type PrefixStoreOptions,
} from "./prefix-store.ts";
export type { NewChunk } from "./prefix-upload.ts";
export { aesGcm, type Seal, SealedStore } from "./sealed.ts";
export { Uses } from "./uses.ts";
