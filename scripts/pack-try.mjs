// npm run pack:try: the package as npm packs it, looked at by publint and attw, then installed into an empty folder and
// run there in each runtime that build/runtimes has (scripts/fetch-runtimes.mjs), and in this Node.
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const USE = `
import { createRuntime, decodeArchive, encodeArchive, frequenciesOf } from "svdq";
import { parseLlamaState } from "svdq/engines/llama-cpp";
import { MemoryStore } from "svdq/store";
import { createReferenceKernels } from "svdq/reference";
const runtime = await createRuntime();
const rotary = { layout: "half-split", frequencies: frequenciesOf(10000, 16) };
const cache = runtime.createCache({ layerCount: 1, kvHeads: 1, headDim: 32 }, { rotary, fitTokens: 64 });
const rows = new Float32Array(200 * 32).map((_, i) => ((i * 7919) % 101) / 50 - 1);
cache.append(0, rows, rows, { tokens: 200 });
cache.settle();
const again = runtime.openCache(decodeArchive(await new Blob(encodeArchive(cache.save())).arrayBuffer()));
const out = new Float32Array(32);
again.attend(0, rows.subarray(0, 32), out);
const names = [parseLlamaState, MemoryStore, createReferenceKernels].map((x) => typeof x);
console.log(again.length, names.join(" "), out.every(Number.isFinite));
`;
const EXPECTED = "200 function function function true";

const folder = mkdtempSync(join(tmpdir(), "svdq-pack-"));
const binary = (name) => resolve("build/runtimes/node_modules/.bin", name);
try {
  const packed = execFileSync("npm", ["pack", "--silent", "--ignore-scripts", "--pack-destination", folder]);
  const tarball = join(folder, packed.toString().trim().split("\n").at(-1));
  const look = (name, ...args) => execFileSync(`node_modules/.bin/${name}`, args, { stdio: "inherit" });
  look("publint", "run", tarball, "--strict");
  look("attw", tarball, "--profile", "esm-only", "--format", "ascii", "--quiet");
  console.log("publint and attw: clean");

  writeFileSync(join(folder, "package.json"), JSON.stringify({ name: "user", private: true, type: "module" }));
  execFileSync("npm", ["install", "--silent", "--offline", "--no-audit", "--no-fund", tarball], { cwd: folder });
  writeFileSync(join(folder, "use.mjs"), USE);
  for (const [name, path, flags] of [
    ["this Node", process.execPath, []],
    ["Node 24", binary("node"), []],
    ["Deno", binary("deno"), ["run", "--allow-read"]],
    ["Bun", binary("bun"), []],
  ]) {
    if (!existsSync(path)) {
      console.log(`${name}: not installed, left out`);
      continue;
    }
    const said = execFileSync(path, [...flags, "use.mjs"], { cwd: folder })
      .toString()
      .trim();
    if (said !== EXPECTED) throw new Error(`${name}: expected "${EXPECTED}", got "${said}"`);
    console.log(`${name}: runs`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
