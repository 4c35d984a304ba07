/** Bits for a goal on a real cache: bytes as an archive has them, losses that fall with bits, the best of what fits. */
import { beforeAll, describe, expect, it } from "vitest";
import { bytesOf, totalBytes } from "../../src/codec/bytes.ts";
import { type Choice, choicesOf, chooseForBytes, chooseForKl } from "../../src/codec/choose.ts";
import { compress, rangeOf } from "../../src/codec/compress.ts";
import { checkTargetKl, expectedKl, hasMetric, spectraOf, weighed } from "../../src/codec/expected-kl.ts";
import { checkOptions } from "../../src/codec/options.ts";
import type { CacheSource } from "../../src/codec/source.ts";
import { UnsupportedError } from "../../src/errors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { openFixture } from "../support/live-cache.ts";
import { PLATFORMS } from "../support/platforms.ts";

const options = checkOptions({ keyBits: 4, valueBits: 4 });
let runtime: Runtime;
let source: CacheSource;
let choices: Choice[];
let plain: Choice[];

beforeAll(async () => {
  runtime = await PLATFORMS[2].create();
  source = await openFixture();
  const coded = rangeOf(source.tokenCount, options).count;
  const spectra = await spectraOf(runtime, source, options);
  expect(hasMetric(spectra)).toBe(true);
  choices = choicesOf(spectra, options, coded);
  const blind = await spectraOf(runtime, source, { ...options, metric: false });
  expect(hasMetric(blind)).toBe(false);
  plain = choicesOf(blind, options, coded);
});

const at = (keyBits: number, valueBits: number): Choice =>
  choices.find((choice) => choice.keyBits === keyBits && choice.valueBits === valueBits)!;

describe("choices", () => {
  it.each([
    [1.25, 2],
    [0.5, 1],
    [3, 4],
  ])("count the bytes that coding at %s and %s bits then takes", async (keyBits, valueBits) => {
    const bytes = bytesOf(await compress(runtime, source, { keyBits, valueBits, attentionWeights: false }));
    const taken = (["keys", "values"] as const).reduce(
      (sum, part) => sum + totalBytes(bytes[part]) - bytes[part].exact,
      0,
    );
    expect(at(keyBits, valueBits).codedBytes / taken).toBeCloseTo(1, 2);
  });

  it("lose less and take more the more bits they have", () => {
    for (const [less, more] of [
      [at(1, 2), at(1.25, 2)],
      [at(1.25, 1.5), at(1.25, 2)],
      [at(2, 2), at(4, 4)],
    ]) {
      expect(more.expectedKl!).toBeLessThan(less.expectedKl!);
      expect(more.codedBytes).toBeGreaterThan(less.codedBytes);
    }
  });
});

describe("for a KL", () => {
  it.each([0.05, 0.01, 0.003])("%s: the fewest bytes that are expected to keep it", (target) => {
    const chosen = chooseForKl(choices, target);
    expect(chosen.expectedKl!).toBeLessThanOrEqual(target);
    expect(chosen.expectedKl!).toBeGreaterThan(0.7 * target);
    const smaller = choices.filter(({ codedBytes }) => codedBytes < chosen.codedBytes);
    expect(smaller.length).toBeGreaterThan(0);
    for (const { expectedKl } of smaller) expect(expectedKl!).toBeGreaterThan(target);
  });

  it("refuses without a metric, and what no bits give", () => {
    expect(() => chooseForKl(plain, 0.01)).toThrow(UnsupportedError);
    expect(() => chooseForKl(choices, 1e-9)).toThrow(/^targetKl: expected at least .*, got 1e-9$/);
    for (const bad of [0, -1, 0.2, Number.NaN])
      expect(() => checkTargetKl(bad)).toThrow(/^targetKl: expected a number/);
  });
});

describe("for bytes", () => {
  it("takes the pair of least loss that fits", () => {
    const most = at(1.25, 2).codedBytes;
    const chosen = chooseForBytes(choices, most)!;
    expect(chosen.codedBytes).toBeLessThanOrEqual(most);
    expect(chosen.expectedKl!).toBeLessThanOrEqual(at(1.25, 2).expectedKl!);
    expect(chooseForBytes(choices, 10)).toBeUndefined();
  });

  it("without a metric shares bits as the defaults do and expects nothing", () => {
    const chosen = chooseForBytes(plain, at(1.25, 2).codedBytes)!;
    expect(chosen.expectedKl).toBeNull();
    expect(chosen.keyBits / chosen.valueBits).toBeGreaterThan(0.5);
    expect(chosen.keyBits / chosen.valueBits).toBeLessThan(0.8);
  });
});

describe("the expected KL", () => {
  it("grows with both errors, and where the text repeats itself", () => {
    const own = { keyKl: 0.01, valueError: 0.02 };
    const base = expectedKl({ keyKl: 0.02, valueError: 0.03 }, own);
    expect(expectedKl({ keyKl: 0.03, valueError: 0.03 }, own)).toBeGreaterThan(base);
    expect(expectedKl({ keyKl: 0.02, valueError: 0.04 }, own)).toBeGreaterThan(base);
    expect(expectedKl({ keyKl: 0.02, valueError: 0.03 }, { keyKl: 0.005, valueError: 0.02 })).toBeGreaterThan(base);
    expect(expectedKl({ keyKl: 0, valueError: 0 }, own)).toBe(0);
    // (own / reference)^-1.5, so a quarter of the errors at 2 bits weighs eight times.
    const quarter = weighed({ keyKl: 1, valueError: 1 }, { keyKl: own.keyKl / 4, valueError: own.valueError });
    expect(quarter.keyKl / weighed({ keyKl: 1, valueError: 1 }, own).keyKl).toBeCloseTo(8, 10);
  });
});
