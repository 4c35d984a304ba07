// Cyclic one-sided Jacobi on rows: rotates pairs of rows until all are orthogonal. The machinery of eigen.ts, in f32
// (eigenvectors of second moments) and f64 (the oracle) from one source.
// Demmel and Veselic 1992 (accuracy), de Rijk 1989 (larger row first).

// @ts-expect-error: decorator
@inline
const JACOBI_MAX_SWEEPS: i32 = 60;
// Cosines left alone in the first sweeps: a tenth, then a quarter of that a sweep.
const FIRST_THRESHOLD: f64 = 0.1;
const THRESHOLD_FALL: f64 = 0.25;
const SMALL_SWEEPS: i32 = 4;

/** Rows count as orthogonal when |cosine| is below this: a few roundings of a long sum. */
// @ts-expect-error: decorator
@inline
function tolerance<T>(): f64 {
  return sizeof<T>() == 4 ? 1e-6 : 1e-13;
}

/** A sweep whose cosines all lay below this left only their squares behind, so it is the last. */
// @ts-expect-error: decorator
@inline
function almost<T>(): f64 {
  return sizeof<T>() == 4 ? 1e-4 : 1e-8;
}

// @ts-expect-error: decorator
@inline
function multiplyAdd<T>(acc: v128, a: v128, b: v128): v128 {
  return v128.add<T>(acc, v128.mul<T>(a, b));
}

/** Lanes in order, one after the other. */
// @ts-expect-error: decorator
@inline
function sumLanes<T>(x: v128): T {
  if (sizeof<T>() == 8) return <T>(f64x2.extract_lane(x, 0) + f64x2.extract_lane(x, 1));
  return <T>(f32x4.extract_lane(x, 0) + f32x4.extract_lane(x, 1) + f32x4.extract_lane(x, 2) + f32x4.extract_lane(x, 3));
}

/** Sum of a[i] * b[i]: four vector accumulators taken in turn, added as (0 + 1) + (2 + 3), then lanes, then the tail. */
export function dot<T>(aPtr: usize, bPtr: usize, count: i32): T {
  let sum0 = v128.splat<T>(0);
  let sum1 = sum0;
  let sum2 = sum0;
  let sum3 = sum0;
  const endPtr = aPtr + <usize>count * sizeof<T>();
  const vectorEndPtr = aPtr + ((endPtr - aPtr) & ~63);
  for (; aPtr < vectorEndPtr; aPtr += 64, bPtr += 64) {
    sum0 = multiplyAdd<T>(sum0, v128.load(aPtr), v128.load(bPtr));
    sum1 = multiplyAdd<T>(sum1, v128.load(aPtr, 16), v128.load(bPtr, 16));
    sum2 = multiplyAdd<T>(sum2, v128.load(aPtr, 32), v128.load(bPtr, 32));
    sum3 = multiplyAdd<T>(sum3, v128.load(aPtr, 48), v128.load(bPtr, 48));
  }
  let sum = sumLanes<T>(v128.add<T>(v128.add<T>(sum0, sum1), v128.add<T>(sum2, sum3)));
  for (; aPtr < endPtr; aPtr += sizeof<T>(), bPtr += sizeof<T>()) sum += load<T>(aPtr) * load<T>(bPtr);
  return sum;
}

/** a += factor * b. */
export function addMultiple(aPtr: usize, bPtr: usize, factor: f64, count: i32): void {
  const factorF64x2 = f64x2.splat(factor);
  const endPtr = aPtr + ((<usize>(count & ~1)) << 3);
  for (; aPtr < endPtr; aPtr += 16, bPtr += 16) {
    v128.store(aPtr, multiplyAdd<f64>(v128.load(aPtr), factorF64x2, v128.load(bPtr)));
  }
  if (count & 1) store<f64>(aPtr, load<f64>(aPtr) + factor * load<f64>(bPtr));
}

/** a *= factor. */
export function scale(aPtr: usize, factor: f64, count: i32): void {
  for (let i = 0; i < count; i++, aPtr += 8) store<f64>(aPtr, load<f64>(aPtr) * factor);
}

/**
 * (p, q) = (c p - s q, s p + c q), and at the same time the sum of the new p[i] * next[i], summed as in `dot`: p is
 * loaded once for both, and p's next partner needs that product anyway. Unrolled: addresses cost as much as products.
 */
function turnAndDot<T>(pPtr: usize, qPtr: usize, nextPtr: usize, c: T, s: T, count: i32): T {
  const cVector = v128.splat<T>(c);
  const sVector = v128.splat<T>(s);
  let sum0 = v128.splat<T>(0);
  let sum1 = sum0;
  let sum2 = sum0;
  let sum3 = sum0;
  const endPtr = pPtr + <usize>count * sizeof<T>();
  const vectorEndPtr = pPtr + ((endPtr - pPtr) & ~63);
  for (; pPtr < vectorEndPtr; pPtr += 64, qPtr += 64, nextPtr += 64) {
    const p0 = v128.load(pPtr);
    const q0 = v128.load(qPtr);
    const turned0 = v128.sub<T>(v128.mul<T>(cVector, p0), v128.mul<T>(sVector, q0));
    v128.store(pPtr, turned0);
    v128.store(qPtr, v128.add<T>(v128.mul<T>(sVector, p0), v128.mul<T>(cVector, q0)));
    sum0 = multiplyAdd<T>(sum0, turned0, v128.load(nextPtr));
    const p1 = v128.load(pPtr, 16);
    const q1 = v128.load(qPtr, 16);
    const turned1 = v128.sub<T>(v128.mul<T>(cVector, p1), v128.mul<T>(sVector, q1));
    v128.store(pPtr, turned1, 16);
    v128.store(qPtr, v128.add<T>(v128.mul<T>(sVector, p1), v128.mul<T>(cVector, q1)), 16);
    sum1 = multiplyAdd<T>(sum1, turned1, v128.load(nextPtr, 16));
    const p2 = v128.load(pPtr, 32);
    const q2 = v128.load(qPtr, 32);
    const turned2 = v128.sub<T>(v128.mul<T>(cVector, p2), v128.mul<T>(sVector, q2));
    v128.store(pPtr, turned2, 32);
    v128.store(qPtr, v128.add<T>(v128.mul<T>(sVector, p2), v128.mul<T>(cVector, q2)), 32);
    sum2 = multiplyAdd<T>(sum2, turned2, v128.load(nextPtr, 32));
    const p3 = v128.load(pPtr, 48);
    const q3 = v128.load(qPtr, 48);
    const turned3 = v128.sub<T>(v128.mul<T>(cVector, p3), v128.mul<T>(sVector, q3));
    v128.store(pPtr, turned3, 48);
    v128.store(qPtr, v128.add<T>(v128.mul<T>(sVector, p3), v128.mul<T>(cVector, q3)), 48);
    sum3 = multiplyAdd<T>(sum3, turned3, v128.load(nextPtr, 48));
  }
  let sum = sumLanes<T>(v128.add<T>(v128.add<T>(sum0, sum1), v128.add<T>(sum2, sum3)));
  for (; pPtr < endPtr; pPtr += sizeof<T>(), qPtr += sizeof<T>(), nextPtr += sizeof<T>()) {
    const p = load<T>(pPtr);
    const q = load<T>(qPtr);
    const turned = c * p - s * q;
    store<T>(pPtr, turned);
    store<T>(qPtr, s * p + c * q);
    sum += turned * load<T>(nextPtr);
  }
  return sum;
}

/**
 * Rotates rows (count, dim) T until they are orthogonal; squares (count) f64 is scratch for their squared norms.
 * Early sweeps leave small cosines alone: later rotations would undo the work. Returns sweeps, or -1 after
 * JACOBI_MAX_SWEEPS.
 */
export function orthogonalize<T>(rowsPtr: usize, squaresPtr: usize, count: i32, dim: i32): i32 {
  const rowBytes = <usize>dim * sizeof<T>();
  let threshold = FIRST_THRESHOLD;
  for (let sweep = 1; sweep <= JACOBI_MAX_SWEEPS; sweep++) {
    for (let p = 0; p < count; p++) {
      const rowPtr = rowsPtr + rowBytes * <usize>p;
      store<f64>(squaresPtr + ((<usize>p) << 3), <f64>dot<T>(rowPtr, rowPtr, dim));
    }
    let largest: f64 = 0;
    for (let p = 0; p < count - 1; p++) largest = max(largest, turnRow<T>(rowsPtr, squaresPtr, p, count, dim, threshold));
    if (largest < almost<T>()) return sweep;
    threshold = sweep < SMALL_SWEEPS ? threshold * THRESHOLD_FALL : tolerance<T>();
  }
  return -1;
}

/** Row p against every later row; a row whose square is 0 counts as orthogonal to all. Returns the largest |cosine| seen. */
function turnRow<T>(rowsPtr: usize, squaresPtr: usize, p: i32, count: i32, dim: i32, threshold: f64): f64 {
  const rowBytes = <usize>dim * sizeof<T>();
  const pPtr = rowsPtr + rowBytes * <usize>p;
  const squareP = squaresPtr + ((<usize>p) << 3);
  const endPtr = rowsPtr + rowBytes * <usize>count;
  let squareQ = squareP + 8;
  let largest: f64 = 0;
  let gamma = <f64>dot<T>(pPtr, pPtr + rowBytes, dim);
  for (let qPtr = pPtr + rowBytes; qPtr < endPtr; qPtr += rowBytes, squareQ += 8) {
    const nextPtr = qPtr + rowBytes < endPtr ? qPtr + rowBytes : pPtr;
    const alpha = load<f64>(squareP);
    const beta = load<f64>(squareQ);
    const size = Math.abs(gamma);
    // Two roots, because the product of two small squares underflows before they do.
    const scale = Math.sqrt(alpha) * Math.sqrt(beta);
    const cosine = scale > 0 ? size / scale : 0;
    largest = max(largest, cosine);
    if (size <= threshold * scale) {
      gamma = <f64>dot<T>(pPtr, nextPtr, dim);
      continue;
    }
    const zeta = (beta - alpha) / (2 * gamma);
    const t = (zeta >= 0 ? 1.0 : -1.0) / (Math.abs(zeta) + Math.sqrt(1 + zeta * zeta));
    const c = 1 / Math.sqrt(1 + t * t);
    const s = c * t;
    const first = alpha - t * gamma;
    const second = beta + t * gamma;
    // The larger row comes first: swapping the roles is the same rotation a quarter turn further.
    const keep = first >= second;
    store<f64>(squareP, keep ? first : second);
    store<f64>(squareQ, keep ? second : first);
    gamma = <f64>turnAndDot<T>(pPtr, qPtr, nextPtr, <T>(keep ? c : s), <T>(keep ? s : -c), dim);
  }
  return largest;
}
