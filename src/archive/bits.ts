/**
 * Signed codes in few bits, two's complement. A row starts at a whole byte and its bits follow from the lowest bit of
 * the first byte up: bit k of code i is bit (i * width + k) % 8 of byte floor((i * width + k) / 8). Bits left over in
 * a row's last byte are zero.
 */

/** Bytes of a row of `count` codes. */
export const packedRowBytes = (count: number, width: number): number => Math.ceil((count * width) / 8);

/** True where a code fits `width` bits, -2^(width - 1) to 2^(width - 1) - 1. */
export const fitsWidth = (code: number, width: number): boolean => (code << (32 - width)) >> (32 - width) === code;

/** Writes `packedRowBytes(codes.length, width)` bytes at `at`; the codes must fit `width`, 2 to 12. */
export function packRow(codes: Int16Array, width: number, out: Uint8Array, at: number): void {
  const mask = (1 << width) - 1;
  let held = 0;
  let heldBits = 0;
  for (let i = 0; i < codes.length; i++) {
    held |= (codes[i] & mask) << heldBits;
    heldBits += width;
    for (; heldBits >= 8; heldBits -= 8) {
      out[at++] = held & 255;
      held >>>= 8;
    }
  }
  if (heldBits > 0) out[at] = held;
}

/** Reads a row of `codes.length` codes at `at`; returns the bits left over, which a sound row has zero. */
export function unpackRow(bytes: Uint8Array, at: number, width: number, codes: Int16Array): number {
  const mask = (1 << width) - 1;
  const shift = 32 - width;
  let held = 0;
  let heldBits = 0;
  for (let i = 0; i < codes.length; i++) {
    for (; heldBits < width; heldBits += 8) held |= bytes[at++] << heldBits;
    codes[i] = ((held & mask) << shift) >> shift;
    held >>>= width;
    heldBits -= width;
  }
  return held;
}
