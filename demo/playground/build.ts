// Builds the playground into demo/out/playground: a folder for any static host, all addresses relative to the page.
import { copyFileSync, mkdirSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
export const FOLDER = `${ROOT}demo/out/playground`;
/** What stands beside the two bundles. The sample is the real cache that the numbers of docs/command-line.md are of. */
const COPIES = {
  "index.html": "demo/playground/index.html",
  "style.css": "demo/playground/style.css",
  "kernels.wasm": "dist/kernels.wasm",
  "sample.safetensors": "test/fixtures/smollm2-novel.safetensors",
};

/** Needs dist/. */
export async function buildPlayground(folder = FOLDER): Promise<string> {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  await build({
    entryPoints: {
      page: `${ROOT}demo/playground/src/page/main.ts`,
      worker: `${ROOT}demo/playground/src/worker/worker.ts`,
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
  return folder;
}
