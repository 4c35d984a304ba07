// Prints src/codec/step-rates.ts: node scripts/make-step-rates.mjs > src/codec/step-rates.ts
//
// What a normal channel costs and loses in even steps with a dead zone: the entropy of its codes, and the squared error
// that is left when levels are q times the least-squares factor.

const ROUNDING = 0.4;
/** Of the deviation in steps: from one entry to the next, and how many. */
const [SPACING, ENTRIES] = [1 / 16, 65];
/** Deviations that the integrals reach to, and panels of Simpson's rule a cell. */
const [REACH, PANELS] = [9, 200];

const density = (x) => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);

function integrate(f, a, b) {
  const h = (b - a) / PANELS;
  let sum = 0;
  for (let i = 0; i <= PANELS; i++) sum += (i === 0 || i === PANELS ? 1 : i % 2 ? 4 : 2) * f(a + i * h);
  return (sum * h) / 3;
}

/** [bits a code, squared error in steps^2] of a normal channel of that deviation in steps. */
function costOf(deviation) {
  if (deviation === 0) return [0, 0];
  let [rest, bits, cross, square] = [1, 0, 0, 0];
  for (let q = 1; (q - ROUNDING) / deviation < REACH; q++) {
    const [from, to] = [q - ROUNDING, q + 1 - ROUNDING].map((x) => Math.min(REACH, x / deviation));
    const p = integrate(density, from, to);
    if (p > 0) bits -= 2 * p * Math.log2(p);
    rest -= 2 * p;
    cross += 2 * q * deviation * (density(from) - density(to));
    square += 2 * q * q * p;
  }
  if (rest > 0) bits -= rest * Math.log2(rest);
  return [bits, deviation ** 2 - (square > 0 ? cross ** 2 / square : 0)];
}

const costs = Array.from({ length: ENTRIES }, (_, i) => costOf(i * SPACING));

function table(column) {
  let rows = "";
  for (let i = 0; i < ENTRIES; i += 10) {
    const literals = costs.slice(i, i + 10).map((cost) => String(Number(cost[column].toFixed(8))));
    rows += `  ${literals.join(", ")},\n`;
  }
  return `[\n${rows}]`;
}

process.stdout.write(`/**
 * A normal channel in even steps with a dead zone, codes at their entropy, by its deviation in steps.
 * Made by scripts/make-step-rates.mjs; do not edit.
 */

/** |q| = floor(|value| / step + ROUNDING). */
export const ROUNDING = ${ROUNDING};

/** Deviations from one entry to the next, in steps; the first is 0. */
export const SPACING = ${SPACING};

/** Bits a code. */
// biome-ignore format: the table is easier to read in columns
export const RATES: readonly number[] = ${table(0)};

/** Squared error in steps^2, levels at q times the least-squares factor. */
// biome-ignore format: the table is easier to read in columns
export const ERRORS: readonly number[] = ${table(1)};
`);
