/**
 * Profiles: bases, allocation and books of a model, calibrated on caches of other texts, for caches that start empty.
 * A profile is a compressed cache without tokens, so its file is an archive.
 */
import type { CodedCache, CodedGroup } from "../codec/coded.ts";
import { compress, type WorkOptions } from "../codec/compress.ts";
import type { CodecOptions } from "../codec/options.ts";
import type { CacheSource } from "../codec/source.ts";
import { MismatchError } from "../errors.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { concatenated } from "./concatenate.ts";

/** Compresses the caches as one, their keys moved to follow one another, and keeps all but the tokens. */
export async function createProfile(
  runtime: Runtime,
  caches: CacheSource[],
  options: Partial<CodecOptions> = {},
  work: WorkOptions = {},
): Promise<CodedCache> {
  if (caches.length === 0) throw new RangeError("caches: expected at least 1, got none");
  for (const [i, cache] of caches.entries()) expectAlike(caches[0], cache, i);
  const coded = await compress(runtime, concatenated(runtime, caches), { ...options, sinks: 0, recent: 0 }, work);
  const { tokens: _tokens, ...rest } = coded;
  const none = new Uint8Array(0);
  return {
    ...rest,
    tokenCount: 0,
    layers: coded.layers.map(({ keys, values }) => ({
      keys: keys.map(withoutTokens),
      values: values.map(withoutTokens),
      exactKeys: none,
      exactValues: none,
    })),
  };
}

function withoutTokens({ stream: _stream, ...group }: CodedGroup): CodedGroup {
  const { norms } = group;
  return {
    ...group,
    planes: new Uint8Array(0),
    ...(norms && { norms: { ...norms, codes: new Uint8Array(0) } }),
  };
}

function expectAlike(first: CacheSource, other: CacheSource, index: number): void {
  const expect = (what: string, describe: (cache: CacheSource) => string): void => {
    const [expected, got] = [describe(first), describe(other)];
    if (expected === got) return;
    throw new MismatchError(`caches[${index}]: expected ${what} ${expected} as caches[0] has, got ${got}`);
  };
  expect("geometry", ({ geometry: g }) => `${g.layerCount} layers, ${g.kvHeads} kv heads of ${g.headDim}`);
  expect("rotary layout", ({ rotary }) => rotary.layout);
  expect("rotary frequencies", ({ rotary }) => rotary.frequencies.join(" "));
  expect("layers", ({ layerNumbers }) => layerNumbers.join(" "));
  if (other.model) expect("model", ({ model }) => JSON.stringify(model || other.model));
}
