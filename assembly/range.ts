// A range coder (asymmetric numeral systems, Duda, arXiv 1311.2540) with adaptive models of nibbles, MODEL of
// src/codec/layout.ts. Frequencies never fall below 4: a gap between neighbours that is 4 or more stays so, because
// rounding is monotone and the gap aimed at is no smaller.

export const MODEL_BYTES: usize = 48;
export const RANGE_WINDOW: i32 = 128;
const SEEN: usize = 32;
/** Frequencies sum to 2^15. */
const TOTAL_BITS: i32 = 15;
const TOTAL: i32 = 1 << TOTAL_BITS;
/** States lie in [2^16, 2^32) between nibbles. */
const LEAST_STATE: u32 = 1 << 16;
const LEAST: i32 = 4;
const LOW_INDEX = i16x8(0, 1, 2, 3, 4, 5, 6, 7);
const HIGH_INDEX = i16x8(8, 9, 10, 11, 12, 13, 14, 15);

export function resetModels(modelsPtr: usize, modelCount: i32): void {
  for (let i = 0; i < modelCount; i++, modelsPtr += MODEL_BYTES) {
    v128.store(modelsPtr, i16x8.shl(LOW_INDEX, 11));
    v128.store(modelsPtr, i16x8.shl(HIGH_INDEX, 11), 16);
    store<u16>(modelsPtr, 0, SEEN);
  }
}

/** Frequencies below `nibble` and its own, below << 16 | own. */
// @ts-expect-error: decorator
@inline
function shareOf(modelPtr: usize, nibble: i32): u32 {
  const at = modelPtr + ((<usize>nibble) << 1);
  const below = <u32>load<u16>(at);
  const next = nibble < 15 ? <u32>load<u16>(at, 2) : <u32>TOTAL;
  return (below << 16) | (next - below);
}

/** Moves the frequencies towards those of `nibble` alone. */
// @ts-expect-error: decorator
@inline
function learn(modelPtr: usize, nibble: i32): void {
  const seen = <i32>load<u16>(modelPtr, SEEN);
  const rateI16x8 = i16x8.splat(<i16>(TOTAL / (seen + 2)));
  const nibbleI16x8 = i16x8.splat(<i16>nibble);
  moveHalf(modelPtr, LOW_INDEX, nibbleI16x8, rateI16x8);
  moveHalf(modelPtr + 16, HIGH_INDEX, nibbleI16x8, rateI16x8);
  store<u16>(modelPtr, <u16>min(seen + 1, RANGE_WINDOW - 2), SEEN);
}

// @ts-expect-error: decorator
@inline
function moveHalf(ptr: usize, indexI16x8: v128, nibbleI16x8: v128, rateI16x8: v128): void {
  const above = v128.and(i16x8.gt_s(indexI16x8, nibbleI16x8), i16x8.splat(<i16>(TOTAL - 16 * LEAST)));
  const target = i16x8.add(i16x8.shl(indexI16x8, 2), above);
  const below = v128.load(ptr);
  v128.store(ptr, i16x8.add(below, i16x8.q15mulr_sat_s(i16x8.sub(target, below), rateI16x8)));
}

/** The nibble whose share holds `slot`. */
// @ts-expect-error: decorator
@inline
function nibbleAt(modelPtr: usize, slot: i32): i32 {
  const slotI16x8 = i16x8.splat(<i16>slot);
  const low = i16x8.le_s(v128.load(modelPtr), slotI16x8);
  const high = i16x8.le_s(v128.load(modelPtr, 16), slotI16x8);
  return popcnt(i8x16.bitmask(i8x16.narrow_i16x8_s(low, high))) - 1;
}

export function encodeRange(
  outPtr: usize, scratchPtr: usize, modelsPtr: usize, codesPtr: usize,
  wideCount: i32, narrowCount: i32, tokenCount: i32, codeStride: i32,
): i32 {
  let sharePtr = scratchPtr;
  for (let token = 0; token < tokenCount; token++) {
    sharePtr = shareNibbles(sharePtr, modelsPtr, codesPtr + <usize>token, wideCount, narrowCount, <usize>codeStride);
  }
  const count = (2 * wideCount + narrowCount) * tokenCount;
  const endPtr = outPtr + 16 + ((<usize>count) << 1);
  // Backwards, so that decoding runs forwards. The state of nibble k comes last, and goes first when k is coded.
  let first = LEAST_STATE;
  let second = LEAST_STATE;
  let third = LEAST_STATE;
  let fourth = LEAST_STATE;
  let ptr = endPtr;
  for (let k = count - 1; k >= 0; k--) {
    let state = fourth;
    fourth = third;
    third = second;
    second = first;
    sharePtr -= 4;
    const share = load<u32>(sharePtr);
    const own = share & 0xffff;
    if (state >= own << (32 - TOTAL_BITS)) {
      ptr -= 2;
      store<u16>(ptr, <u16>state);
      state >>= 16;
    }
    const quotient = state / own;
    first = (quotient << TOTAL_BITS) + (state - quotient * own) + (share >> 16);
  }
  ptr -= 16;
  store<u32>(ptr, first);
  store<u32>(ptr, second, 4);
  store<u32>(ptr, third, 8);
  store<u32>(ptr, fourth, 12);
  return <i32>(endPtr - ptr);
}

/** Shares of a token's nibbles, with the models as they are when each is met; returns where they end. */
function shareNibbles(
  sharePtr: usize, modelPtr: usize, codePtr: usize, wideCount: i32, narrowCount: i32, strideBytes: usize,
): usize {
  for (let c = 0; c < wideCount; c++, codePtr += strideBytes, modelPtr += 17 * MODEL_BYTES, sharePtr += 8) {
    const code = <i32>load<u8>(codePtr);
    const high = code >> 4;
    const lowPtr = modelPtr + <usize>(1 + high) * MODEL_BYTES;
    store<u32>(sharePtr, shareOf(modelPtr, high));
    store<u32>(sharePtr, shareOf(lowPtr, code & 15), 4);
    learn(modelPtr, high);
    learn(lowPtr, code & 15);
  }
  for (let c = 0; c < narrowCount; c++, codePtr += strideBytes, modelPtr += MODEL_BYTES, sharePtr += 4) {
    const code = <i32>load<u8>(codePtr);
    assert(code < 16, "encodeRange: a code of more than 4 bits");
    store<u32>(sharePtr, shareOf(modelPtr, code));
    learn(modelPtr, code);
  }
  return sharePtr;
}

export function decodeRange(
  codesPtr: usize, modelsPtr: usize, bytesPtr: usize, byteCount: i32,
  wideCount: i32, narrowCount: i32, tokenCount: i32, codeStride: i32,
): i32 {
  if (byteCount < 16) return -1;
  const endPtr = bytesPtr + <usize>byteCount;
  let first = load<u32>(bytesPtr);
  let second = load<u32>(bytesPtr, 4);
  let third = load<u32>(bytesPtr, 8);
  let fourth = load<u32>(bytesPtr, 12);
  let ptr = bytesPtr + 16;
  const wideSteps = 2 * wideCount;
  const steps = wideSteps + narrowCount;
  for (let token = 0; token < tokenCount; token++) {
    let modelPtr = modelsPtr;
    let codePtr = codesPtr + <usize>token;
    let high = 0;
    for (let step = 0; step < steps; step++) {
      const isWide = step < wideSteps;
      const isLow = isWide && (step & 1) != 0;
      const nowPtr = isLow ? modelPtr + <usize>(1 + high) * MODEL_BYTES : modelPtr;
      const slot = <i32>(first & (TOTAL - 1));
      const nibble = nibbleAt(nowPtr, slot);
      const share = shareOf(nowPtr, nibble);
      learn(nowPtr, nibble);
      let state = (share & 0xffff) * (first >> TOTAL_BITS) + <u32>slot - (share >> 16);
      if (state < LEAST_STATE) {
        if (ptr + 2 > endPtr) return -1;
        state = (state << 16) | <u32>load<u16>(ptr);
        ptr += 2;
      }
      first = second;
      second = third;
      third = fourth;
      fourth = state;
      if (isWide && !isLow) {
        high = nibble;
        continue;
      }
      store<u8>(codePtr, <u8>(isLow ? (high << 4) | nibble : nibble));
      codePtr += <usize>codeStride;
      modelPtr += isWide ? 17 * MODEL_BYTES : MODEL_BYTES;
    }
  }
  const isEnd = ptr == endPtr && (first & second & third & fourth) == LEAST_STATE;
  return isEnd && (first | second | third | fourth) == LEAST_STATE ? 0 : -1;
}
