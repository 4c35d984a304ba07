/** The programme in a browser: sends its result, or the error, to the server that gave the page. */
import { runProgramme } from "./programme.mjs";

const now = () => performance.now();
const send = (result) => fetch("/result", { method: "POST", body: JSON.stringify(result) });
try {
  const fixture = new Uint8Array(await (await fetch("/test/fixtures/smollm2-novel.safetensors")).arrayBuffer());
  const start = now();
  const svdq = await import("/dist/index.web.js");
  const runtime = await svdq.createRuntime();
  const loaded = now() - start;
  const { openDump } = await import("/dist/engines/safetensors.js");
  const result = await runProgramme({ svdq, openDump, runtime, fixture, now });
  await send({ version: navigator.userAgent, loaded, ...result });
} catch (error) {
  await send({ error: `${error}\n${error.stack}` });
}
