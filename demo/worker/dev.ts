/** `npm run demo:worker [-- --storage durable-object --port 8787]`: the service on this machine, until Ctrl-C. */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startLocal } from "./local.ts";

const { values } = parseArgs({
  options: { storage: { type: "string", default: "r2" }, port: { type: "string", default: "8787" } },
});
const { storage } = values;
if (storage !== "r2" && storage !== "durable-object") {
  throw new RangeError(`--storage: expected r2 or durable-object, got ${storage}`);
}
const token = process.env.SVDQ_TOKEN ?? "demo-token";
const persist = join(import.meta.dirname, "../../build/demo-worker");
const service = await startLocal({ storage, tokens: { demo: token }, port: Number(values.port), persist });
console.log(`prefix service on ${service.url}, bytes in ${storage} (${persist})`);
console.log(`bearer token: ${token} (SVDQ_TOKEN sets another); the page is at ${service.url}/; Ctrl-C stops it`);
process.once("SIGINT", () => void service.dispose().then(() => process.exit(0)));
process.once("SIGTERM", () => void service.dispose().then(() => process.exit(0)));
