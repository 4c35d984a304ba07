/**
 * npm run bench:runtimes [-- --write]: the programme in every runtime that is here, in three processes each. Prints the
 * table; fails where a digest differs from the first runtime's. With --write the results go to bench/runtimes/. SIGINT
 * and SIGTERM end what was started too.
 */
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { drawRatios } from "./chart.ts";
import { HOSTS } from "./hosts.ts";
import { bestOf, differences, markdown, type Outcome, type Result } from "./report.ts";

const wasm = readFileSync("dist/kernels.wasm");
const machine = {
  cpu: cpus()[0].model.trim(),
  date: new Date().toISOString().slice(0, 10),
  wasm: { bytes: wasm.length, sha256: createHash("sha256").update(wasm).digest("hex") },
};
const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => stop.abort(new Error(`stopped by ${signal}`)));
}
// A shell of npm that is ended tells its children nothing, but they get another parent.
const parent = process.ppid;
setInterval(() => process.ppid !== parent && stop.abort(new Error("stopped with its parent")), 500).unref();
/** Processes of each runtime, in turn: loading is timed once in each. */
const ROUNDS = 3;
const outcomes = new Map<string, Outcome[]>(HOSTS.map(({ name }) => [name, []]));
for (let round = 1; round <= ROUNDS; round++) {
  for (const { name, run } of HOSTS) {
    const result: Outcome = await run(stop.signal).catch((error: Error) => ({ failed: error.message.split("\n")[0] }));
    if (stop.signal.aborted) {
      console.error(stop.signal.reason.message);
      process.exit(130);
    }
    console.error(`${round} of ${ROUNDS}, ${name}: ${result.missing ?? result.failed ?? "done"}`);
    outcomes.get(name)?.push(result);
  }
}
const results: Result[] = HOSTS.map(({ name }) => ({ name, ...bestOf(outcomes.get(name) as Outcome[]) }));

console.log(markdown(machine, results));
const wrong = differences(results);
for (const line of wrong) console.error(line);
if (wrong.length > 0 || !results.some((result) => result.digests)) process.exitCode = 1;
else if (process.argv.includes("--write")) {
  const folder = "bench/runtimes";
  writeFileSync(`${folder}/results.json`, `${JSON.stringify({ machine, results }, null, 2)}\n`);
  writeFileSync(`${folder}/RESULTS.md`, markdown(machine, results));
  writeFileSync(`${folder}/ratios.svg`, `${drawRatios(results)}\n`);
}
