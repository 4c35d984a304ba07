/** Bits for a goal on a real cache: bytes as an archive has them, losses that fall with bits, the best of what fits. */
import { beforeAll, describe, expect, it } from "vitest";
import { bytesOf, totalBytes } from "../../src/codec/bytes.ts";
import { type Choice, choicesOf, chooseForBytes, chooseForKl } from "../../src/codec/choose.ts";
import { compress, rangeOf } from "../../src/codec/compress.ts";
import { calibrationOf, checkTargetKl, expectedKl, weighed } from "../../src/codec/expected-kl.ts";
import { checkOptions } from "../../src/codec/options.ts";
import type { CacheSource } from "../../src/codec/source.ts";
import { hasMetric, spectraOf } from "../../src/codec/spectra.ts";
import { UnsupportedError } from "../../src/errors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { openFixture } from "../support/live-cache.ts";
import { PLATFORMS } from "../support/platforms.ts";

const options = checkOptions({ keyBits: 4, valueBits: 4 });
let runtime: Runtime;
let source: CacheSource;
/** Without a metric, in planes. */
let plain: Choice[];
const choicesBy: Record<string, Choice[]> = {};

beforeAll(async () => {
  runtime = await PLATFORMS[2].create();
  source = await openFixture();
  const coded = rangeOf(source.tokenCount, options).count;
  const spectra = await spectraOf(runtime, source, options);
  expect(hasMetric(spectra)).toBe(true);
  choicesBy.planes = choicesOf(spectra, options, coded);
  choicesBy.entropy = choicesOf(spectra, { ...options, entropy: true }, coded);
  const blind = await spectraOf(runtime, source, { ...options, metric: false });
  expect(hasMetric(blind)).toBe(false);
  plain = choicesOf(blind, options, coded);
});

const at = (keyBits: number, valueBits: number, choices = choicesBy.planes): Choice =>
  choices.find((choice) => choice.keyBits === keyBits && choice.valueBits === valueBits)!;

describe.each(["planes", "entropy"])("choices in %s", (coder) => {
  it.each([
    [1.25, 2],
    [0.5, 1],
    [3, 4],
  ])("count the bytes that coding at %s and %s bits then takes", async (keyBits, valueBits) => {
    const entropy = coder === "entropy";
    const given = { keyBits, valueBits, attentionWeights: false, entropy };
    const bytes = bytesOf(await compress(runtime, source, given));
    const taken = (["keys", "values"] as const).reduce(
      (sum, part) => sum + totalBytes(bytes[part]) - bytes[part].exact,
      0,
    );
    // Of streams only rates of normal channels are known before.
    const part = at(keyBits, valueBits, choicesBy[coder]).codedBytes / taken;
    expect(Math.abs(part - 1)).toBeLessThan(entropy ? 0.04 : 0.005);
  });

  it("lose less and take more the more bits they have", () => {
    const of = (keyBits: number, valueBits: number) => at(keyBits, valueBits, choicesBy[coder]);
    for (const [less, more] of [
      [of(1, 2), of(1.25, 2)],
      [of(1.25, 1.5), of(1.25, 2)],
      [of(2, 2), of(4, 4)],
    ]) {
      expect(more.expectedKl!).toBeLessThan(less.expectedKl!);
      expect(more.codedBytes).toBeGreaterThan(less.codedBytes);
    }
  });

  it.each([0.05, 0.01, 0.003])("for a KL of %s: the fewest bytes that are expected to keep it", (target) => {
    const choices = choicesBy[coder];
    const chosen = chooseForKl(choices, target);
    expect(chosen.expectedKl!).toBeLessThanOrEqual(target);
    expect(chosen.expectedKl!).toBeGreaterThan(0.7 * target);
    const smaller = choices.filter(({ codedBytes }) => codedBytes < chosen.codedBytes);
    expect(smaller.length).toBeGreaterThan(0);
    for (const { expectedKl } of smaller) expect(expectedKl!).toBeGreaterThan(target);
  });
});

it("at entropy reach the same KL in fewer bytes", () => {
  for (const target of [0.05, 0.01, 0.003]) {
    const [planes, entropy] = ["planes", "entropy"].map((coder) => chooseForKl(choicesBy[coder], target).codedBytes);
    expect(entropy / planes).toBeLessThan(0.9);
  }
});

describe("for a KL", () => {
  it("refuses without a metric, and what no bits give", () => {
    expect(() => chooseForKl(plain, 0.01)).toThrow(UnsupportedError);
    expect(() => chooseForKl(choicesBy.planes, 1e-9)).toThrow(/^targetKl: expected at least .*, got 1e-9$/);
    for (const bad of [0, -1, 0.2, Number.NaN])
      expect(() => checkTargetKl(bad)).toThrow(/^targetKl: expected a number/);
  });
});

describe("for bytes", () => {
  it("takes the pair of least loss that fits", () => {
    const most = at(1.25, 2).codedBytes;
    const chosen = chooseForBytes(choicesBy.planes, most)!;
    expect(chosen.codedBytes).toBeLessThanOrEqual(most);
    expect(chosen.expectedKl!).toBeLessThanOrEqual(at(1.25, 2).expectedKl!);
    expect(chooseForBytes(choicesBy.planes, 10)).toBeUndefined();
  });

  it("without a metric shares bits as the defaults do and expects nothing", () => {
    const chosen = chooseForBytes(plain, at(1.25, 2).codedBytes)!;
    expect(chosen.expectedKl).toBeNull();
    expect(chosen.keyBits / chosen.valueBits).toBeGreaterThan(0.5);
    expect(chosen.keyBits / chosen.valueBits).toBeLessThan(0.8);
  });
});

describe.each([
  // Errors weigh (own / reference)^-1.5 in planes, ^-1 at entropy: a quarter of the errors at 2 bits eight or four times.
  { entropy: false, aQuarterWeighs: 8 },
  { entropy: true, aQuarterWeighs: 4 },
])("the expected KL, entropy: $entropy", ({ entropy, aQuarterWeighs }) => {
  const calibration = calibrationOf({ entropy });

  it("grows with both errors, and where the text repeats itself", () => {
    const own = { keyKl: 0.01, valueError: 0.02 };
    const klOf = (keyKl: number, valueError: number, of = own) => expectedKl({ keyKl, valueError }, of, calibration);
    const base = klOf(0.02, 0.03);
    expect(klOf(0.03, 0.03)).toBeGreaterThan(base);
    expect(klOf(0.02, 0.04)).toBeGreaterThan(base);
    expect(klOf(0.02, 0.03, { ...own, keyKl: 0.005 })).toBeGreaterThan(base);
    expect(klOf(0, 0)).toBe(0);
    const weight = (keyKl: number) => weighed({ keyKl: 1, valueError: 1 }, { ...own, keyKl }, calibration).keyKl;
    expect(weight(own.keyKl / 4) / weight(own.keyKl)).toBeCloseTo(aQuarterWeighs, 10);
  });
});
