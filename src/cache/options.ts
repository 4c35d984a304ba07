/** What a live cache can be told, with defaults, checked once. */
import { type CodecOptions, checkOptions } from "../codec/options.ts";
import type { ElementType } from "../codec/source.ts";
import { expectInteger, expectNumber } from "../errors.ts";

export interface CacheOptions extends Omit<CodecOptions, "metric" | "attentionWeights" | "schedule"> {
  /** Tokens held exact until a basis is fitted to them; from then on old tokens are coded. */
  fitTokens: number;
  /** Type of exact tokens: rows are rounded to it when they come in, so that an archive holds what attention saw. */
  exactType: ElementType;
  /** Steps of score tables in logits. Smaller is slower: 0.001 keeps outputs within about 1e-3 of attention on restored rows. */
  scoreStep: number;
  /** Part of each query's weight whose values may be left out of the mix. */
  mixTolerance: number;
  /** Tokens to attend to, or a fraction of the coded ones below 1; null for all. Sinks and recent tokens are always in. */
  budget: number | null;
}

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
  scoreStep: 0.001,
  mixTolerance: 0.002,
  budget: null,
};

export function checkCacheOptions(given: Partial<CacheOptions>): CacheOptions {
  const options = { ...DEFAULT_CACHE_OPTIONS, ...given };
  checkOptions({ ...codecOptionsOf(options) });
  expectInteger("fitTokens", options.fitTokens, 64, 1 << 20);
  expectNumber("scoreStep", options.scoreStep, 1e-6, 1);
  expectNumber("mixTolerance", options.mixTolerance, 0, 1);
  if (options.budget !== null) expectNumber("budget", options.budget, Number.MIN_VALUE, 2 ** 31);
  if (!["f32", "f16", "bf16"].includes(options.exactType)) {
    throw new RangeError(`exactType: expected "f32", "f16" or "bf16", got ${String(options.exactType)}`);
  }
  return options;
}

/** What the codec is told when a layer is fitted: no queries are at hand. */
export const codecOptionsOf = (options: CacheOptions): CodecOptions => ({
  keyBits: options.keyBits,
  valueBits: options.valueBits,
  grouping: options.grouping,
  anchorSpan: options.anchorSpan,
  schedule: null,
  sinks: options.sinks,
  recent: options.recent,
  basisBits: options.basisBits,
  metric: true,
  attentionWeights: false,
});
