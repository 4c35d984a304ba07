// Builds the playground into demo/out/playground: a folder for any static host, all addresses relative to the page.
import { copyFileSync, existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
export const FOLDER = `${ROOT}demo/out/playground`;
/** What stands beside the two bundles. The sample is the real cache that the numbers of docs/command-line.md are of. */
const COPIES = {
  "index.html": "demo/playground/index.html",
  "style.css": "demo/playground/style.css",
  "chat.html": "demo/playground/chat.html",
  "chat.css": "demo/playground/chat.css",
  "kernels.wasm": "dist/kernels.wasm",
  "sample.safetensors": "test/fixtures/smollm2-novel.safetensors",
};

/** Where scripts/fetch-engine.mjs brings Transformers.js. */
const ENGINES = `${ROOT}build/engines/node_modules`;

/**
 * Needs dist/. What the chat finds beside it, named in beside.json: Transformers.js where it is installed, and links to
 * the model folders of `models`.
 */
export async function buildPlayground(folder = FOLDER, models = `${ROOT}models`): Promise<string> {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  await build({
    entryPoints: {
      page: `${ROOT}demo/playground/src/page/main.ts`,
      worker: `${ROOT}demo/playground/src/worker/worker.ts`,
      chat: `${ROOT}demo/playground/src/chat/page.ts`,
      "chat-worker": `${ROOT}demo/playground/src/chat/worker.ts`,
    },
    outdir: folder,
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    external: ["node:*"],
    logLevel: "warning",
  });
  for (const [name, from] of Object.entries(COPIES)) copyFileSync(`${ROOT}${from}`, `${folder}/${name}`);
  const beside = { engine: await buildEngine(`${folder}/engine`), models: linkModels(`${folder}/models`, models) };
  writeFileSync(`${folder}/beside.json`, JSON.stringify(beside));
  return folder;
}

/** One bundle of Transformers.js and the onnxruntime-web that needs no WebGPU, whose wasm lies beside it. */
async function buildEngine(folder: string): Promise<boolean> {
  const library = `${ENGINES}/@huggingface/transformers/dist/transformers.web.js`;
  if (!existsSync(library)) return false;
  const onnxruntime = `${ENGINES}/onnxruntime-web/dist`;
  await build({
    entryPoints: { transformers: library },
    outdir: folder,
    alias: { "onnxruntime-web/webgpu": `${onnxruntime}/ort.wasm.min.mjs` },
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    logLevel: "error",
  });
  for (const end of ["mjs", "wasm"]) {
    const name = `ort-wasm-simd-threaded.${end}`;
    copyFileSync(`${onnxruntime}/${name}`, `${folder}/${name}`);
  }
  return true;
}

function linkModels(folder: string, from: string): string[] {
  mkdirSync(folder);
  const names = existsSync(from) ? readdirSync(from).filter((name) => existsSync(`${from}/${name}/onnx`)) : [];
  for (const name of names) symlinkSync(`${from}/${name}`, `${folder}/${name}`, "junction");
  return names;
}
