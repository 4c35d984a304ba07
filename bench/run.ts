/**
 * Runs every bench/*.bench.ts, or those named on the command line, and prints the raw table. With --write the table,
 * the versions and the wasm's hash go to bench/RESULTS.md.
 */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { createReferenceKernels } from "../src/reference/index.ts";
import { Heap } from "../src/runtime/heap.ts";
import { createMemory, instantiate, Runtime } from "../src/runtime/runtime.ts";
import type { BenchRow } from "./harness.ts";

const wasm = readFileSync("dist/kernels.wasm");
const names = process.argv.slice(2).filter((name) => !name.startsWith("--"));
const files = readdirSync("bench").filter((file) => file.endsWith(".bench.ts"));
const chosen = names.length ? files.filter((file) => names.some((name) => file === `${name}.bench.ts`)) : files;
if (!chosen.length) throw new Error(`bench: expected some of ${files.join(", ")}, got ${names.join(", ")}`);

const rows: BenchRow[] = [];
for (const file of chosen.sort()) {
  const runtime = await instantiate(new WebAssembly.Module(wasm));
  const memory = createMemory();
  const reference = new Runtime(createReferenceKernels(memory), new Heap(memory, 1024));
  const bench = (await import(`./${file}`)) as {
    default: (runtime: Runtime, reference: Runtime) => Promise<BenchRow[]>;
  };
  console.error(`bench/${file}`);
  rows.push(...(await bench.default(runtime, reference)));
}

const cell = (x: number): string => (x >= 100 ? x.toFixed(0) : x.toPrecision(3));
const table = [
  "| bench | work | ms | peer | peer ms | ratio | note |",
  "| --- | --- | ---: | --- | ---: | ---: | --- |",
  ...rows.map(
    (r) =>
      `| ${r.bench} | ${r.name} | ${cell(r.milliseconds)} | ${r.peer} | ${cell(r.peerMilliseconds)} | ${cell(r.ratio)} | ${r.note ?? ""} |`,
  ),
].join("\n");
console.log(table);

if (process.argv.includes("--write")) {
  const hash = createHash("sha256").update(wasm).digest("hex");
  writeFileSync(
    "bench/RESULTS.md",
    `# Results

Written by \`npm run bench -- ${[...names, "--write"].join(" ")}\`. A ratio below 1 means faster than the peer; both ran in
the same process, one after the other, best of many calls (\`codec\`: whole processes, start-up included). The machine is
shared: ratios carry, milliseconds do not.

- kernels.wasm: ${wasm.length} bytes, sha256 ${hash}
- Node ${process.version}, V8 ${process.versions.v8}, ${cpus()[0].model.trim()}, ${cpus().length} processors

${table}
`,
  );
}
