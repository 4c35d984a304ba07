/** Deterministic noise in [-1, 1): xorshift32. */
export function noise(count: number, seed = 1): Float32Array {
  let state = seed * 2654435761 || 1;
  return Float32Array.from({ length: count }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >> 0) / 2147483648;
  });
}
