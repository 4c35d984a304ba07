/** Basis rows in few bits: as exact as their channels deserve. */
import { describe, expect, it } from "vitest";
import { fitsWidth } from "../../src/archive/bits.ts";
import { DISTORTION } from "../../src/codec/allocation.ts";
import type { Basis } from "../../src/codec/basis.ts";
import { basisRows, codeBasis, LEAST_BASIS_BITS, MOST_BASIS_BITS } from "../../src/codec/basis-codes.ts";
import type { CodedBasis } from "../../src/codec/coded.ts";
import { fromHalf, toHalf } from "../../src/codec/half.ts";
import { orthonormal } from "../support/linear-algebra.ts";
import { noise } from "../support/noise.ts";
import { relativeError } from "../support/tiny-cache.ts";

const DIM = 32;

/** Orthonormal rows, variances that fall by half from one to the next. */
function basisOf(rank = 8, roots?: Float64Array[]): Basis {
  const synthesis = Float32Array.from(orthonormal(noise(rank * DIM, 3), rank, DIM));
  const variance = Float64Array.from({ length: rank }, (_, c) => 2 ** -c);
  return { dim: DIM, rank, variance, energy: 2, synthesis, ...(roots && { roots }) };
}

const keep = (widths: number[]) => ({
  channels: widths.map((_, c) => c),
  errors: widths.map((width, c) => 2 ** -c * DISTORTION[width]),
});
const EIGHT = keep([8, 4, 4, 2, 2, 2, 1, 1]);

/** Squared error of each row over its square. */
function rowErrors(basis: Basis, coded: CodedBasis, channels: number[]): number[] {
  const rows = basisRows(coded, DIM);
  return channels.map((channel, i) =>
    relativeError(rows.subarray(i * DIM, (i + 1) * DIM), basis.synthesis.subarray(channel * DIM, (channel + 1) * DIM)),
  );
}

const expectFits = ({ widths, codes }: CodedBasis): void => {
  codes.forEach((code, i) => {
    if (!fitsWidth(code, widths[Math.floor(i / DIM)]))
      expect.fail(`code ${i}: ${code} in ${widths[Math.floor(i / DIM)]} bits`);
  });
};

describe("basis in a given number of bits", () => {
  it("has rows of that width, and an error that falls as bits grow", () => {
    const basis = basisOf();
    let before = Infinity;
    for (let bits = LEAST_BASIS_BITS; bits <= MOST_BASIS_BITS; bits++) {
      const coded = codeBasis(basis, EIGHT, 1000, bits);
      expect(Array.from(coded.widths)).toEqual(Array(8).fill(bits));
      expectFits(coded);
      const error = Math.max(...rowErrors(basis, coded, EIGHT.channels));
      expect(error).toBeLessThan(before / 2);
      before = error;
    }
    // Steps of the greatest element, at most the row's length: step^2 / 12 an element, DIM of them.
    expect(before).toBeLessThan((DIM / 12) * 2 ** -22);
  });

  it("takes from 8 bits on the whole range of a row, without clipping", () => {
    const basis = basisOf();
    const { scales, codes } = codeBasis(basis, EIGHT, 1000, 8);
    for (let i = 0; i < codes.length; i++) {
      expect(Math.abs(codes[i] * scales[Math.floor(i / DIM)] - basis.synthesis[i])).toBeLessThanOrEqual(
        0.5001 * scales[Math.floor(i / DIM)],
      );
    }
  });

  it("clips an outlier of a row in few bits where that is better", () => {
    const basis = basisOf(1);
    basis.synthesis.set(noise(DIM, 5).map((x) => 0.3 * Math.sign(x)));
    basis.synthesis[7] = 1;
    const coded = codeBasis(basis, keep([2]), 1000, 3);
    const largest = Math.max(...Array.from(coded.codes, Math.abs)) * coded.scales[0];
    expect(largest).toBeLessThan(0.95);
    const unclipped = basis.synthesis.map((x) => Math.max(-4, Math.min(3, Math.round(3 * x))) / 3);
    expect(rowErrors(basis, coded, [0])[0]).toBeLessThan(relativeError(unclipped, basis.synthesis));
  });

  it("takes the kept channels in the order of their codes", () => {
    const basis = basisOf();
    const kept = { channels: [5, 0, 2], errors: [1, 1, 1] };
    expect(Math.max(...rowErrors(basis, codeBasis(basis, kept, 1000, 10), kept.channels))).toBeLessThan(1e-5);
  });

  it("of a zero row is zero, of no channels is empty", () => {
    const basis = basisOf(2);
    basis.synthesis.fill(0, 0, DIM);
    const coded = codeBasis(basis, keep([1, 1]), 100, "auto");
    expect(coded.scales[0]).toBe(0);
    expect(
      basisRows(coded, DIM)
        .subarray(0, DIM)
        .every((x) => x === 0),
    ).toBe(true);
    const none = codeBasis(basis, keep([]), 100, "auto");
    expect([none.widths.length, none.scales.length, none.codes.length]).toEqual([0, 0, 0]);
  });
});

describe('basis in "auto" bits', () => {
  const widthsOf = (tokens: number): number[] => Array.from(codeBasis(basisOf(), EIGHT, tokens, "auto").widths);

  it("gives stronger channels more, weak ones few", () => {
    const widths = widthsOf(2000);
    for (let c = 1; c < 8; c++) expect(widths[c]).toBeLessThanOrEqual(widths[c - 1]);
    expect(widths[0]).toBeGreaterThan(widths[7] + 2);
  });

  it("gives longer caches more, to a factor of four in tokens a bit", () => {
    const sums = [50, 200, 800, 3200, 12800].map((tokens) => widthsOf(tokens).reduce((a, b) => a + b, 0));
    for (let i = 1; i < sums.length; i++) {
      expect(sums[i]).toBeGreaterThan(sums[i - 1]);
      expect(sums[i] - sums[i - 1]).toBeLessThanOrEqual(12);
    }
  });

  it("stays between the least and the most", () => {
    expect(Math.min(...widthsOf(1))).toBe(LEAST_BASIS_BITS);
    expect(widthsOf(1e9)).toEqual(Array(8).fill(MOST_BASIS_BITS));
  });

  it("spends less than 8 bits throughout for no more error than a twentieth of the codes'", () => {
    const basis = basisOf();
    const tokens = 2000;
    const coded = codeBasis(basis, EIGHT, tokens, "auto");
    expect(coded.widths.reduce((a, b) => a + b, 0)).toBeLessThan(64);
    const cost = rowErrors(basis, coded, EIGHT.channels).reduce((sum, error, c) => sum + error * basis.variance[c], 0);
    const codes = EIGHT.errors.reduce((a, b) => a + b, 0);
    expect(cost).toBeLessThan(codes / 20);
  });
});

describe("column scales", () => {
  /** Diagonal of a root: the first dimensions count 100 times as much as the last. */
  const diagonal = Float64Array.from({ length: DIM }, (_, d) => 10 ** (1 - (2 * d) / (DIM - 1)));
  /** (n, n) with part of `values` on its diagonal. */
  const diagonalRoot = (values: Float64Array): Float64Array =>
    Float64Array.from({ length: values.length ** 2 }, (_, i) =>
      i % (values.length + 1) === 0 ? values[i % values.length] : 0,
    );
  /** Two heads of 16. */
  const roots = [diagonal.subarray(0, 16), diagonal.subarray(16)].map(diagonalRoot);

  it("are there with a metric only: positive halves of mean square 1, large where queries do not look", () => {
    expect(codeBasis(basisOf(), EIGHT, 100, 6).columnScales).toBeUndefined();
    const columns = Array.from(codeBasis(basisOf(8, roots), EIGHT, 100, 6).columnScales!, fromHalf);
    expect(columns.length).toBe(DIM);
    expect(columns.reduce((sum, x) => sum + x * x, 0) / DIM).toBeCloseTo(1, 2);
    for (let d = 1; d < DIM; d++) expect(columns[d]).toBeGreaterThan(columns[d - 1]);
    // No column falls below a positive half, however unequal the metric is.
    const steep = [diagonalRoot(diagonal.map((x) => x ** 4))];
    expect(Math.min(...Array.from(codeBasis(basisOf(8, steep), EIGHT, 100, 6).columnScales!, fromHalf))).toBe(2 ** -10);
  });

  it("lower the error that the metric sees", () => {
    const seen = (basis: Basis): number => {
      const rows = basisRows(codeBasis(basis, EIGHT, 100, 5), DIM);
      return rows.reduce((sum, x, i) => sum + ((x - basis.synthesis[i]) * diagonal[i % DIM]) ** 2, 0);
    };
    // Both bases have the same rows, large where queries do not look, as whitening leaves them.
    const synthesis = basisOf(8).synthesis.map((x, i) => x / diagonal[i % DIM]);
    expect(seen({ ...basisOf(8, roots), synthesis })).toBeLessThan(0.3 * seen({ ...basisOf(8), synthesis }));
  });
});

describe("rows that a reader sees", () => {
  it("are f32 of code times scale, times the column", () => {
    const coded: CodedBasis = {
      widths: Uint8Array.of(4, 4),
      scales: Float32Array.of(0.1, 3),
      codes: Int16Array.of(1, -8, 7, 2, 0, -1),
    };
    const plain = Float32Array.of(Math.fround(0.1), -8 * Math.fround(0.1), 7 * Math.fround(0.1), 6, 0, -3);
    expect(basisRows(coded, 3)).toEqual(plain);
    const columnScales = Uint16Array.of(toHalf(2), toHalf(0.5), toHalf(1 / 3));
    const columns = Array.from(columnScales, fromHalf);
    expect(basisRows({ ...coded, columnScales }, 3)).toEqual(plain.map((x, i) => x * columns[i % 3]));
  });
});
