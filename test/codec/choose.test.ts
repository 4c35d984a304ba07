/** Bits for a goal on a real cache: bytes as an archive has them, losses that fall with bits, the best of what fits. */
import { beforeAll, describe, expect, it } from "vitest";
import { bytesOf, totalBytes } from "../../src/codec/bytes.ts";
import { type Choice, choicesOf, chooseForBytes, chooseForKl } from "../../src/codec/choose.ts";
import { compress, rangeOf } from "../../src/codec/compress.ts";
import { checkTargetKl, expectedKl, klOfErrors } from "../../src/codec/expected-kl.ts";
import { checkOptions } from "../../src/codec/options.ts";
import type { CacheSource } from "../../src/codec/source.ts";
import { hasFisher, spectraOf } from "../../src/codec/spectra.ts";
import { readProfile, withProfile } from "../../src/engines/profile.ts";
import { UnsupportedError } from "../../src/errors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { openFixture } from "../support/live-cache.ts";
import { PLATFORMS } from "../support/platforms.ts";

/** The fixture has two of the layers whose errors sum up. */
const TARGETS = [0.003, 0.001, 0.0003];
const options = checkOptions({ keyBits: 4, valueBits: 4 });
let runtime: Runtime;
let source: CacheSource;
/** Without Fisher information, in planes. */
let plain: Choice[];
const choicesBy: Record<string, Choice[]> = {};

beforeAll(async () => {
  runtime = await PLATFORMS[2].create();
  const dump = await openFixture();
  source = withProfile(dump, await readProfile("test/fixtures/smollm2.profile"));
  const coded = rangeOf(source.tokenCount, options).count;
  const spectra = await spectraOf(runtime, source, options);
  expect(hasFisher(spectra)).toBe(true);
  choicesBy.planes = choicesOf(spectra, options, coded);
  choicesBy.entropy = choicesOf(spectra, { ...options, entropy: true }, coded);
  const blind = await spectraOf(runtime, dump, options);
  expect(hasFisher(blind)).toBe(false);
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

  it.each(TARGETS)("for a KL of %s: the fewest bytes that are expected to keep it", (target) => {
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
  for (const target of TARGETS) {
    const [planes, entropy] = ["planes", "entropy"].map((coder) => chooseForKl(choicesBy[coder], target).codedBytes);
    expect(entropy / planes).toBeLessThan(0.92);
  }
});

describe("for a KL", () => {
  it("refuses without Fisher information, and what no bits give", () => {
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

  it("without Fisher information shares bits as the defaults do and expects nothing", () => {
    const chosen = chooseForBytes(plain, at(1.25, 2).codedBytes)!;
    expect(chosen.expectedKl).toBeNull();
    expect(chosen.keyBits / chosen.valueBits).toBeGreaterThan(0.5);
    expect(chosen.keyBits / chosen.valueBits).toBeLessThan(0.8);
  });
});

describe("the expected KL", () => {
  it("is half of the errors' sum, of all layers, groups and channels", () => {
    const errors = [[Float64Array.of(1, 2), Float64Array.of(4)], [Float64Array.of(8)]];
    expect(klOfErrors(errors)).toBe(7.5);
  });

  it("grows with errors of keys and of values, and is 0 without any", () => {
    const base = expectedKl(0.01, 0.02);
    expect(expectedKl(0.02, 0.02)).toBeGreaterThan(base);
    expect(expectedKl(0.01, 0.03)).toBeGreaterThan(base);
    expect(expectedKl(0, 0)).toBe(0);
  });
});
