/** Gives every property the seed that vitest.config.ts prints. */
import fc from "fast-check";

fc.configureGlobal({ seed: Number(process.env.SVDQ_SEED) });
