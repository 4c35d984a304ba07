/** `npm run soak -- [--rounds 10000] [--seed N]`: the soak of soak.ts, with a bar, stopped by Ctrl-C between rounds. */
import { parseArgs } from "node:util";
import { withProgress } from "../../src/cli/progress.ts";
import { Soak } from "./soak.ts";

const { values } = parseArgs({ options: { rounds: { type: "string" }, seed: { type: "string" } } });
const rounds = Number(values.rounds ?? 10_000);
const seed = Number(values.seed ?? Date.now() % 2 ** 31);
if (!Number.isInteger(rounds) || rounds < 1)
  throw new RangeError(`--rounds: expected an integer, got ${values.rounds}`);

console.log(`seed ${seed} (to repeat: npm run soak -- --rounds ${rounds} --seed ${seed})`);
const start = performance.now();
const report = await withProgress(process, rounds, (bar) => new Soak(seed).run(rounds, () => bar.step("rounds")));
console.table(report);
console.log(`no loss, no leak, budget kept; ${((performance.now() - start) / 1000).toFixed(1)} s`);
