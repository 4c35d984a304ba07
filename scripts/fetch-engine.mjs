// Brings the engine that `svdq eval` and its test on a real model need: node scripts/fetch-engine.mjs
//
// node-llama-cpp with its binaries for this system, CPU only, into build/engines/node_modules; then
// NODE_PATH=build/engines/node_modules npm test. Git ignores build/.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { arch, platform } from "node:process";

const VERSION = "3.22.1";
const FOLDER = "build/engines";
const BINARIES = { darwin: arch === "arm64" ? "mac-arm64-metal" : "mac-x64", win32: `win-${arch}` };

if (existsSync(`${FOLDER}/node_modules/node-llama-cpp`)) {
  console.log(`${FOLDER} is there`);
} else {
  mkdirSync(FOLDER, { recursive: true });
  const packages = ["node-llama-cpp", `@node-llama-cpp/${BINARIES[platform] ?? `linux-${arch}`}`];
  const flags = ["--prefix", FOLDER, "--no-save", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund"];
  execFileSync("npm", ["install", ...flags, ...packages.map((name) => `${name}@${VERSION}`)], {
    stdio: "inherit",
    shell: platform === "win32",
  });
}
