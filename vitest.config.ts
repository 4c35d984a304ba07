import { defineConfig } from "vitest/config";

/** One seed for all properties of a run: the same in CI, another by hand; SVDQ_SEED=… npm test repeats it. */
const SEED = (process.env.SVDQ_SEED ??= process.env.CI ? "20261125" : String(Date.now() % 2 ** 31));
console.log(`fast-check seed: ${SEED} (to repeat: SVDQ_SEED=${SEED} npm test)`);

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    setupFiles: ["test/support/property-seed.ts"],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    reporters: process.env.CI ? ["default", "./test/support/summary-reporter.ts"] : ["default"],
  },
});
