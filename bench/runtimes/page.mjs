/**
 * The programme in a browser: sends its result, or the error, to the server that gave the page. The address names the
 * module and the model of the peer, where it is installed.
 */
import { runProgramme } from "./programme.mjs";

const now = () => performance.now();
const send = (result) => fetch("/result", { method: "POST", body: JSON.stringify(result) });
try {
  const bytesAt = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());
  const fixture = await bytesAt("/test/fixtures/smollm2-novel.safetensors");
  const start = now();
  const svdq = await import("/dist/index.web.js");
  const runtime = await svdq.createRuntime();
  const loaded = now() - start;
  const { openDump } = await import("/dist/engines/safetensors.js");
  const query = new URLSearchParams(location.search);
  const onnx = query.has("onnx")
    ? { load: () => import(query.get("onnx")), model: await bytesAt(query.get("model")) }
    : { notRun: "not installed: node scripts/fetch-engine.mjs" };
  const result = await runProgramme({ svdq, openDump, runtime, fixture, now, onnx });
  await send({ version: navigator.userAgent, loaded, ...result });
} catch (error) {
  await send({ error: `${error}\n${error.stack}` });
}
