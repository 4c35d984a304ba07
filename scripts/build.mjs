// Builds dist/: the wasm module, one JS bundle an entry, the command line, the declarations.
// With --if-needed nothing happens when dist/ is newer than every source.
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { build } from "esbuild";
import { rolldown } from "rolldown";

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

const ENTRIES = {
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
};

/**
 * What one file holds each, since each file more is a request more for a browser (docs/adr/0047): the rooms of the core,
 * and the errors, since most stores import nothing else of the core.
 */
const FILES = [
  { name: "errors", test: /[\\/]src[\\/]errors\.ts$/ },
  {
    name: "core",
    test: /[\\/]src[\\/](?:archive|cache|codec|evaluation|runtime|index\.ts|svdq-runtime\.ts)(?![\\/]load)/,
  },
];

const library = await rolldown({
  input: ENTRIES,
  platform: "neutral",
  resolve: { mainFields: ["module", "main"] },
  transform: { target: "es2022" },
  external: [/\.wasm$/, /^node:/],
  makeAbsoluteExternalsRelative: false,
});
await library.write({
  dir: "dist",
  format: "esm",
  sourcemap: true,
  comments: { legal: false, jsdoc: false },
  minifyInternalExports: false,
  // Shared chunks: an error of one entry is an instance of the class that another exports.
  chunkFileNames: "chunks/[name]-[hash].js",
  codeSplitting: { groups: FILES },
});
await library.close();
await build({
  bundle: true,
  format: "esm",
  target: "es2022",
  legalComments: "none",
  logLevel: "warning",
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
