// Codes <-> 4-bit planes. Layout in src/codec/layout.ts: byte i of a plane holds token i low and token i + 16 high.

export const PLANE_BYTES: usize = 16;
export const BLOCK_TOKENS: usize = 32;

export function packPlanes(
  blocksPtr: usize, codesPtr: usize, count8: i32, count4: i32, count2: i32, count1: i32, blockCount: i32, codeStride: i32,
): void {
  const stride = <usize>codeStride;
  for (let block = 0; block < blockCount; block++) {
    let at = codesPtr + <usize>block * BLOCK_TOKENS;
    for (let c = 0; c < count8; c++, at += stride, blocksPtr += 2 * PLANE_BYTES) {
      const low = v128.load(at);
      const high = v128.load(at, 16);
      v128.store(blocksPtr, join(i8x16.shr_u(low, 4), i8x16.shr_u(high, 4)));
      v128.store(blocksPtr, join(lowNibbles(low), lowNibbles(high)), 16);
    }
    for (let c = 0; c < count4; c++, at += stride, blocksPtr += PLANE_BYTES) {
      v128.store(blocksPtr, join(v128.load(at), v128.load(at, 16)));
    }
    for (let c = 0; c < count2; c += 2, at += 2 * stride, blocksPtr += PLANE_BYTES) {
      let low = v128.load(at);
      let high = v128.load(at, 16);
      if (c + 1 < count2) {
        low = v128.or(low, i8x16.shl(v128.load(at + stride), 2));
        high = v128.or(high, i8x16.shl(v128.load(at + stride, 16), 2));
      }
      v128.store(blocksPtr, join(low, high));
    }
    if (count2 & 1) at -= stride;
    for (let c = 0; c < count1; c += 4, blocksPtr += PLANE_BYTES) {
      let low = i8x16.splat(0);
      let high = low;
      for (let part = 0; part < min(4, count1 - c); part++, at += stride) {
        low = v128.or(low, i8x16.shl(v128.load(at), part));
        high = v128.or(high, i8x16.shl(v128.load(at, 16), part));
      }
      v128.store(blocksPtr, join(low, high));
    }
  }
}

export function unpackPlanes(
  codesPtr: usize, blocksPtr: usize, count8: i32, count4: i32, count2: i32, count1: i32, blockCount: i32, codeStride: i32,
): void {
  const stride = <usize>codeStride;
  for (let block = 0; block < blockCount; block++) {
    let at = codesPtr + <usize>block * BLOCK_TOKENS;
    for (let c = 0; c < count8; c++, at += stride, blocksPtr += 2 * PLANE_BYTES) {
      const top = v128.load(blocksPtr);
      const bottom = v128.load(blocksPtr, 16);
      v128.store(at, v128.or(i8x16.shl(top, 4), lowNibbles(bottom)));
      v128.store(at, v128.or(i8x16.shl(i8x16.shr_u(top, 4), 4), i8x16.shr_u(bottom, 4)), 16);
    }
    for (let c = 0; c < count4; c++, at += stride, blocksPtr += PLANE_BYTES) store2(at, v128.load(blocksPtr), 0, 15);
    for (let c = 0; c < count2; c += 2, blocksPtr += PLANE_BYTES) {
      const plane = v128.load(blocksPtr);
      for (let part = 0; part < min(2, count2 - c); part++, at += stride) store2(at, plane, 2 * part, 3);
    }
    for (let c = 0; c < count1; c += 4, blocksPtr += PLANE_BYTES) {
      const plane = v128.load(blocksPtr);
      for (let part = 0; part < min(4, count1 - c); part++, at += stride) store2(at, plane, part, 1);
    }
  }
}

export function gatherTokens(
  outPtr: usize, blocksPtr: usize, tokensPtr: usize, count: i32, planes: i32, codeBytes: i32,
): void {
  const planeBytes = PLANE_BYTES * <usize>planes;
  const outBytes = planeBytes + <usize>codeBytes;
  for (; count > 0; count -= <i32>BLOCK_TOKENS, tokensPtr += 4 * BLOCK_TOKENS, outPtr += outBytes) {
    const here = min(count, <i32>BLOCK_TOKENS);
    if (here < <i32>BLOCK_TOKENS) memory.fill(outPtr, 0, outBytes);
    for (let i = 0; i < min(here, 16); i++) {
      // Tokens i and i + 16 share a byte of each plane; a token that is missing has nibbles of zero.
      const low = load<u32>(tokensPtr + ((<usize>i) << 2));
      const isPair = i + 16 < here;
      const high = isPair ? load<u32>(tokensPtr + ((<usize>(i + 16)) << 2)) : low;
      const highMask = isPair ? 0xf0 : 0;
      const lowPtr = <usize>load<u32>(blocksPtr + (<usize>(low >> 5) << 2));
      const highPtr = <usize>load<u32>(blocksPtr + (<usize>(high >> 5) << 2));
      const toPtr = outPtr + <usize>i;
      const lowShift = (low & 16) >> 2;
      const highShift = 4 - ((high & 16) >> 2);
      for (let at: usize = 0; at < planeBytes; at += PLANE_BYTES) {
        const lowNibble = (<u32>load<u8>(lowPtr + <usize>(low & 15) + at) >> lowShift) & 15;
        const highNibble = (<u32>load<u8>(highPtr + <usize>(high & 15) + at) << highShift) & highMask;
        store<u8>(toPtr + at, <u8>(lowNibble | highNibble));
      }
      if (!codeBytes) continue;
      store<u8>(toPtr + planeBytes, load<u8>(lowPtr + planeBytes + <usize>(low & 31)));
      if (isPair) store<u8>(toPtr + planeBytes + 16, load<u8>(highPtr + planeBytes + <usize>(high & 31)));
    }
  }
}

// @ts-expect-error: decorator
@inline
function join(lowU8x16: v128, highU8x16: v128): v128 {
  return v128.or(lowU8x16, i8x16.shl(highU8x16, 4));
}

// @ts-expect-error: decorator
@inline
function lowNibbles(x: v128): v128 {
  return v128.and(x, i8x16.splat(15));
}

/** Bits `shift` and up of both nibbles of a plane, masked, as 32 codes. */
// @ts-expect-error: decorator
@inline
function store2(ptr: usize, plane: v128, shift: i32, mask: i32): void {
  const maskU8x16 = i8x16.splat(<i8>mask);
  v128.store(ptr, v128.and(i8x16.shr_u(plane, shift), maskU8x16));
  v128.store(ptr, v128.and(i8x16.shr_u(plane, 4 + shift), maskU8x16), 16);
}
