/** The programme in Node, Deno or Bun: prints its result as JSON. */
import { readFile } from "node:fs/promises";
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
const result = await runProgramme({ svdq, openDump, runtime, fixture, now });
console.log(JSON.stringify({ version, loaded, ...result }));
