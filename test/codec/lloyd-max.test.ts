import { describe, expect, it } from "vitest";
import { LLOYD_MAX } from "../../src/codec/lloyd-max.ts";

const WIDTHS = [1, 2, 3, 4, 5, 6] as const;

/** Positive levels and distortions as printed by Max (1960), table I, to four digits. */
const MAX_1960 = {
  1: { levels: [0.798], distortion: 0.3634 },
  2: { levels: [0.4528, 1.51], distortion: 0.1175 },
  3: { levels: [0.2451, 0.756, 1.344, 2.152], distortion: 0.03454 },
  4: { levels: [0.1284, 0.3881, 0.6568, 0.9424, 1.256, 1.618, 2.069, 2.733], distortion: 0.009497 },
};

/** Integral of f times the normal density over [a, b] by Simpson's rule, independent of the script that made the table. */
function integrate(f: (x: number) => number, a: number, b: number): number {
  const panels = 20_000;
  const h = (b - a) / panels;
  let sum = 0;
  for (let i = 0; i <= panels; i++) {
    const x = a + i * h;
    sum += (i === 0 || i === panels ? 1 : i % 2 ? 4 : 2) * f(x) * Math.exp((-x * x) / 2);
  }
  return (sum * h) / 3 / Math.sqrt(2 * Math.PI);
}

describe("Lloyd-Max quantizers of a unit normal", () => {
  it.each([1, 2, 3, 4] as const)("has the published levels at %i bits", (bits) => {
    const { centroids, distortion } = LLOYD_MAX[bits];
    MAX_1960[bits].levels.forEach((level, i) => {
      expect(Math.abs(centroids[2 ** bits / 2 + i] - level)).toBeLessThan(6e-4);
    });
    expect(Math.abs(distortion - MAX_1960[bits].distortion)).toBeLessThan(1e-4);
  });

  it.each(WIDTHS)("is rising, symmetric and optimal at %i bits", (bits) => {
    const { centroids, distortion } = LLOYD_MAX[bits];
    expect(centroids.length).toBe(2 ** bits);
    let error = 0;
    centroids.forEach((c, i) => {
      expect(centroids[centroids.length - 1 - i]).toBe(-c);
      const a = i ? (centroids[i - 1] + c) / 2 : -12;
      const b = i + 1 < centroids.length ? (c + centroids[i + 1]) / 2 : 12;
      expect(b).toBeGreaterThan(a);
      // The condition of optimality: each level is the mean of its cell. Literals have 12 digits.
      expect(Math.abs(integrate((x) => x, a, b) / integrate(() => 1, a, b) - c)).toBeLessThan(1e-11);
      error += integrate((x) => (x - c) ** 2, a, b);
    });
    expect(Math.abs(error - distortion)).toBeLessThan(1e-11);
  });

  it("is the exact one bit quantizer", () => {
    expect(Math.abs(LLOYD_MAX[1].centroids[1] - Math.sqrt(2 / Math.PI))).toBeLessThan(1e-11);
    expect(Math.abs(LLOYD_MAX[1].distortion - (1 - 2 / Math.PI))).toBeLessThan(1e-11);
  });
});
