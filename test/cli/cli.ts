/** `svdq` in this process: arguments in, exit code and both streams out. */
import { Writable } from "node:stream";
import { run } from "../../src/cli/run.ts";
import type { OpenEngine } from "../../src/evaluation/eval/engine.ts";
import { instantiate } from "../../src/runtime/runtime.ts";
import { releaseModule } from "../support/platforms.ts";

/** Two layers of SmolLM2: 3 kv heads x 64, 1,664 tokens and a continuation of 64; see scripts/make-fixture.mjs. */
export const FIXTURE = "test/fixtures/smollm2-novel.safetensors";

export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

class Collector extends Writable {
  text = "";
  isTTY = false;
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

export async function svdq(
  args: string[],
  given: { terminal?: boolean; signal?: AbortSignal; openEngine?: OpenEngine } = {},
): Promise<Outcome> {
  const { terminal = false, signal = new AbortController().signal, ...engine } = given;
  const [stdout, stderr] = [new Collector(), new Collector()];
  stderr.isTTY = terminal;
  const createRuntime = () => instantiate(releaseModule());
  const code = await run(args, { stdout, stderr, signal, version: "1.2.3", createRuntime, ...engine });
  return { code, stdout: stdout.text, stderr: stderr.text };
}

/** The JSON that a run prints; fails where the run does. */
export async function svdqJson(...args: string[]) {
  const { code, stdout, stderr } = await svdq([...args, "--json"]);
  if (code !== 0 || stderr !== "")
    throw new Error(`svdq ${args.join(" ")}: expected exit code 0, got ${code}: ${stderr}`);
  return JSON.parse(stdout);
}
