// Brings the engines that `svdq eval` and tests on real engines need: node scripts/fetch-engine.mjs
//
// node-llama-cpp with its binaries for this system, Transformers.js and onnxruntime (Node and web), CPU only, into
// build/engines/node_modules; then NODE_PATH=build/engines/node_modules npm test. They are 0.5 GB, so they are no
// devDependencies. Git ignores build/.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { arch, platform } from "node:process";

const LLAMA = "3.22.1";
const FOLDER = "build/engines";
const BINARIES = { darwin: arch === "arm64" ? "mac-arm64-metal" : "mac-x64", win32: `win-${arch}` };
// Transformers.js pins the onnxruntime that it works with.
const PACKAGES = {
  "node-llama-cpp": LLAMA,
  [`@node-llama-cpp/${BINARIES[platform] ?? `linux-${arch}`}`]: LLAMA,
  "@huggingface/transformers": "4.3.1",
};

if (Object.keys(PACKAGES).every((name) => existsSync(`${FOLDER}/node_modules/${name}`))) {
  console.log(`${FOLDER} is there`);
} else {
  mkdirSync(FOLDER, { recursive: true });
  const packages = Object.entries(PACKAGES).map(([name, version]) => `${name}@${version}`);
  const flags = ["--prefix", FOLDER, "--no-save", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund"];
  execFileSync("npm", ["install", ...flags, ...packages], { stdio: "inherit", shell: platform === "win32" });
}
