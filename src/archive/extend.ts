/** A longer cache behind the chunks of an archive of its beginning: what they hold stays as it is, byte for byte. */
import {
  type CodedCache,
  type CodedLayer,
  codedTokens,
  hasStreams,
  layerOfSegments,
  segmentsOf,
} from "../codec/coded.ts";
import { checkSource, compress, type WorkOptions } from "../codec/compress.ts";
import { rowDim } from "../codec/geometry.ts";
import type { CodecOptions } from "../codec/options.ts";
import { type CacheSource, ELEMENT_BYTES, type TensorData } from "../codec/source.ts";
import { endsOfHeads, loadTensor } from "../codec/tensors.ts";
import { expectOptions, MismatchError } from "../errors.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { expectFingerprint, fingerprintOf } from "./checksum.ts";
import { joinTokenChunks } from "./token-join.ts";
import { type SplitOptions, splitByTokens } from "./token-split.ts";

const OWN_OPTIONS = ["keyBits", "valueBits", "recent", "basisBits", "metric", "attentionWeights"] as const;

/** Of the tokens that are added; sinks, spans, grouping and entropy are the archive's. */
export interface ExtendOptions extends Partial<Pick<CodecOptions, (typeof OWN_OPTIONS)[number]>>, SplitOptions {}

/** Squared, relative: two runs of an engine over the same tokens differ by rounding, other tokens by about 1. */
const MOST_DIFFERENCE = 0.01;

/**
 * The cache of `source`, whose first tokens `coded` holds already. All chunks of tokens of `coded` but the last
 * (`splitByTokens`) are taken as they are, and what comes after them is coded on bases of its own, as a further segment.
 * Throws MismatchError where `source` does not continue `coded` (another model, other or fewer tokens), otherwise what
 * `compress` throws.
 */
export async function extendCache(
  runtime: Runtime,
  coded: CodedCache,
  source: CacheSource,
  options: ExtendOptions = {},
  work: WorkOptions = {},
): Promise<CodedCache> {
  expectOptions("options", options, [...OWN_OPTIONS, "chunkTokens"]);
  checkSource(source);
  expectContinued(coded, source);
  for (let layer = 0; layer < coded.geometry.layerCount; layer++) {
    work.signal?.throwIfAborted();
    const { exactKeys, exactValues } = coded.layers[layer];
    expectSameRows(runtime, coded, source, `layer ${layer} key`, exactKeys, await source.key(layer));
    expectSameRows(runtime, coded, source, `layer ${layer} value`, exactValues, await source.value(layer));
  }
  const { chunkTokens, ...own } = options;
  const kept = keptOf(coded, chunkTokens === undefined ? {} : { chunkTokens });
  // To the codec, all that is kept are tokens that it leaves alone at the start.
  const added = await compress(
    runtime,
    source,
    { ...own, ...styleOf(coded), sinks: kept?.tokenCount ?? coded.sinks },
    work,
  );
  const { tokens, ...rest } = kept ? joined(kept, added) : added;
  // Where the archive has no ids, chunks with some would not be its chunks.
  return coded.tokens && tokens ? { ...rest, tokens } : rest;
}

/** The cache of all chunks but the last; undefined where there is one only. */
function keptOf(coded: CodedCache, options: SplitOptions): CodedCache | undefined {
  const chunks = splitByTokens(coded, options).slice(0, -1);
  return chunks.length > 0 ? joinTokenChunks(chunks.map(({ bytes }) => bytes)) : undefined;
}

function styleOf({ anchorSpan, geometry, layers }: CodedCache): Partial<CodecOptions> {
  const isByHead = layers.every(({ keys }) => keys.length === geometry.kvHeads);
  return { anchorSpan, grouping: isByHead ? "head" : "layer", entropy: layers.some(hasStreams) };
}

/** `added` holds the tokens of `kept` as sinks. */
function joined(kept: CodedCache, added: CodedCache): CodedCache {
  const { kvHeads, headDim } = kept.geometry;
  const tokenBytes = headDim * ELEMENT_BYTES[added.exactType];
  const exact = (bytes: Uint8Array) => endsOfHeads(bytes, kvHeads, kept.sinks * tokenBytes, added.recent * tokenBytes);
  const layers = added.layers.map((layer, i): CodedLayer => {
    const old = segmentsOf(kept.layers[i], codedTokens(kept));
    return {
      ...layerOfSegments([...old, ...segmentsOf(layer, codedTokens(added))]),
      exactKeys: exact(layer.exactKeys),
      exactValues: exact(layer.exactValues),
    };
  });
  return { ...added, sinks: kept.sinks, layers };
}

/** By what is known without the tensors. */
function expectContinued(coded: CodedCache, source: CacheSource): void {
  expectFingerprint(source, fingerprintOf(coded));
  if (source.tokenCount <= coded.tokenCount) {
    const expected = `at least ${coded.tokenCount + 1}, one more than the archive has`;
    throw new MismatchError(`tokens: expected ${expected}, got ${source.tokenCount}`);
  }
  if (!coded.tokens) return;
  if (!source.tokens) throw new MismatchError("token ids: expected some, as the archive has them, got none");
  const other = coded.tokens.findIndex((id, i) => id !== source.tokens![i]);
  if (other < 0) return;
  const [expected, got] = [coded.tokens[other], source.tokens[other]];
  throw new MismatchError(`token ${other}: expected ${expected}, as the archive has, got ${got}`);
}

/** The archive's recent tokens are those of the source, up to an engine's rounding; exact elements are of one type. */
function expectSameRows(
  runtime: Runtime,
  coded: CodedCache,
  source: CacheSource,
  name: string,
  exact: Uint8Array,
  { type, bytes }: TensorData,
): void {
  const { geometry, recent, exactType, tokenCount } = coded;
  const tokenBytes = geometry.headDim * ELEMENT_BYTES[type];
  const expected = source.tokenCount * geometry.kvHeads * tokenBytes;
  if (bytes.length !== expected) throw new RangeError(`${name}: expected ${expected} bytes, got ${bytes.length}`);
  if (type !== exactType) throw new MismatchError(`${name}: expected ${exactType}, as the archive has, got ${type}`);
  if (recent === 0) return;
  const upToThere = endsOfHeads(bytes, geometry.kvHeads, tokenCount * tokenBytes, 0);
  const count = recent * rowDim(geometry);
  const [error, square] = runtime.heap.scratch((frame) => {
    const [old, own] = [exact, upToThere].map((tensor) => {
      const last = endsOfHeads(tensor, geometry.kvHeads, 0, recent * tokenBytes);
      return loadTensor(runtime, frame, name, { type, bytes: last }, count);
    });
    return difference(runtime.heap.f32(old, count), runtime.heap.f32(own, count));
  });
  if (error <= MOST_DIFFERENCE * square) return;
  const tokens = `tokens ${tokenCount - recent} to ${tokenCount - 1}`;
  const got = `others, ${(error / square).toPrecision(2)} of their square away`;
  throw new MismatchError(`${name}: expected ${tokens} as the archive has them, got ${got}`);
}

/** Squared difference, and square of `a`. */
function difference(a: Float32Array, b: Float32Array): [error: number, square: number] {
  let [error, square] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    error += (a[i] - b[i]) ** 2;
    square += a[i] ** 2;
  }
  return [error, square];
}
