/** `svdq compress --ratio` and `--target-kl`: what they choose and say, and what they refuse. */
import { statSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { readArchive } from "../../src/archive/reader.ts";
import { hasStreams } from "../../src/codec/coded.ts";
import { testDirectory } from "../support/directory.ts";
import { FIXTURE, svdq, svdqJson } from "./cli.ts";

const pathOf = testDirectory();
const SMOLLM2 = "test/fixtures/smollm2.profile";
const known = ["--profile", SMOLLM2];
const compress = (...flags: string[]) => svdqJson("compress", FIXTURE, "-o", pathOf("a.svdq"), ...known, ...flags);

describe("--ratio", () => {
  it.each([[4], [6], [8], [6, "--entropy"], [9, "--entropy"]])(
    "%s %s: counts every byte of the file, and wastes few",
    async (ratio, ...flags: string[]) => {
      const { chosen, totalBytes, f16Bytes } = await compress("--ratio", String(ratio), ...flags);
      expect(statSync(pathOf("a.svdq")).size).toBe(totalBytes);
      expect(f16Bytes / totalBytes).toBeGreaterThanOrEqual(ratio);
      expect(f16Bytes / totalBytes).toBeLessThan(1.12 * ratio);
      expect(chosen.expectedKl).toBeGreaterThan(0);
    },
  );

  it("works without a profile, and says that it then knows less", async () => {
    const { code, stdout } = await svdq(["compress", FIXTURE, "-o", pathOf("a"), "--ratio", "6"]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^chosen +[\d.]+ bits for keys, [\d.]+ for values: shared as in the defaults, because/m);
  });

  it("refuses what no bits give", async () => {
    const outcome = await svdq(["compress", FIXTURE, "-o", pathOf("a"), "--ratio", "30"]);
    expect(outcome).toMatchObject({ code: 2, stdout: "" });
    expect(outcome.stderr).toMatch(
      /^svdq: --ratio: expected at most 1\d\.\d, which .* with 68 tokens exact, got 30\n$/,
    );
  });
});

describe("--target-kl", () => {
  it("takes fewer bytes for a looser target, and says what it chose and expects", async () => {
    const [loose, close] = [await compress("--target-kl", "0.003"), await compress("--target-kl", "0.0006")];
    expect(loose.totalBytes).toBeLessThan(close.totalBytes);
    expect(loose.chosen.expectedKl).toBeLessThanOrEqual(0.003);
    expect(close.chosen.expectedKl).toBeLessThanOrEqual(0.0006);
    const { stdout } = await svdq(["compress", FIXTURE, "-o", pathOf("a"), ...known, "--target-kl", "0.003"]);
    const { keyBits, valueBits, expectedKl } = loose.chosen;
    expect(stdout).toContain(
      `chosen  ${keyBits} bits for keys, ${valueBits} for values; expected KL of the next token ${expectedKl.toPrecision(2)} nats`,
    );
  });

  it("takes fewer bytes at entropy", async () => {
    const [planes, entropy] = [
      await compress("--target-kl", "0.001"),
      await compress("--target-kl", "0.001", "--entropy"),
    ];
    expect(entropy.chosen.expectedKl).toBeLessThanOrEqual(0.001);
    expect(entropy.totalBytes).toBeLessThan(0.95 * planes.totalBytes);
    expect((await readArchive(pathOf("a.svdq"))).layers.every(hasStreams)).toBe(true);
  });

  it("wants a profile with Fisher information", async () => {
    const args = ["compress", FIXTURE, "-o", pathOf("a"), "--target-kl", "0.01"];
    const none = await svdq(args);
    expect(none).toMatchObject({ code: 2, stdout: "" });
    expect(none.stderr).toMatch(/--target-kl: expected a --profile with the model's Fisher information, got none\n$/);
    const off = await svdq([...args, ...known, "--no-metric"]);
    expect(off.stderr).toMatch(/got --no-metric\n$/);
  });

  it.each([
    ["--target-kl", "0.5"],
    ["--target-kl", "x"],
    ["--target-kl", "0.01", "--ratio", "4"],
    ["--target-kl", "0.01", "--key-bits", "1"],
    ["--ratio", "4", "--schedule", "4,4,2,0,0,0,0,0"],
    ["--ratio", "0.5"],
  ])("%s %s %s %s is wrong usage", async (...flags) => {
    expect(await svdq(["compress", FIXTURE, "-o", pathOf("a"), ...flags])).toMatchObject({ code: 2, stdout: "" });
  });
});
