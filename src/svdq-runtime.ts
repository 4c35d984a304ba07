/** What the entries give: kernels on a memory of their own, and the caches that live there. */

import { KvCache } from "./cache/kv-cache.ts";
import type { CacheOptions } from "./cache/options.ts";
import type { CodedCache } from "./codec/coded.ts";
import type { Geometry } from "./codec/geometry.ts";
import type { Rotary } from "./codec/rotary.ts";
import { expectOptions } from "./errors.ts";
import { instantiate, Runtime, type RuntimeOptions } from "./runtime/runtime.ts";

export class SvdqRuntime extends Runtime {
  /** An empty live cache; see `KvCache.create`. */
  createCache(geometry: Geometry, options: Partial<CacheOptions> & { rotary: Rotary }): KvCache {
    if (options?.rotary === undefined)
      throw new TypeError("options.rotary: expected layout and frequencies, got nothing");
    const { rotary, ...others } = options;
    return KvCache.create(this, geometry, rotary, others);
  }

  /** A live cache on the codes of a compressed one; see `KvCache.open`. */
  openCache(coded: CodedCache, options: Partial<CacheOptions> = {}): KvCache {
    return KvCache.open(this, coded, options);
  }

  /** An empty live cache on the bases of a profile; see `KvCache.fromProfile`. */
  createCacheFromProfile(profile: CodedCache, options: Partial<CacheOptions> = {}): KvCache {
    return KvCache.fromProfile(this, profile, options);
  }
}

/** A runtime over a memory of its own; throws as `instantiate` does. */
export async function runtimeOf(module: WebAssembly.Module, options: RuntimeOptions): Promise<SvdqRuntime> {
  expectOptions("options", options, ["module", "maximumBytes"]);
  const { kernels, heap } = await instantiate(module, options);
  return new SvdqRuntime(kernels, heap);
}
