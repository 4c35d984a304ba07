/** Twin of assembly/jacobi.ts: one-sided Jacobi on rows, in f32 or f64, with the kernel's order of sums. */
type Floats = Float32Array | Float64Array;

/** Rounding and lanes of one element type. */
interface Precision {
  round: (x: number) => number;
  lanes: number;
  tolerance: number;
  almost: number;
}

const MAX_SWEEPS = 60;
const F32: Precision = { round: Math.fround, lanes: 4, tolerance: 1e-6, almost: 1e-4 };
const F64: Precision = { round: (x) => x, lanes: 2, tolerance: 1e-13, almost: 1e-8 };
const precisionOf = (x: Floats): Precision => (x instanceof Float32Array ? F32 : F64);

/** Sum of a[i] * b[i] over four vectors of accumulators; vectors as (0 + 1) + (2 + 3), then lanes, then the tail. */
export function dot(a: Floats, b: Floats): number {
  const { round, lanes } = precisionOf(a);
  const step = 4 * lanes;
  const whole = a.length - (a.length % step);
  const sums = new Float64Array(step);
  for (let i = 0; i < whole; i++) sums[i % step] = round(sums[i % step] + round(a[i] * b[i]));
  let sum = 0;
  for (let lane = 0; lane < lanes; lane++) {
    const low = round(sums[lane] + sums[lanes + lane]);
    const high = round(sums[2 * lanes + lane] + sums[3 * lanes + lane]);
    sum = lane ? round(sum + round(low + high)) : round(low + high);
  }
  for (let i = whole; i < a.length; i++) sum = round(sum + round(a[i] * b[i]));
  return sum;
}

/** a += factor * b. */
export function addMultiple(a: Float64Array, b: Float64Array, factor: number): void {
  for (let i = 0; i < a.length; i++) a[i] += factor * b[i];
}

/** Row i of (rows, dim). */
export const rowOf = (rows: Float64Array, i: number, dim: number): Float64Array =>
  rows.subarray(i * dim, (i + 1) * dim);

export function scale(row: Float64Array, factor: number): void {
  for (let i = 0; i < row.length; i++) row[i] *= factor;
}

/** Takes the first `count` rows out of `row`, twice. */
export function orthogonalTo(row: Float64Array, rows: Float64Array, count: number, dim: number): void {
  for (let pass = 0; pass < 2; pass++) {
    for (let j = 0; j < count; j++) addMultiple(row, rowOf(rows, j, dim), -dot(row, rowOf(rows, j, dim)));
  }
}

/** Rotates rows (count, dim) until they are orthogonal. Returns sweeps, or -1. */
export function orthogonalize(rows: Floats, count: number, dim: number): number {
  const { tolerance, almost } = precisionOf(rows);
  const row = (i: number): Floats => rows.subarray(i * dim, (i + 1) * dim);
  const squares = new Float64Array(count);
  let threshold = 0.1;
  for (let sweep = 1; sweep <= MAX_SWEEPS; sweep++) {
    for (let p = 0; p < count; p++) squares[p] = dot(row(p), row(p));
    let largest = 0;
    for (let p = 0; p < count - 1; p++) {
      for (let q = p + 1; q < count; q++)
        largest = Math.max(largest, turnPair(row(p), row(q), squares, p, q, threshold));
    }
    if (largest < almost) return sweep;
    threshold = sweep < 4 ? threshold * 0.25 : tolerance;
  }
  return -1;
}

/** Rotates p and q if their cosine is above the threshold, the larger first. Returns the |cosine| before, 0 for a zero. */
function turnPair(p: Floats, q: Floats, squares: Float64Array, i: number, j: number, threshold: number): number {
  const { round } = precisionOf(p);
  const alpha = squares[i];
  const beta = squares[j];
  const gamma = dot(p, q);
  const scale = Math.sqrt(alpha) * Math.sqrt(beta);
  const cosine = scale > 0 ? Math.abs(gamma) / scale : 0;
  if (Math.abs(gamma) <= threshold * scale) return cosine;
  const zeta = (beta - alpha) / (2 * gamma);
  const t = (zeta >= 0 ? 1 : -1) / (Math.abs(zeta) + Math.sqrt(1 + zeta * zeta));
  const cos = 1 / Math.sqrt(1 + t * t);
  const sin = cos * t;
  const first = alpha - t * gamma;
  const second = beta + t * gamma;
  const keep = first >= second;
  squares[i] = keep ? first : second;
  squares[j] = keep ? second : first;
  const c = round(keep ? cos : sin);
  const s = round(keep ? sin : -cos);
  for (let k = 0; k < p.length; k++) {
    const x = p[k];
    const y = q[k];
    p[k] = round(round(c * x) - round(s * y));
    q[k] = round(round(s * x) + round(c * y));
  }
  return cosine;
}
