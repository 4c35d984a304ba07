/** Entry of `svdq`: the process around `run`. */
import { readFileSync } from "node:fs";
import { createRuntime } from "../runtime/load/node.ts";
import { run } from "./run.ts";

const stop = new AbortController();
// The first Ctrl-C lets work end cleanly, the second is the system's.
process.once("SIGINT", () => stop.abort());
// A reader that has seen enough (`svdq … | head`) is no error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 4));

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
const { stdout, stderr } = process;
process.exitCode = await run(process.argv.slice(2), { stdout, stderr, signal: stop.signal, version, createRuntime });
