/** Entry for Node, Deno and Bun: reads `kernels.wasm` beside the bundle. */
import { readFile } from "node:fs/promises";
import { runtimeOf, type SvdqRuntime } from "../../svdq-runtime.ts";
import type { RuntimeOptions } from "../runtime.ts";

export * from "../../index.ts";

/** Loads the kernels and gives a runtime over a memory of its own. */
export async function createRuntime(options: RuntimeOptions = {}): Promise<SvdqRuntime> {
  const module =
    options.module ?? (await WebAssembly.compile(await readFile(new URL("./kernels.wasm", import.meta.url))));
  return runtimeOf(module, options);
}
