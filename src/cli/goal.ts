/** `--target-kl` and `--ratio` of compress: bits found on the cache itself, and the cache coded with them. */
import { encodeArchive } from "../archive/writer.ts";
import { type Choice, choicesOf, chooseForBytes, chooseForKl } from "../codec/choose.ts";
import type { CodedCache } from "../codec/coded.ts";
import { compress, rangeOf, type WorkOptions } from "../codec/compress.ts";
import { weighsValues } from "../codec/metric-data.ts";
import type { CodecOptions } from "../codec/options.ts";
import type { CacheSource } from "../codec/source.ts";
import { spectraOf } from "../codec/spectra.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { UsageError } from "./failure.ts";

export interface Goal {
  targetKl?: number;
  ratio?: number;
}

export interface Reached {
  cache: CodedCache;
  /** Undefined where bits were given. */
  chosen?: Choice;
}

/** Codes with the bits that `options` has, or, where there is a goal, with bits that reach it. */
export async function compressForGoal(
  runtime: Runtime,
  source: CacheSource,
  options: CodecOptions,
  { targetKl, ratio }: Goal,
  f16Bytes: number,
  work: WorkOptions,
): Promise<Reached> {
  if (targetKl === undefined && ratio === undefined) return { cache: await compress(runtime, source, options, work) };
  if (targetKl !== undefined && !weighsValues(source, options)) {
    const got = options.metric ? "none" : "--no-metric";
    throw new UsageError(`--target-kl: expected a --profile with the model's Fisher information, got ${got}`);
  }
  const spectra = await spectraOf(runtime, source, { ...options, keyBits: 4, valueBits: 4 }, work);
  const choices = choicesOf(spectra, options, rangeOf(source.tokenCount, options).count);
  if (ratio !== undefined) return withinBytes(runtime, source, options, choices, f16Bytes / ratio, ratio, work);
  const chosen = chooseForKl(choices, targetKl as number);
  return { cache: await compress(runtime, source, bitsOf(options, chosen), work), chosen };
}

const bitsOf = (options: CodecOptions, { keyBits, valueBits }: Choice): CodecOptions => ({
  ...options,
  ...{ keyBits, valueBits },
});

/** What an archive has beside codes is known once there is one: the second try fits. */
const TRIES = 4;

async function withinBytes(
  runtime: Runtime,
  source: CacheSource,
  options: CodecOptions,
  choices: Choice[],
  mostBytes: number,
  ratio: number,
  work: WorkOptions,
): Promise<Reached> {
  const { key, value } = { key: await source.key(0), value: await source.value(0) };
  const exactTokens = options.sinks + options.recent;
  let beside = (source.geometry.layerCount * exactTokens * (key.bytes.length + value.bytes.length)) / source.tokenCount;
  for (let tries = 0; tries < TRIES; tries++) {
    const chosen = chooseForBytes(choices, mostBytes - beside);
    if (!chosen) break;
    const cache = await compress(runtime, source, bitsOf(options, chosen), work);
    const bytes = encodeArchive(cache).reduce((sum, { length }) => sum + length, 0);
    if (bytes <= mostBytes) return { cache, chosen };
    beside = Math.max(beside + 1, bytes - chosen.codedBytes);
  }
  const smallest = Math.min(...choices.map(({ codedBytes }) => codedBytes)) + beside;
  const most = ((mostBytes * ratio) / smallest).toFixed(1);
  throw new UsageError(
    `--ratio: expected at most ${most}, which the fewest bits give with ${exactTokens} tokens exact, got ${ratio}`,
  );
}

/** What was chosen, in words. */
export function describeChoice({ keyBits, valueBits, expectedKl }: Choice, codec: CodecOptions): string {
  const bits = `${keyBits} bits for keys, ${valueBits} for values`;
  if (expectedKl === null) {
    return `${bits}: shared as in the defaults, because without the model's Fisher information (--profile) nothing says what either costs`;
  }
  const far = codec.anchorSpan === 1 && codec.grouping === "layer" ? "" : "; calibrated for one basis a layer, span 1";
  return `${bits}; expected KL of the next token ${expectedKl.toPrecision(2)} nats, within a factor of two on most texts of SmolLM2-135M${far}`;
}
