/**
 * A random rotation that a seed determines: the orthogonal factor of a matrix of Gaussian noise is uniform over all
 * rotations, up to signs of its columns (G. W. Stewart, SIAM J. Numer. Anal. 17, 1980), which a symmetric quantizer
 * does not see.
 */

/** Uniform numbers in [0, 1) with 32 random bits: a Weyl sequence through an avalanche of Murmur's kind. */
export function uniformSource(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let x = Math.imul(state ^ (state >>> 16), 0x85ebca6b);
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
    return ((x ^ (x >>> 16)) >>> 0) / 2 ** 32;
  };
}

/** Standard normal numbers by Marsaglia's polar method. */
export function gaussianSource(seed: number): () => number {
  const uniform = uniformSource(seed);
  let spare: number | undefined;
  return () => {
    if (spare !== undefined) {
      const second = spare;
      spare = undefined;
      return second;
    }
    for (;;) {
      const x = 2 * uniform() - 1;
      const y = 2 * uniform() - 1;
      const square = x * x + y * y;
      if (square >= 1 || square === 0) continue;
      const factor = Math.sqrt((-2 * Math.log(square)) / square);
      spare = y * factor;
      return x * factor;
    }
  };
}

const cache = new Map<string, Float64Array>();

/** Orthogonal (dim, dim), row-major. The same array for the same seed: do not write to it. */
export function randomRotation(dim: number, seed: number): Float64Array {
  const key = `${dim} ${seed}`;
  let rotation = cache.get(key);
  if (!rotation) {
    const gaussian = gaussianSource(seed);
    rotation = orthogonalFactor(Float64Array.from({ length: dim * dim }, gaussian), dim);
    cache.set(key, rotation);
  }
  return rotation;
}

/** Q of A = QR for a (dim, dim) by Householder reflections I - 2 v v' / v'v; destroys a. */
function orthogonalFactor(a: Float64Array, dim: number): Float64Array {
  const q = new Float64Array(dim * dim);
  for (let i = 0; i < dim; i++) q[i * dim + i] = 1;
  const v = new Float64Array(dim);
  for (let k = 0; k < dim; k++) {
    let square = 0;
    for (let i = k; i < dim; i++) square += (v[i] = a[i * dim + k]) ** 2;
    const norm = Math.sqrt(square);
    if (norm === 0) continue;
    v[k] += v[k] < 0 ? -norm : norm;
    const scale = 1 / (norm * Math.abs(v[k]));
    reflectColumns(a, v, k, scale, dim);
    reflectRows(q, v, k, scale, dim);
  }
  return q;
}

/** a = (I - scale v v') a, v zero before k. */
function reflectColumns(a: Float64Array, v: Float64Array, k: number, scale: number, dim: number): void {
  const sums = new Float64Array(dim);
  for (let i = k; i < dim; i++) for (let j = k; j < dim; j++) sums[j] += v[i] * a[i * dim + j];
  for (let i = k; i < dim; i++) for (let j = k; j < dim; j++) a[i * dim + j] -= scale * v[i] * sums[j];
}

/** q = q (I - scale v v'), v zero before k. */
function reflectRows(q: Float64Array, v: Float64Array, k: number, scale: number, dim: number): void {
  for (let at = 0; at < dim * dim; at += dim) {
    let sum = 0;
    for (let j = k; j < dim; j++) sum += q[at + j] * v[j];
    for (let j = k; j < dim; j++) q[at + j] -= scale * sum * v[j];
  }
}
