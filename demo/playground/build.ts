// Builds the playground into demo/out/playground: a folder for any static host, all addresses relative to the page, and
// alone.html, which holds everything and works without a host.
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { fileURLToPath } from "node:url";
import { type BuildOptions, build } from "esbuild";

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

const SETTINGS = {
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  external: ["node:*"],
  logLevel: "warning",
} satisfies BuildOptions;

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
    ...SETTINGS,
    entryPoints: {
      page: `${ROOT}demo/playground/src/page/main.ts`,
      worker: `${ROOT}demo/playground/src/worker/worker.ts`,
      chat: `${ROOT}demo/playground/src/chat/page.ts`,
      "chat-worker": `${ROOT}demo/playground/src/chat/worker.ts`,
    },
    outdir: folder,
  });
  for (const [name, from] of Object.entries(COPIES)) copyFileSync(`${ROOT}${from}`, `${folder}/${name}`);
  writeFileSync(`${folder}/alone.html`, await alone(folder));
  const beside = { engine: await buildEngine(`${folder}/engine`), models: linkModels(`${folder}/models`, models) };
  writeFileSync(`${folder}/beside.json`, JSON.stringify(beside));
  return folder;
}

/** The page as one file: browsers start neither modules nor module workers that lie beside a page opened as a file. */
async function alone(folder: string): Promise<string> {
  const { outputFiles } = await build({
    ...SETTINGS,
    entryPoints: [`${ROOT}demo/playground/src/worker/alone.ts`],
    loader: { ".wasm": "binary" },
    format: "iife",
    define: { "import.meta.url": '""' },
    write: false,
  });
  const textOf = (name: string): string => readFileSync(`${folder}/${name}`, "utf8");
  const sample = readFileSync(`${folder}/sample.safetensors`).toString("base64");
  // No text of a script may end its element.
  const held = `globalThis.svdqHeld = {
"worker.js": URL.createObjectURL(new Blob([${JSON.stringify(outputFiles[0].text)}], { type: "text/javascript" })),
"sample.safetensors": "data:application/octet-stream;base64,${sample}" };`.replaceAll("</", "<\\/");
  return textOf("index.html")
    .replace('<link rel="stylesheet" href="style.css">', () => `<style>${textOf("style.css")}</style>`)
    .replace('<link rel="modulepreload" href="page.js">\n', "")
    .replace('\n    <a href="chat.html">Live chat</a>', "")
    .replace(
      '<script type="module" src="page.js"></script>',
      () =>
        `<script>${held}</script>\n<script type="module">${textOf("page.js").replaceAll("</script", "<\\/script")}</script>`,
    );
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
