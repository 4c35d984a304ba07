/** Entry of `svdq`: the process around `run`. */
import { readFileSync } from "node:fs";
import { createRuntime } from "../runtime/load/node.ts";
import { run } from "./run.ts";

const stop = new AbortController();
// The first Ctrl-C lets work end cleanly, the second is the system's. Not `once`: signal-exit, which engines bring,
// ends the process where it sees no listener but its own.
process.on("SIGINT", function interrupt() {
  stop.abort();
  setImmediate(() => process.off("SIGINT", interrupt));
});
// A reader that has seen enough (`svdq … | head`) is no error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  process.stderr.write(`svdq: expected to write to standard output, got ${error.message}\n`);
  process.exit(4);
});

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
const { stdout, stderr } = process;
process.exitCode = await run(process.argv.slice(2), { stdout, stderr, signal: stop.signal, version, createRuntime });
