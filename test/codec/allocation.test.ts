/** Bits where they remove most variance: never more than given, padding counted, close to the best that there is. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { allocate, DISTORTION, schedule } from "../../src/codec/allocation.ts";
import { BLOCK_TOKENS, countWidths, PLANE_BYTES, planeCount, WIDTHS } from "../../src/codec/layout.ts";

/** Bits a token of the planes of a group, padding included. */
const planeBits = (widths: ArrayLike<number>): number =>
  (planeCount(countWidths(widths)) * PLANE_BYTES * 8) / BLOCK_TOKENS;

const bitsOf = (all: Uint8Array[]): number => all.reduce((sum, widths) => sum + planeBits(widths), 0);

const distortionOf = (variances: Float64Array[], all: ArrayLike<number>[]): number =>
  variances.reduce((sum, variance, g) => variance.reduce((part, x, i) => part + x * DISTORTION[all[g][i]], sum), 0);

/** Spectra as they come: falling, over many powers of ten, with equal neighbours and zeros at the end. */
const spectrum = (most: number) =>
  fc
    .array(fc.oneof(fc.double({ min: -6, max: 3, noNaN: true }), fc.constantFrom(0, 1, -Infinity)), { maxLength: most })
    .map((logs) =>
      Float64Array.from(logs, (log) => 10 ** log)
        .sort()
        .reverse(),
    );

const spectra = (groups: number, channels: number) => fc.array(spectrum(channels), { minLength: 1, maxLength: groups });

const count = (variances: Float64Array[]): number => variances.reduce((sum, { length }) => sum + length, 0);

describe("allocate", () => {
  it("never spends more than it has, padding counted; stronger channels get no less; nothing for zero variance", () => {
    fc.assert(
      fc.property(spectra(5, 70), fc.double({ min: 0, max: 9, noNaN: true }), (variances, bits) => {
        const total = Math.floor(bits * count(variances));
        const all = allocate(variances, total);
        expect(bitsOf(all)).toBeLessThanOrEqual(total);
        all.forEach((widths, g) => {
          expect(widths.length).toBe(variances[g].length);
          widths.forEach((width, i) => {
            expect(WIDTHS).toContain(width);
            if (variances[g][i] === 0) expect(width).toBe(0);
            if (i > 0) expect(width).toBeLessThanOrEqual(widths[i - 1]);
          });
        });
      }),
      { numRuns: 300 },
    );
  });

  it("leaves less than a plane where a channel could still use one, on spectra without a step or flat", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 200 }),
        fc.integer({ min: 1, max: 4 }),
        fc.double({ min: 0.9, max: 1, noNaN: true }),
        fc.double({ min: 0, max: 8, noNaN: true }),
        (channels, groups, decay, bits) => {
          const variances = Array.from({ length: groups }, (_, g) =>
            Float64Array.from({ length: channels }, (_, i) => (g + 1) * decay ** i),
          );
          const total = Math.floor(bits * channels * groups);
          const all = allocate(variances, total);
          const full = all.every((widths) => widths.every((width) => width === 8));
          // The last step may be from 4 to 8 bits, or from none to a plane of four.
          if (!full) expect(total - bitsOf(all)).toBeLessThan(8);
        },
      ),
    );
  });

  it("is nearly the best of all allocations on tiny caches, where padding and ties weigh most", () => {
    const ratios: number[] = [];
    fc.assert(
      fc.property(spectra(3, 6), fc.integer({ min: 0, max: 60 }), (variances, total) => {
        const best = leastDistortion(variances, total);
        const got = distortionOf(variances, allocate(variances, total));
        if (best > 0) ratios.push(got / best);
        // In 20,000 cases 1.113 was the worst and 1.0002 the mean.
        expect(got).toBeLessThanOrEqual(1.25 * best + 1e-12);
      }),
      { numRuns: 300 },
    );
    expect(ratios.reduce((a, b) => a + b) / ratios.length).toBeLessThan(1.005);
  });

  it("errs less the more bits it has", () => {
    const variances = [0.9, 0.7, 0.5].map((decay) => Float64Array.from({ length: 48 }, (_, i) => decay ** i));
    let before = Infinity;
    for (let total = 0; total <= 8 * 3 * 48; total += 4) {
      const distortion = distortionOf(variances, allocate(variances, total));
      expect(distortion).toBeLessThanOrEqual(before * (1 + 1e-12));
      before = distortion;
    }
    expect(before).toBeCloseTo(
      distortionOf(
        variances,
        variances.map(() => new Uint8Array(48).fill(8)),
      ),
      12,
    );
  });

  it("shares bits between groups by what they remove", () => {
    const [strong, weak] = [new Float64Array(32).fill(100), new Float64Array(32).fill(1)];
    const [forStrong, forWeak] = allocate([strong, weak], 64);
    expect(planeBits(forStrong)).toBe(64);
    expect(planeBits(forWeak)).toBe(0);
    // From 2 to 4 bits a strong channel saves 5.4 a bit; from 0 to 1 a weak one saves 0.64.
    expect(allocate([strong, weak], 128).map(planeBits)).toEqual([128, 0]);
    // From 4 to 8 it saves 0.237 a bit: the weak ones come first.
    expect(allocate([strong, weak], 160).map(planeBits)).toEqual([128, 32]);
  });

  it("spends all on channels of equal variance", () => {
    for (const total of [4, 40, 60, 100, 200, 256, 500]) {
      expect(bitsOf(allocate([new Float64Array(64).fill(0.3)], total))).toBe(total);
      expect(
        bitsOf(
          allocate(
            [64, 64].map((n) => new Float64Array(n).fill(2)),
            total,
          ),
        ),
      ).toBe(total);
    }
  });

  it("does not care for the unit of variance", () => {
    const variance = Float64Array.from({ length: 64 }, (_, i) => 0.85 ** i);
    const expected = allocate([variance], 80);
    for (const unit of [2 ** -300, 2 ** -40, 2 ** 40, 2 ** 300]) {
      expect(allocate([variance.map((x) => x * unit)], 80)).toEqual(expected);
    }
  });

  it("spends nothing where nothing varies, or nothing is left to gain", () => {
    expect(allocate([], 10)).toEqual([]);
    expect(allocate([new Float64Array(0), new Float64Array(3)], 100)).toEqual([new Uint8Array(0), new Uint8Array(3)]);
    expect(allocate([Float64Array.of(1, 0)], 1000)).toEqual([Uint8Array.of(8, 0)]);
    for (const total of [0, 1, 3]) expect(allocate([Float64Array.of(5, 4)], total)).toEqual([new Uint8Array(2)]);
  });
});

describe("distortion", () => {
  it("falls by less a bit the more bits there are", () => {
    const gains = WIDTHS.slice(1).map((to, i) => (DISTORTION[WIDTHS[i]] - DISTORTION[to]) / (to - WIDTHS[i]));
    for (let i = 0; i < gains.length; i++) {
      expect(gains[i]).toBeGreaterThan(0);
      if (i > 0) expect(gains[i]).toBeLessThan(gains[i - 1]);
    }
    expect(DISTORTION[0]).toBe(1);
  });
});

describe("schedule", () => {
  it("gives equal parts their widths, the rest to the last", () => {
    expect([...schedule(8, [8, 4, 2, 1, 1, 0, 0, 0])]).toEqual([8, 4, 2, 1, 1, 0, 0, 0]);
    expect([...schedule(16, [4, 4, 2, 0, 0, 0, 0, 0])]).toEqual([4, 4, 4, 4, 2, 2, ...new Array(10).fill(0)]);
    expect([...schedule(10, [8, 4, 2, 1])]).toEqual([8, 8, 4, 4, 2, 2, 1, 1, 1, 1]);
    expect([...schedule(3, [8, 4, 2, 1, 1, 0, 0, 0])]).toEqual([8, 4, 2]);
    expect(schedule(0, [8, 4])).toEqual(new Uint8Array(0));
  });

  it("has the mean bits that the paper states, for heads in eights", () => {
    for (const channels of [64, 192, 1024]) {
      const mean = (widths: number[]) => schedule(channels, widths).reduce((sum, w) => sum + w, 0) / channels;
      expect(mean([8, 4, 2, 1, 1, 0, 0, 0])).toBe(2);
      expect(mean([4, 4, 2, 0, 0, 0, 0, 0])).toBe(1.25);
    }
  });
});

// ------------------------------------------------------------------------------------------------ brute force
/** Every list of widths of `channels` channels, falling: variances fall, so no other is better. */
function* fallingWidths(channels: number, widest = WIDTHS.length - 1): Generator<number[]> {
  if (channels === 0) yield [];
  for (let i = widest; channels > 0 && i >= 0; i--) {
    for (const rest of fallingWidths(channels - 1, i)) yield [WIDTHS[i], ...rest];
  }
}

function leastDistortion(variances: Float64Array[], total: number): number {
  // Least distortion of the groups so far, by the bits that they take.
  let least = new Map([[0, 0]]);
  for (const variance of variances) {
    const next = new Map<number, number>();
    for (const widths of fallingWidths(variance.length)) {
      const [bits, distortion] = [planeBits(widths), distortionOf([variance], [widths])];
      for (const [before, sum] of least) {
        const known = next.get(before + bits) ?? Infinity;
        if (before + bits <= total) next.set(before + bits, Math.min(known, sum + distortion));
      }
    }
    least = next;
  }
  return Math.min(...least.values());
}
