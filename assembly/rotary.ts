// Rotary position embedding: turn every head of a row by a whole number of positions.
// Four pairs at a time; cos and sin of a row serve all its heads.
// sin and cos: Cody-Waite reduction by pi/2 in three parts, then the fdlibm polynomials (Sun Microsystems 1993);
// exact to the last bits of f64 for |angle| below a million, far more than the f32 that is kept.

// Descriptor offsets: ROTARY in src/codec/layout.ts.
export const ROTARY_PAIR_COUNT: usize = 4;
export const ROTARY_INTERLEAVED: usize = 8;
export const ROTARY_FREQUENCIES: usize = 16;

export function rotate(outPtr: usize, rowsPtr: usize, turnsPtr: usize, rotaryPtr: usize, rowCount: i32, headCount: i32): void {
  const headBytes = (<usize>load<u32>(rotaryPtr)) << 2;
  const pairCount = load<i32>(rotaryPtr, ROTARY_PAIR_COUNT);
  const interleaved = load<u32>(rotaryPtr, ROTARY_INTERLEAVED) != 0;
  const rowBytes = headBytes * <usize>headCount;
  if (outPtr != rowsPtr) memory.copy(outPtr, rowsPtr, rowBytes * <usize>rowCount);

  for (let row = 0; row < rowCount; row++, outPtr += rowBytes) {
    const turns = <f64>load<i32>(turnsPtr + ((<usize>row) << 2));
    let pair = 0;
    for (; pair + 4 <= pairCount; pair += 4) {
      const frequencyPtr = rotaryPtr + ROTARY_FREQUENCIES + ((<usize>pair) << 3);
      const first = cosSin(turns * load<f64>(frequencyPtr, 0));
      const second = cosSin(turns * load<f64>(frequencyPtr, 8));
      const third = cosSin(turns * load<f64>(frequencyPtr, 16));
      const fourth = cosSin(turns * load<f64>(frequencyPtr, 24));
      const low = v128.shuffle<f32>(first, second, 0, 4, 1, 5);
      const high = v128.shuffle<f32>(third, fourth, 0, 4, 1, 5);
      const cosF32x4 = v128.shuffle<f32>(low, high, 0, 1, 4, 5);
      const sinF32x4 = v128.shuffle<f32>(low, high, 2, 3, 6, 7);
      for (let head = 0; head < headCount; head++) {
        const headPtr = outPtr + headBytes * <usize>head;
        if (interleaved) turnInterleaved(headPtr + ((<usize>pair) << 3), cosF32x4, sinF32x4);
        else turnHalfSplit(headPtr + ((<usize>pair) << 2), (<usize>pairCount) << 2, cosF32x4, sinF32x4);
      }
    }
    for (; pair < pairCount; pair++) {
      const both = cosSin(turns * load<f64>(rotaryPtr + ((<usize>pair) << 3), ROTARY_FREQUENCIES));
      const cos = f32x4.extract_lane(both, 0);
      const sin = f32x4.extract_lane(both, 1);
      const first = (<usize>pair) << (interleaved ? 3 : 2);
      const gap: usize = interleaved ? 4 : (<usize>pairCount) << 2;
      for (let head = 0; head < headCount; head++) turnPair(outPtr + headBytes * <usize>head + first, gap, cos, sin);
    }
  }
}

// @ts-expect-error: decorator
@inline
function turnHalfSplit(ptr: usize, gapBytes: usize, cosF32x4: v128, sinF32x4: v128): void {
  const a = v128.load(ptr);
  const b = v128.load(ptr + gapBytes);
  v128.store(ptr, f32x4.sub(f32x4.mul(a, cosF32x4), f32x4.mul(b, sinF32x4)));
  v128.store(ptr + gapBytes, f32x4.add(f32x4.mul(b, cosF32x4), f32x4.mul(a, sinF32x4)));
}

// @ts-expect-error: decorator
@inline
function turnInterleaved(ptr: usize, cosF32x4: v128, sinF32x4: v128): void {
  const low = v128.load(ptr);
  const high = v128.load(ptr, 16);
  const a = v128.shuffle<f32>(low, high, 0, 2, 4, 6);
  const b = v128.shuffle<f32>(low, high, 1, 3, 5, 7);
  const turnedA = f32x4.sub(f32x4.mul(a, cosF32x4), f32x4.mul(b, sinF32x4));
  const turnedB = f32x4.add(f32x4.mul(b, cosF32x4), f32x4.mul(a, sinF32x4));
  v128.store(ptr, v128.shuffle<f32>(turnedA, turnedB, 0, 4, 1, 5));
  v128.store(ptr, v128.shuffle<f32>(turnedA, turnedB, 2, 6, 3, 7), 16);
}

// @ts-expect-error: decorator
@inline
function turnPair(ptr: usize, gapBytes: usize, cos: f32, sin: f32): void {
  const a = load<f32>(ptr);
  const b = load<f32>(ptr + gapBytes);
  store<f32>(ptr, a * cos - b * sin);
  store<f32>(ptr + gapBytes, b * cos + a * sin);
}

/** (cos, sin, 0, 0) of an angle, in f32. */
function cosSin(angle: f64): v128 {
  const quarter = nearest(angle * 0.6366197723675814);
  const r = angle - quarter * 1.5707963267341256 - quarter * 6.077100506303966e-11 - quarter * 2.0222662487959506e-21;
  const z = r * r;
  const sin = <f32>sinPolynomial(r, z);
  const cos = <f32>cosPolynomial(z);
  const turn = (<i32>quarter) & 3;
  const odd = (turn & 1) != 0;
  let c = odd ? sin : cos;
  let s = odd ? cos : sin;
  if (turn == 1 || turn == 2) c = -c;
  if (turn >= 2) s = -s;
  return f32x4.replace_lane(f32x4.replace_lane(f32x4.splat(0), 0, c), 1, s);
}

// @ts-expect-error: decorator
@inline
function sinPolynomial(r: f64, z: f64): f64 {
  const tail = 0.00833333333332249 + z * (-0.0001984126982985795 + z * (2.7557313707070068e-6 + z * (-2.5050760253406863e-8 + z * 1.58969099521155e-10)));
  return r + z * r * (-0.16666666666666632 + z * tail);
}

// @ts-expect-error: decorator
@inline
function cosPolynomial(z: f64): f64 {
  const tail = 0.0416666666666666 + z * (-0.001388888888887411 + z * (2.480158728947673e-5 + z * (-2.7557314351390663e-7 + z * (2.087572321298175e-9 + z * -1.1359647557788195e-11))));
  return 1 - 0.5 * z + z * z * tail;
}
