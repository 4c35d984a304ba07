// Compiles assembly/ to dist/kernels.wasm (release) and build/kernels.debug.wasm.
// asc exits 0 without a word when a target is unknown, so each output is removed first and looked for afterwards.
import { mkdirSync, readFileSync, rmSync, statSync } from "node:fs";
import asc from "assemblyscript/asc";

const targets = process.argv.slice(2).length ? process.argv.slice(2) : ["release", "debug"];
const config = JSON.parse(readFileSync("asconfig.json", "utf8"));
mkdirSync("dist", { recursive: true });
mkdirSync("build", { recursive: true });

for (const target of targets) {
  const outFile = config.targets[target]?.outFile;
  if (!outFile) throw new Error(`asconfig.json has no target "${target}" with an outFile`);
  rmSync(outFile, { force: true });
  const { error, stderr } = await asc.main(["--config", "asconfig.json", "--target", target]);
  process.stderr.write(stderr.toString());
  if (error) throw error;
  console.log(`${target}: ${outFile}, ${statSync(outFile).size} bytes`);
}
