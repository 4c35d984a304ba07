/** Plain matrices in f64, row-major, for tests to compare with: written for their plainness. */

/** a (n, m) times b (m, k). */
export function product(a: ArrayLike<number>, b: ArrayLike<number>, n: number, m: number, k: number): Float64Array {
  const out = new Float64Array(n * k);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < k; j++) {
      for (let l = 0; l < m; l++) out[i * k + j] += a[i * m + l] * b[l * k + j];
    }
  }
  return out;
}

/** a (n, m) turned over: (m, n). */
export const transposed = (a: ArrayLike<number>, n: number, m: number): Float64Array =>
  Float64Array.from({ length: n * m }, (_, i) => a[(i % n) * m + Math.floor(i / n)]);

/** X of a X = b by Gauss's elimination with pivots; a (n, n), b (n, k). */
export function solve(a: ArrayLike<number>, b: ArrayLike<number>, n: number, k: number): Float64Array {
  const rows = Array.from({ length: n }, (_, i) => [
    ...Array.from({ length: n }, (_, j) => a[i * n + j]),
    ...Array.from({ length: k }, (_, j) => b[i * k + j]),
  ]);
  for (let i = 0; i < n; i++) {
    let pivot = i;
    for (let j = i; j < n; j++) if (Math.abs(rows[j][i]) > Math.abs(rows[pivot][i])) pivot = j;
    [rows[i], rows[pivot]] = [rows[pivot], rows[i]];
    for (let j = 0; j < n; j++) {
      if (j === i) continue;
      const factor = rows[j][i] / rows[i][i];
      for (let l = i; l < n + k; l++) rows[j][l] -= factor * rows[i][l];
    }
  }
  return Float64Array.from(rows.flatMap((row, i) => row.slice(n).map((x) => x / row[i])));
}

/** Rows (count, dim) made orthogonal and of length 1, in turn. */
export function orthonormal(rows: ArrayLike<number>, count: number, dim: number): Float64Array {
  const out = Float64Array.from(rows);
  const row = (i: number): Float64Array => out.subarray(i * dim, (i + 1) * dim);
  const dot = (a: Float64Array, b: Float64Array): number => a.reduce((sum, x, d) => sum + x * b[d], 0);
  for (let i = 0; i < count; i++) {
    // Twice, so that rounding of the first time is taken off.
    for (let k = 0; k < 2 * i; k++) {
      const part = dot(row(i), row(k % i));
      row(k % i).forEach((x, d) => {
        row(i)[d] -= part * x;
      });
    }
    const length = Math.sqrt(dot(row(i), row(i)));
    row(i).forEach((x, d) => {
      row(i)[d] = x / length;
    });
  }
  return out;
}

/** Symmetric (n, n) with the eigenvalues given and eigenvectors from noise. */
export function withEigenvalues(values: number[], random: ArrayLike<number>): Float64Array {
  const n = values.length;
  const vectors = orthonormal(random, n, n);
  const scaled = vectors.map((x, i) => x * values[Math.floor(i / n)]);
  return product(transposed(vectors, n, n), scaled, n, n, n);
}

/** Greatest difference of two arrays beside the greatest element of the second. */
export function worst(got: ArrayLike<number>, expected: ArrayLike<number>): number {
  let [difference, largest] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    difference = Math.max(difference, Math.abs(got[i] - expected[i]));
    largest = Math.max(largest, Math.abs(expected[i]));
  }
  if (got.length !== expected.length) return Infinity;
  return largest > 0 ? difference / largest : difference;
}
