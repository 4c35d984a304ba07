// Prints src/codec/lloyd-max.ts: node scripts/make-lloyd-max.mjs > src/codec/lloyd-max.ts
//
// The least-squares scalar quantizer of a unit normal (Lloyd 1982, Max 1960): each centroid is the mean of its cell,
// each threshold lies halfway between two centroids. It is symmetric, so only the positive half is solved. A few
// Lloyd steps, which converge linearly, bring Newton's method near; that converges quadratically to f64 precision.
// Integrals are exact (closed forms in the density and the distribution function).

const BITS = [1, 2, 3, 4, 5, 6];

const density = (x) => (x === Infinity ? 0 : Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI));

/** P(0 < X < x) = density(x) * sum over k of x^(2k+1) / (2k+1)!!: all terms positive, nothing cancels. */
function mass(x) {
  if (x === Infinity) return 0.5;
  let term = x;
  let sum = x;
  for (let k = 1; term > sum * 1e-18; k++) sum += term *= (x * x) / (2 * k + 1);
  return density(x) * sum;
}

/** P(X > x), x >= 2: Laplace's continued fraction, because 0.5 - mass(x) loses digits. */
function tail(x) {
  if (x === Infinity) return 0;
  let fraction = x;
  for (let k = 200; k > 0; k--) fraction = x + k / fraction;
  return density(x) / fraction;
}

/** Probability of (a, b), and the mean of X there. */
function cell(a, b) {
  const p = a >= 2 ? tail(a) - tail(b) : mass(b) - mass(a);
  return { p, mean: (density(a) - density(b)) / p };
}

const cellsOf = (c) => c.map((x, i) => [i ? (c[i - 1] + x) / 2 : 0, i + 1 < c.length ? (x + c[i + 1]) / 2 : Infinity]);

/** Newton step for c - mean(cell) = 0: the Jacobian is tridiagonal. Returns the largest change. */
function newton(c) {
  const n = c.length;
  const [lower, diagonal, upper, right] = [[], [], [], []];
  for (const [i, [a, b]] of cellsOf(c).entries()) {
    const { p, mean } = cell(a, b);
    const byA = i ? (density(a) * (mean - a)) / p / 2 : 0;
    const byB = b === Infinity ? 0 : (density(b) * (b - mean)) / p / 2;
    lower.push(-byA);
    diagonal.push(1 - byA - byB);
    upper.push(-byB);
    right.push(mean - c[i]);
  }
  for (let i = 1; i < n; i++) {
    const factor = lower[i] / diagonal[i - 1];
    diagonal[i] -= factor * upper[i - 1];
    right[i] -= factor * right[i - 1];
  }
  let largest = 0;
  for (let i = n - 1, next = 0; i >= 0; i--) {
    next = (right[i] - upper[i] * next) / diagonal[i];
    c[i] += next;
    largest = Math.max(largest, Math.abs(next));
  }
  return largest;
}

function lloydMax(bits) {
  const n = 2 ** bits / 2;
  let c = Array.from({ length: n }, (_, i) => ((i + 0.5) / n) * (1 + bits / 2));
  for (let i = 0; i < 500; i++) c = cellsOf(c).map(([a, b]) => cell(a, b).mean);
  let change = 1;
  for (let i = 0; i < 50 && change > 1e-12; i++) change = newton(c);
  if (!(change <= 1e-12)) throw new Error(`${bits} bits: Newton's method still moves by ${change}`);
  // E(X - c)^2 = 1 - E c^2, because every c is the mean of its cell.
  const distortion = 1 - 2 * cellsOf(c).reduce((sum, [a, b], i) => sum + cell(a, b).p * c[i] ** 2, 0);
  return { c, distortion };
}

const number = (x) => x.toFixed(12).replace(/0+$/, "");

function lines(c) {
  const literals = c.map(number);
  if (c.length <= 4) return `[${literals.join(", ")}]`;
  let rows = "";
  for (let i = 0; i < c.length; i += 6) rows += `    ${literals.slice(i, i + 6).join(", ")},\n`;
  return `[\n${rows}  ]`;
}

const table = BITS.map((bits) => {
  const { c, distortion } = lloydMax(bits);
  return `  ${bits}: quantizer(${number(distortion)}, ${lines(c)}),\n`;
}).join("");

process.stdout.write(`/**
 * The least-squares scalar quantizers of a unit normal: S. Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf.
 * Theory 28 (1982); J. Max, "Quantizing for minimum distortion", IRE Trans. Inf. Theory 6 (1960).
 * Made by scripts/make-lloyd-max.mjs; do not edit.
 */
export interface ScalarQuantizer {
  /** Levels (2^bits), rising, symmetric about 0. The nearest level is the code. */
  readonly centroids: Float64Array;
  /** Mean squared error on a unit normal. */
  readonly distortion: number;
}

/** From the positive levels, rising. */
function quantizer(distortion: number, positive: number[]): ScalarQuantizer {
  const negative = positive.map((x) => -x).reverse();
  return { centroids: Float64Array.from([...negative, ...positive]), distortion };
}

/** By bits. */
// biome-ignore format: the table is easier to read in columns
export const LLOYD_MAX: Readonly<Record<1 | 2 | 3 | 4 | 5 | 6, ScalarQuantizer>> = {
${table}};
`);
