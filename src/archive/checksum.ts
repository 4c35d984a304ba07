/** Checksums: CRC-32C tells damage in a file, the fingerprint tells caches of different models apart. */
import CRC32 from "crc-32";
import CRC32C from "crc-32/crc32c.js";
import type { CodedCache } from "../codec/coded.ts";
import { MismatchError } from "../errors.ts";

/** CRC-32C (Castagnoli, reflected polynomial 0x82f63b78) as an unsigned 32-bit integer; `before`: of the bytes before. */
export const crc32c = (bytes: Uint8Array, before = 0): number => CRC32C.buf(bytes, before) >>> 0;

export const hex32 = (value: number): string => (value >>> 0).toString(16).padStart(8, "0");

/** What makes caches interchangeable; a `CacheSource` has these too. */
export type FingerprintInput = Pick<CodedCache, "model" | "geometry" | "rotary" | "layerNumbers">;

/**
 * 16 hex digits that tell a mistake (another model, other layers, other rotary frequencies), not an attacker.
 *
 * CRC-32C then CRC-32 of: UTF-8 of the JSON array [model, layerCount, kvHeads, headDim, rotary layout, layerNumbers],
 * then the frequencies as f64, little-endian. Two polynomials, because one CRC with two seeds has 32 bits only: the
 * results differ by a number that depends on the length alone.
 */
export function fingerprintOf({ model, geometry, rotary, layerNumbers }: FingerprintInput): string {
  const { layerCount, kvHeads, headDim } = geometry;
  const names = JSON.stringify([model, layerCount, kvHeads, headDim, rotary.layout, layerNumbers]);
  const text = new TextEncoder().encode(names);
  const bytes = new Uint8Array(text.length + 8 * rotary.frequencies.length);
  bytes.set(text);
  const view = new DataView(bytes.buffer, text.length);
  for (const [i, frequency] of rotary.frequencies.entries()) view.setFloat64(8 * i, frequency, true);
  return hex32(crc32c(bytes)) + hex32(CRC32.buf(bytes));
}

/** Throws a MismatchError that names both unless the cache has the expected fingerprint. */
export function expectFingerprint(cache: FingerprintInput, expected: string): void {
  const got = fingerprintOf(cache);
  if (got === expected) return;
  const { layerCount, kvHeads, headDim } = cache.geometry;
  throw new MismatchError(
    `model fingerprint: expected ${expected}, got ${got} (model ${JSON.stringify(cache.model)}, ` +
      `${layerCount} layers, ${kvHeads} kv heads, head dim ${headDim}, ${cache.rotary.layout})`,
  );
}
