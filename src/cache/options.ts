/** What a live cache can be told, with defaults, checked once. */
import { type CodecOptions, checkOptions } from "../codec/options.ts";
import type { ElementType } from "../codec/source.ts";
import { expectInteger, expectNumber, expectOptions } from "../errors.ts";
import type { CacheEvent } from "./events.ts";

export interface CacheOptions extends Omit<CodecOptions, "metric" | "attentionWeights" | "schedule" | "entropy"> {
  /** Tokens held exact until a basis is fitted to them; from then on old tokens are coded. */
  fitTokens: number;
  /** Type of exact tokens: rows are rounded to it when they come in, so that an archive holds what attention saw. */
  exactType: ElementType;
  /**
   * Steps of score tables in logits: what a plane adds is off by half of one at most (ADR 0030). Where tokens are chosen
   * steps are 20 times that, 0.01 at most.
   */
  scoreStep: number;
  /** Part of each query's weight whose values may be left out of the mix, a segment and value group. */
  mixTolerance: number;
  /** Coded tokens to attend to, below 1 a part of them; null: all. Sinks and recent are always in. */
  budget: number | null;
  /**
   * What a budget chooses: each kv head's own tokens, by all planes, or, for a group of heads, whole blocks of 32, by
   * leading planes; or such blocks by landmarks (always where spans are shorter than a block).
   */
  selection: (typeof SELECTIONS)[number];
  /** A layer is fitted again where its basis misses more than this many times what it missed at first; null: never. */
  driftLimit: number | null;
  /** Every so many calls of `attend` a layer's attention among sampled tokens is compared with exact scores; 0: never. */
  monitorEvery: number;
  /** Running divergence of attention among sampled tokens (monitor.ts), past which a layer's new tokens stay exact. */
  monitorLimit: number;
  /** A first fit that has queries chooses the bits of keys for this attention KL, in nats; null: keyBits. */
  targetKl: number | null;
  /** Old tokens lose precision when the cache holds more than this; null: never. */
  targetBytes: number | null;
  onEvent: ((event: CacheEvent) => void) | null;
}

export const SELECTIONS = ["tokens", "blocks", "landmarks"] as const;

export const DEFAULT_CACHE_OPTIONS: CacheOptions = {
  keyBits: 1.25,
  valueBits: 2,
  grouping: "layer",
  anchorSpan: 256,
  sinks: 4,
  recent: 64,
  basisBits: "auto",
  fitTokens: 512,
  exactType: "f16",
  scoreStep: 0.0005,
  mixTolerance: 0.002,
  budget: null,
  selection: "tokens",
  driftLimit: 2,
  monitorEvery: 64,
  monitorLimit: 0.25,
  targetKl: null,
  targetBytes: null,
  onEvent: null,
};

export function checkCacheOptions(given: Partial<CacheOptions>): CacheOptions {
  expectOptions("options", given, Object.keys(DEFAULT_CACHE_OPTIONS));
  const options = { ...DEFAULT_CACHE_OPTIONS, ...given };
  checkOptions({ ...codecOptionsOf(options) });
  expectInteger("fitTokens", options.fitTokens, 64, 1 << 20);
  expectNumber("scoreStep", options.scoreStep, 1e-6, 1);
  expectNumber("mixTolerance", options.mixTolerance, 0, 1);
  if (options.budget !== null) expectNumber("budget", options.budget, Number.MIN_VALUE, 2 ** 31);
  if (!SELECTIONS.includes(options.selection)) {
    const expected = SELECTIONS.map((selection) => `"${selection}"`).join(", ");
    throw new RangeError(`selection: expected ${expected}, got ${String(options.selection)}`);
  }
  if (options.driftLimit !== null) expectNumber("driftLimit", options.driftLimit, 1, 1e6);
  expectInteger("monitorEvery", options.monitorEvery, 0, 1 << 20);
  expectNumber("monitorLimit", options.monitorLimit, 0, 1e6);
  if (options.targetKl !== null) expectNumber("targetKl", options.targetKl, 1e-6, 10);
  if (options.targetBytes !== null) expectNumber("targetBytes", options.targetBytes, 1, 2 ** 53);
  if (options.onEvent !== null && typeof options.onEvent !== "function") {
    throw new TypeError(`onEvent: expected a function or null, got ${typeof options.onEvent}`);
  }
  if (!["f32", "f16", "bf16"].includes(options.exactType)) {
    throw new RangeError(`exactType: expected "f32", "f16" or "bf16", got ${String(options.exactType)}`);
  }
  return options;
}

/** What the codec is told when a layer is fitted: the last queries give a metric, but no weights of all its tokens. */
export const codecOptionsOf = (options: CacheOptions): CodecOptions => ({
  keyBits: options.keyBits,
  valueBits: options.valueBits,
  grouping: options.grouping,
  anchorSpan: options.anchorSpan,
  schedule: null,
  entropy: false,
  sinks: options.sinks,
  recent: options.recent,
  basisBits: options.basisBits,
  metric: true,
  attentionWeights: false,
});
