// Builds dist/: the wasm module, one JS bundle an entry, the command line, the declarations.
// With --if-needed nothing happens when dist/ is newer than every source.
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const STAMP = "dist/types/index.d.ts";
const SOURCES = ["assembly", "src", "scripts", "package.json", "asconfig.json", "tsconfig.build.json"];

function newest(path) {
  const stat = statSync(path);
  if (!stat.isDirectory()) return stat.mtimeMs;
  return Math.max(0, ...readdirSync(path).map((name) => newest(`${path}/${name}`)));
}

if (process.argv.includes("--if-needed") && existsSync(STAMP)) {
  if (statSync(STAMP).mtimeMs > Math.max(...SOURCES.map(newest))) process.exit(0);
}

const node = (...args) => execFileSync(process.execPath, args, { stdio: "inherit" });
node("scripts/build-wasm.mjs");
rmSync("dist/chunks", { recursive: true, force: true });

const shared = {
  bundle: true,
  format: "esm",
  target: "es2022",
  sourcemap: true,
  legalComments: "none",
  logLevel: "warning",
};
await build({
  ...shared,
  platform: "neutral",
  mainFields: ["module", "main"],
  external: ["*.wasm", "node:*"],
  outdir: "dist",
  // Shared chunks: an error of one entry is an instance of the class that another exports.
  splitting: true,
  chunkNames: "chunks/[name]-[hash]",
  entryPoints: {
    "index.node": "src/runtime/load/node.ts",
    "index.web": "src/runtime/load/web.ts",
    "index.workerd": "src/runtime/load/workerd.ts",
    reference: "src/reference/index.ts",
    "engines/transformers-js": "src/engines/transformers-js.ts",
    "engines/onnxruntime": "src/engines/onnxruntime.ts",
    "engines/llama-cpp": "src/engines/llama-cpp.ts",
    "engines/safetensors": "src/engines/safetensors.ts",
    "store/index": "src/store/index.ts",
    "store/memory": "src/store/memory.ts",
    "store/fs": "src/store/fs.ts",
    "store/opfs": "src/store/opfs.ts",
    "store/r2": "src/store/r2.ts",
    "store/durable-object": "src/store/durable-object.ts",
    "store/workers-kv": "src/store/workers-kv.ts",
    "store/unstorage": "src/store/unstorage.ts",
  },
});
await build({
  ...shared,
  sourcemap: false,
  platform: "node",
  outfile: "dist/cli.js",
  entryPoints: ["src/cli/main.ts"],
  external: ["canvas"],
  banner: {
    js: '#!/usr/bin/env node\nimport { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);',
  },
});
node("node_modules/typescript/bin/tsc", "-p", "tsconfig.build.json");
// What bundlers of workers make of the file; elsewhere it is read as bytes.
writeFileSync("dist/types/kernels.wasm.d.ts", "declare const module: WebAssembly.Module;\nexport default module;\n");
console.log("dist/ is built");
