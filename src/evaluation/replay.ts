/**
 * A continuation replayed on a compressed cache, as a decoder would run it: each token's exact key and value are
 * appended, its queries attend to codes and exact tokens as they lie, and the same queries attend to the dump's own keys
 * and values by f32 kernels. A layer at a time, so that exact tensors of one layer are held.
 */
import type { AttendReport } from "../cache/attention.ts";
import { KvCache } from "../cache/kv-cache.ts";
import type { CacheOptions } from "../cache/options.ts";
import type { CodedCache } from "../codec/coded.ts";
import { rowDim } from "../codec/geometry.ts";
import type { QueryData, TensorData } from "../codec/source.ts";
import { loadTensor } from "../codec/tensors.ts";
import type { Dump } from "../engines/dump.ts";
import { MismatchError, UnsupportedError } from "../errors.ts";
import { breathe } from "../runtime/breathe.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { DenseAttention } from "./dense-attention.ts";
import { compareScores, outputError } from "./score-difference.ts";

export interface Replay {
  /** Queries that attended: tokens of the continuation. */
  tokens: number;
  /** Tokens of the cache when the first of them attended, itself included. */
  firstLength: number;
  layers: number;
  /** Mean of |o - o'|^2 / |o|^2 over query heads, layers and tokens. */
  outputError: number;
  /**
   * Mean KL(exact || on codes) of attention in nats. Under a budget the tokens left out would make it infinite: it is
   * taken among the tokens attended to, both distributions summing to one over them. `attendedWeight` says the rest.
   */
  attentionKl: number;
  /** Mean exact weight of the tokens attended to; 1 without a budget. */
  attendedWeight: number;
  /** Mean part of the coded tokens of greatest exact weight (64 a query head) that is attended to; 1 without a budget. */
  recall: number;
  /** `attend` of all layers held: medians over tokens, summed over layers. */
  secondsPerToken: number;
  /** The same of f32 kernels on full keys and values. */
  secondsPerTokenF32: number;
  /** `append` of one token in all layers, coding included: a mean, because tokens are coded a block at a time. */
  secondsPerAppend: number;
  /** Mean bytes that a token's attention reads in all layers: codes scanned and scored, values, exact tokens in f32. */
  bytesRead: number;
  /** What attention on f16 keys and values would read. */
  bytesReadF16: number;
  keyTraffic: KeyTraffic;
  /** Bytes that the cache holds at the end. */
  cacheBytes: number;
  cacheBytesF16: number;
  /** cacheBytesF16 over cacheBytes. */
  storageRatio: number;
}

/** Bytes of f16 keys over bytes of key codes read. */
export interface KeyTraffic {
  /**
   * Of coded tokens, over the codes read for those attended to alone: what the SVDq paper counts as (16 / 1.25) x 32. null
   * where no codes are read but those scanned.
   */
  scored: number | null;
  /** The same, over those and what is scanned to choose. */
  scoredAndScanned: number;
  /** Of all tokens, over all key bytes: exact tokens in f32 too. */
  all: number;
}

export interface ReplayOptions {
  /** Stops between tokens. */
  signal?: AbortSignal;
  /** Called after each layer. */
  onProgress?: (progress: { layer: number; layerCount: number }) => void;
}

/**
 * Replays the queries of `dump` from the archive's tokenCount on, up to the dump's own tokenCount: open it with all its
 * tokens.
 * Throws MismatchError where the two are not of one cache, UnsupportedError without such queries, the signal's reason
 * when stopped, and what KvCache.open throws.
 */
export async function replay(
  runtime: Runtime,
  coded: CodedCache,
  dump: Dump,
  given: Partial<CacheOptions> = {},
  options: ReplayOptions = {},
): Promise<Replay> {
  checkMatch(coded, dump);
  const tally = new Tally();
  let stretch: Stretch | undefined;
  const cache = KvCache.open(runtime, coded, given);
  try {
    const { layerCount } = coded.geometry;
    for (let layer = 0; layer < layerCount; layer++) {
      options.signal?.throwIfAborted();
      const query = await dump.queryTensor(layer);
      stretch = stretchOf(coded, dump, query);
      await replayLayer(runtime, cache, layer, await exactLayer(runtime, dump, layer, stretch), tally, options);
      options.onProgress?.({ layer, layerCount });
    }
    return tally.result(cache, stretch as Stretch);
  } finally {
    cache.dispose();
  }
}

/** Queries at positions first, first + 1, …, of those that the dump has. */
interface Stretch {
  query: QueryData;
  first: number;
  count: number;
}

function stretchOf({ tokenCount }: CodedCache, dump: Dump, query: QueryData | undefined): Stretch {
  const first = Math.max(tokenCount, query?.firstToken ?? 0);
  const count = query ? Math.min(dump.tokenCount, query.firstToken + query.count) - first : 0;
  if (query && count > 0) return { query, first, count };
  const held = query ? `those of tokens ${query.firstToken} to ${query.firstToken + query.count - 1}` : "none";
  throw new UnsupportedError(
    `queries: expected some behind the ${tokenCount} tokens of the archive, got ${held} of ${dump.tokenCount} tokens`,
  );
}

interface ExactLayer extends Stretch {
  /** (kvHeads, tokens, headDim) f32. */
  keys: Float32Array;
  values: Float32Array;
  /** (queryHeads, query.count, headDim) f32. */
  queries: Float32Array;
  tokens: number;
}

async function exactLayer(runtime: Runtime, dump: Dump, layer: number, stretch: Stretch): Promise<ExactLayer> {
  const { geometry, tokenCount, layerNumbers } = dump;
  const { query } = stretch;
  const widen = (part: string, tensor: TensorData, count: number): Float32Array =>
    runtime.heap.scratch((frame) => {
      const ptr = loadTensor(runtime, frame, `layers.${layerNumbers[layer]}.${part}`, tensor, count);
      return runtime.heap.f32(ptr, count).slice();
    });
  return {
    ...stretch,
    keys: widen("key", await dump.key(layer), tokenCount * rowDim(geometry)),
    values: widen("value", await dump.value(layer), tokenCount * rowDim(geometry)),
    queries: widen("query", query, query.queryHeads * query.count * geometry.headDim),
    tokens: tokenCount,
  };
}

async function replayLayer(
  runtime: Runtime,
  cache: KvCache,
  layer: number,
  exact: ExactLayer,
  tally: Tally,
  { signal }: ReplayOptions,
): Promise<void> {
  const { headDim, kvHeads } = cache.geometry;
  const { keys, values, tokens, first, count, query } = exact;
  const layout = { headStride: tokens * headDim, tokenStride: headDim };
  const append = (from: number, number: number): void =>
    cache.append(layer, keys.subarray(from * headDim), values.subarray(from * headDim), { ...layout, tokens: number });
  append(cache.layerLength(layer), first - cache.layerLength(layer));
  const dense = new DenseAttention(runtime, { keys, values, kvHeads, queryHeads: query.queryHeads, tokens, headDim });
  const times: LayerTimes = { coded: [], dense: [] };
  const [out, exactOut] = [0, 1].map(() => new Float32Array(query.queryHeads * headDim));
  try {
    let turn = performance.now();
    for (let position = first; position < first + count; position++) {
      turn = await breathe(turn, signal);
      const queries = queriesAt(exact, position, headDim);
      tally.appendSeconds += timed(() => append(position, 1));
      let report: AttendReport | undefined;
      times.coded.push(timed(() => (report = cache.attend(layer, queries, out))));
      times.dense.push(timed(() => dense.attend(queries, exactOut, position + 1)));
      tally.add(report as AttendReport, cache, layer);
      tally.compare(cache, dense, layer, queries, out, exactOut);
    }
  } finally {
    dense.dispose();
  }
  tally.addTimes(times);
}

/** Queries (queryHeads, headDim) of one position. */
function queriesAt({ queries, query }: ExactLayer, position: number, headDim: number): Float32Array {
  const at = position - query.firstToken;
  const out = new Float32Array(query.queryHeads * headDim);
  for (let head = 0; head < query.queryHeads; head++) {
    const from = (head * query.count + at) * headDim;
    out.set(queries.subarray(from, from + headDim), head * headDim);
  }
  return out;
}

interface LayerTimes {
  coded: number[];
  dense: number[];
}

/** Sums over layers and tokens. */
class Tally {
  appendSeconds = 0;
  #heads = 0;
  #layers = 0;
  #error = 0;
  #divergence = 0;
  #attendedWeight = 0;
  #recall = 0;
  #seconds = 0;
  #secondsF32 = 0;
  readonly #bytes = { scanned: 0, scored: 0, values: 0, exact: 0, codedKeysF16: 0, keysF16: 0 };

  add(report: AttendReport, cache: KvCache, layer: number): void {
    const tokenBytes = 2 * rowDim(cache.geometry);
    this.#bytes.scanned += report.scannedKeyBytes;
    this.#bytes.scored += report.scoredKeyBytes;
    this.#bytes.values += report.valueBytes;
    this.#bytes.exact += report.exactBytes;
    this.#bytes.codedKeysF16 += tokenBytes * cache.codedLength(layer);
    this.#bytes.keysF16 += tokenBytes * cache.layerLength(layer);
  }

  /** Outputs, and scores of the same queries on codes, against those of the last call of `dense`. */
  compare(
    cache: KvCache,
    dense: DenseAttention,
    layer: number,
    queries: Float32Array,
    out: Float32Array,
    exactOut: Float32Array,
  ): void {
    const { headDim } = cache.geometry;
    const length = cache.layerLength(layer);
    const scores = cache.scores(layer, queries);
    const coded = { first: cache.options.sinks, count: cache.codedLength(layer) };
    for (let head = 0; head < queries.length / headDim; head++) {
      const row = scores.subarray(head * length, (head + 1) * length);
      const difference = compareScores(dense.scores(head, length), row, 1 / Math.sqrt(headDim), coded);
      this.#divergence += difference.divergence;
      this.#attendedWeight += difference.attendedWeight;
      this.#recall += difference.recall;
      this.#error += outputError(exactOut, out, head * headDim, headDim);
      this.#heads++;
    }
  }

  addTimes({ coded, dense }: LayerTimes): void {
    this.#layers++;
    this.#seconds += median(coded);
    this.#secondsF32 += median(dense);
  }

  result(cache: KvCache, { first, count }: Stretch): Replay {
    const { scanned, scored, values, exact, codedKeysF16, keysF16 } = this.#bytes;
    const cacheBytes = cache.stats().bytes.total;
    const cacheBytesF16 = 4 * cache.length * rowDim(cache.geometry) * this.#layers;
    return {
      tokens: count,
      firstLength: first + 1,
      layers: this.#layers,
      outputError: this.#error / this.#heads,
      attentionKl: this.#divergence / this.#heads,
      attendedWeight: this.#attendedWeight / this.#heads,
      recall: this.#recall / this.#heads,
      secondsPerToken: this.#seconds,
      secondsPerTokenF32: this.#secondsF32,
      secondsPerAppend: this.appendSeconds / count,
      bytesRead: (scanned + scored + values + exact) / count,
      bytesReadF16: (2 * keysF16) / count,
      keyTraffic: {
        scored: scored > 0 ? codedKeysF16 / scored : null,
        scoredAndScanned: codedKeysF16 / (scored + scanned),
        all: keysF16 / (scored + scanned + exact / 2),
      },
      cacheBytes,
      cacheBytesF16,
      storageRatio: cacheBytesF16 / cacheBytes,
    };
  }
}

function checkMatch(coded: CodedCache, dump: Dump): void {
  const expect = (what: string, expected: string, got: string): void => {
    if (expected !== got) throw new MismatchError(`${what}: expected ${expected} as the archive has, got ${got}`);
  };
  const shape = ({ geometry }: CodedCache | Dump): string =>
    `${geometry.layerCount} layers of ${geometry.kvHeads} kv heads x ${geometry.headDim}`;
  expect("geometry", shape(coded), shape(dump));
  expect("layers", coded.layerNumbers.join(","), dump.layerNumbers.join(","));
  if (coded.model && dump.model) expect("model", JSON.stringify(coded.model), JSON.stringify(dump.model));
  expect("rotary layout", coded.rotary.layout, dump.rotary.layout);
  expect("rotary pairs", String(coded.rotary.frequencies.length), String(dump.rotary.frequencies.length));
  for (const [i, frequency] of coded.rotary.frequencies.entries()) {
    expect(`rotary frequency ${i}`, String(frequency), String(dump.rotary.frequencies[i]));
  }
  if (dump.tokenCount < coded.tokenCount) {
    throw new MismatchError(`tokens: expected more than the archive's ${coded.tokenCount}, got ${dump.tokenCount}`);
  }
  for (const [i, token] of (coded.tokens && dump.tokens ? coded.tokens : []).entries()) {
    expect(`id of token ${i}`, String(token), String(dump.tokens?.[i]));
  }
}

function timed(work: () => void): number {
  const start = performance.now();
  work();
  return (performance.now() - start) / 1000;
}

function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1];
}
