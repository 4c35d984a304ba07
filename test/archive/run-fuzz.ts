/** `npm run fuzz -- [--runs 1000000] [--seed N]`: the fuzzer of fuzz.ts; a mutant that breaks the reader is kept as a file. */
import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { withProgress } from "../../src/cli/progress.ts";
import { instantiate } from "../../src/runtime/runtime.ts";
import { Fuzz } from "./fuzz.ts";

const { values } = parseArgs({ options: { runs: { type: "string" }, seed: { type: "string" } } });
const runs = Number(values.runs ?? 100_000);
const seed = Number(values.seed ?? Date.now() % 2 ** 31);
if (!Number.isInteger(runs) || runs < 1) throw new RangeError(`--runs: expected an integer, got ${values.runs}`);
const BATCH = 1000;

console.log(`seed ${seed} (to repeat: npm run fuzz -- --runs ${runs} --seed ${seed})`);
const module = new WebAssembly.Module(readFileSync("dist/kernels.wasm"));
const fuzz = await Fuzz.create(await instantiate(module, { maximumBytes: 2 ** 26 }), seed);
const start = performance.now();
try {
  await withProgress(process, Math.ceil(runs / BATCH), async (bar) => {
    while (fuzz.report.runs < runs) {
      fuzz.step();
      if (fuzz.report.runs % BATCH !== 0) continue;
      bar.step("thousands of runs");
      await new Promise(setImmediate);
    }
  });
} catch (error) {
  const { mutant } = error as { mutant?: Uint8Array };
  if (mutant) {
    writeFileSync("build/fuzz-failure.svdq", mutant);
    console.error("the file that did it is build/fuzz-failure.svdq");
  }
  throw error;
}
console.table(fuzz.report);
console.log(`no crash, no hang, no other error; ${((performance.now() - start) / 1000).toFixed(0)} s`);
