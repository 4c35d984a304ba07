/**
 * What a cache of a known shape takes, before there is one: bytes at rest, and bytes of keys and values that a decoded
 * token reads. f16 and ggml's q8_0 are exact. Ours follow from the settings but for two things that a cache decides:
 * how many channels it keeps, and the bits of their basis rows. Both are curves through SmolLM2's caches (three texts,
 * 0.5 to 4 bits); a test holds the sum to real archives.
 */
import { type Geometry, rowDim } from "../codec/geometry.ts";
import { headGroups } from "../codec/groups.ts";
import { BLOCK_TOKENS, blockCount, PLANE_BYTES } from "../codec/layout.ts";
import type { CodecOptions } from "../codec/options.ts";

export interface CacheBytes {
  keys: number;
  values: number;
}

export type CostOptions = Pick<CodecOptions, "keyBits" | "valueBits" | "grouping" | "sinks" | "recent">;

/** A block of 32 elements: an f16 scale and a byte each. */
const Q8_BYTES = 34 / 32;
const both = (bytes: number): CacheBytes => ({ keys: bytes, values: bytes });
const elements = (geometry: Geometry, tokens: number): number => geometry.layerCount * rowDim(geometry) * tokens;

export const f16Bytes = (geometry: Geometry, tokens: number): CacheBytes => both(2 * elements(geometry, tokens));
export const q8Bytes = (geometry: Geometry, tokens: number): CacheBytes => both(Q8_BYTES * elements(geometry, tokens));

interface KindCurve {
  /** Channels kept are 1 - exp(-rise * bits) of all. */
  rise: number;
  /** Bits of a basis element at 2,048 tokens: base + slope * bits, and half a bit more for twice the tokens (ADR 0005). */
  base: number;
  slope: number;
}

const CURVES: Record<"keys" | "values", KindCurve> = {
  keys: { rise: 0.55, base: 6.25, slope: 0.45 },
  values: { rise: 0.82, base: 5.2, slope: 0.5 },
};
const CURVE_TOKENS = 2048;
/** Scale, kind and width of a channel's book; scale and width of its basis row. */
const CHANNEL_BYTES = 6 + 5;
/** An archive's header a layer, checksums and alignment with it. */
const LAYER_BYTES = 400;

/** Bytes of an archive, sinks and recent tokens in f16. Fewer tokens than those leave nothing to code. */
export function archiveBytes(geometry: Geometry, tokens: number, options: CostOptions): CacheBytes {
  const coded = Math.max(0, tokens - options.sinks - options.recent);
  const exact = f16Bytes(geometry, tokens - coded);
  const kind = (name: "keys" | "values", bits: number): number =>
    exact[name] +
    (geometry.layerCount * LAYER_BYTES) / 2 +
    (coded && geometry.layerCount * layerBytes(geometry, coded, options, name, bits));
  return { keys: kind("keys", options.keyBits), values: kind("values", options.valueBits) };
}

function layerBytes(geometry: Geometry, coded: number, options: CostOptions, name: "keys" | "values", bits: number) {
  const { rise, base, slope } = CURVES[name];
  const basisBits = Math.min(12, Math.max(3, base + slope * bits + Math.log2(coded / CURVE_TOKENS) / 2));
  return headGroups(geometry, options.grouping).reduce((sum, { headCount }) => {
    const dim = headCount * geometry.headDim;
    const kept = dim * (1 - Math.exp(-rise * bits));
    const once = kept * (CHANNEL_BYTES + (dim * basisBits) / 8) + 2 * dim;
    return sum + planeBytes(dim, coded, bits) + once + (name === "values" ? coded : 2 * dim);
  }, 0);
}

/** A plane has four bits of each token of a block. */
const planeBytes = (dim: number, coded: number, bits: number): number =>
  Math.floor((bits * dim) / 4) * PLANE_BYTES * blockCount(coded);

/** Bytes that attention in place reads for one token: codes of all coded tokens, norms, exact tokens in f32. */
export function trafficBytes(geometry: Geometry, tokens: number, options: CostOptions): CacheBytes {
  const coded = Math.max(0, tokens - options.sinks - options.recent);
  const exact = 4 * elements(geometry, tokens - coded);
  const groups = headGroups(geometry, options.grouping);
  const codes = (bits: number): number =>
    geometry.layerCount *
    groups.reduce((sum, { headCount }) => sum + planeBytes(headCount * geometry.headDim, coded, bits), 0);
  const norms = geometry.layerCount * groups.length * blockCount(coded) * BLOCK_TOKENS;
  return { keys: exact + codes(options.keyBits), values: exact + codes(options.valueBits) + norms };
}
