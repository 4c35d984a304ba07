/** The public names. */

export { type FingerprintInput, fingerprintOf } from "./archive/checksum.ts";
export { type ExtendOptions, extendCache } from "./archive/extend.ts";
export { profileFingerprint } from "./archive/profile-rows.ts";
export type { ByteSource, RandomAccess } from "./archive/random-access.ts";
export { decodeArchive, openArchive, type PartOptions, type ReadOptions, readArchive } from "./archive/reader.ts";
export { joinTokenChunks } from "./archive/token-join.ts";
export { type SplitOptions, splitByTokens, type TokenChunk } from "./archive/token-split.ts";
export { archiveStream, decodeArchiveStream } from "./archive/web-streams.ts";
export { encodeArchive, type WriteOptions, writeArchive } from "./archive/writer.ts";
export type { AttendReport } from "./cache/attention.ts";
export type { CacheEvent } from "./cache/events.ts";
export { type CacheStats, KvCache, type RowLayout } from "./cache/kv-cache.ts";
export { type CacheOptions, DEFAULT_CACHE_OPTIONS } from "./cache/options.ts";
export { createProfile } from "./cache/profile.ts";
export {
  type AnchorSpan,
  type PairSpan,
  SPAN_RULE,
  type SpanRule,
  spansByFrequency,
} from "./codec/anchors.ts";
export { bitsOf, bytesOf, type KindBytes, totalBytes } from "./codec/bytes.ts";
export type {
  BookKind,
  ChannelBook,
  CodedBasis,
  CodedCache,
  CodedGroup,
  CodedLayer,
  CodedSegment,
  CodeStream,
} from "./codec/coded.ts";
export { compress, type Progress, type WorkOptions } from "./codec/compress.ts";
export type { FisherData } from "./codec/fisher.ts";
export type { Geometry } from "./codec/geometry.ts";
export { compressOnBases, type GivenBasesOptions } from "./codec/given-bases.ts";
export type { Grouping } from "./codec/groups.ts";
export { type CodecOptions, DEFAULT_OPTIONS } from "./codec/options.ts";
export { type RestoredLayer, restoreLayer } from "./codec/restore.ts";
export { frequenciesOf, type Rotary, type RotaryLayout } from "./codec/rotary.ts";
export type { CacheSource, ElementType, QueryData, TensorData } from "./codec/source.ts";
export {
  CapacityError,
  ConvergenceError,
  DisposedError,
  type ErrorCode,
  FormatError,
  MismatchError,
  SvdqError,
  UnsupportedError,
} from "./errors.ts";
export type { Frame, Heap } from "./runtime/heap.ts";
export type { Kernels } from "./runtime/kernels.ts";
export { Runtime, type RuntimeOptions, simdSupported } from "./runtime/runtime.ts";
export type { SvdqRuntime } from "./svdq-runtime.ts";
