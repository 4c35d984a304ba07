/**
 * Codes of 1 to 8 bits packed without gaps, least significant bit first: code i of b bits lies at bits
 * i * b … i * b + b - 1 of the stream, bit n of the stream is bit n % 8 of byte n / 8. Halves are little-endian.
 */
import { fromHalf, toHalf } from "../codec/half.ts";

export const packedBytes = (codeCount: number, bits: number): number => Math.ceil((codeCount * bits) / 8);

/** Packs codes (count) of `bits` bits into `packedBytes(count, bits)` bytes of out from `offsetBytes`. */
export function packBits(out: Uint8Array, offsetBytes: number, codes: Uint8Array, bits: number): void {
  let at = offsetBytes;
  let pending = 0;
  let pendingBits = 0;
  for (let i = 0; i < codes.length; i++) {
    pending |= codes[i] << pendingBits;
    pendingBits += bits;
    if (pendingBits >= 8) {
      out[at++] = pending;
      pending >>>= 8;
      pendingBits -= 8;
    }
  }
  if (pendingBits) out[at] = pending;
}

/** The way back: `count` codes. */
export function unpackBits(bytes: Uint8Array, offsetBytes: number, count: number, bits: number): Uint8Array {
  const codes = new Uint8Array(count);
  const mask = (1 << bits) - 1;
  let at = offsetBytes;
  let pending = 0;
  let pendingBits = 0;
  for (let i = 0; i < count; i++) {
    if (pendingBits < bits) {
      pending |= bytes[at++] << pendingBits;
      pendingBits += 8;
    }
    codes[i] = pending & mask;
    pending >>>= bits;
    pendingBits -= bits;
  }
  return codes;
}

/** Stores x as f16 and returns the number that was stored, which is what a decoder will see. */
export function putHalf(out: Uint8Array, offsetBytes: number, x: number): number {
  const bits = toHalf(x);
  out[offsetBytes] = bits;
  out[offsetBytes + 1] = bits >>> 8;
  return fromHalf(bits);
}

export const getHalf = (bytes: Uint8Array, offsetBytes: number): number =>
  fromHalf(bytes[offsetBytes] | (bytes[offsetBytes + 1] << 8));
