/** A short run of the fuzzer; `npm run fuzz -- --runs 1000000` is the long one. */
import { expect, it } from "vitest";
import { PLATFORMS } from "../support/platforms.ts";
import { Fuzz } from "./fuzz.ts";

it("mutated archives are read and restored, or refused as such", async () => {
  const runtime = await PLATFORMS[2].create({ maximumBytes: 2 ** 26 });
  const fuzz = await Fuzz.create(runtime, Number(process.env.SVDQ_SEED));
  for (let run = 0; run < 4000; run++) fuzz.step();
  const { answers, read, restored } = fuzz.report;
  // It gets past the checksums: contents are refused for reasons of their own, and some mutants are sound.
  expect(answers).toBeGreaterThan(40);
  expect(read).toBeGreaterThan(100);
  expect(restored).toBeGreaterThan(50);
});
