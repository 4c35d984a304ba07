// `npm run demo:playground [-- --port 8080]`: builds the playground and serves it on this machine until Ctrl-C.
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { context } from "esbuild";
import { buildPlayground } from "./build.ts";

/** Serves the files of a folder on loopback, by esbuild's own static server; port 0 takes a free one. */
export async function serveFolder(folder: string, port = 0): Promise<{ url: string; stop: () => Promise<void> }> {
  const server = await context({ logLevel: "error" });
  const { port: taken } = await server.serve({ servedir: folder, host: "127.0.0.1", port });
  return { url: `http://127.0.0.1:${taken}/`, stop: () => server.dispose() };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({ options: { port: { type: "string", default: "8080" } } });
  const folder = await buildPlayground();
  const { url } = await serveFolder(folder, Number(values.port));
  console.log(`playground: ${url} (the folder ${folder} works on any static host; Ctrl-C stops this one)`);
}
