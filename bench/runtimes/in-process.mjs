/**
 * The programme in Node, Deno or Bun: prints its result as JSON. Arguments, where the peer is installed: the path of
 * onnxruntime-web's module and that of its model.
 */
import { readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { runProgramme } from "./programme.mjs";

const now = () => performance.now();
const fixture = new Uint8Array(
  await readFile(new URL("../../test/fixtures/smollm2-novel.safetensors", import.meta.url)),
);
const start = now();
const svdq = await import("../../dist/index.node.js");
const runtime = await svdq.createRuntime();
const loaded = now() - start;
const { openDump } = await import("../../dist/engines/safetensors.js");
const { deno, bun, node } = process.versions;
const version = globalThis.Deno ? `Deno ${deno}` : globalThis.Bun ? `Bun ${bun}` : `Node ${node}`;
const [module, model] = process.argv.slice(2);
const onnx = module
  ? { load: () => import(pathToFileURL(module).href), model: new Uint8Array(await readFile(model)) }
  : { notRun: "not installed: node scripts/fetch-engine.mjs" };
const result = await runProgramme({ svdq, openDump, runtime, fixture, now, onnx });
console.log(JSON.stringify({ version, loaded, ...result }));
process.exit(); // onnxruntime-web keeps Node's event loop alive
