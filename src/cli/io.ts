/** What a run needs from its surroundings. Tests give their own. */
import type { OpenEngine } from "../evaluation/eval/engine.ts";
import type { Runtime } from "../runtime/runtime.ts";

export interface Io {
  /** Results. */
  stdout: Pick<NodeJS.WritableStream, "write">;
  /** Progress and errors; a bar is drawn only where it is a terminal. */
  stderr: NodeJS.WritableStream & { isTTY?: boolean };
  /** Ctrl-C. */
  signal: AbortSignal;
  version: string;
  createRuntime(): Promise<Runtime>;
  /** Runs models for `eval`; node-llama-cpp unless given. */
  openEngine?: OpenEngine;
}

/** The result as JSON, or as text for people. */
export function print(io: Io, json: boolean | undefined, result: unknown, text: () => string): void {
  io.stdout.write(json ? `${JSON.stringify(result, null, 2)}\n` : text());
}
