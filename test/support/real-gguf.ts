/** The real SmolLM2 that scripts/fetch-model.mjs brings, or the file that SVDQ_GGUF names. */
import { existsSync } from "node:fs";

const path = process.env.SVDQ_GGUF ?? "models/SmolLM2-135M-Instruct.Q4_1.gguf";

/** Undefined where there is no such file; tests that need it are left out, and say so. */
export const realGguf: string | undefined = existsSync(path) ? path : undefined;

if (!realGguf) console.log(`left out: tests on a real GGUF file (no ${path}; node scripts/fetch-model.mjs brings it)`);
