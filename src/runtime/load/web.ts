/** Entry for browsers: fetches `kernels.wasm` beside the bundle; compiles while it streams where the server allows. */
import { runtimeOf, type SvdqRuntime } from "../../svdq-runtime.ts";
import type { RuntimeOptions } from "../runtime.ts";

export * from "../../index.ts";

/** Loads the kernels and gives a runtime over a memory of its own. */
export async function createRuntime(options: RuntimeOptions = {}): Promise<SvdqRuntime> {
  return runtimeOf(options.module ?? (await fetchModule()), options);
}

async function fetchModule(): Promise<WebAssembly.Module> {
  const url = new URL("./kernels.wasm", import.meta.url);
  const response = await fetch(url);
  if (!response.ok)
    throw new Error(`kernels.wasm: expected it beside the bundle, got HTTP ${response.status} from ${url}`);
  const isWasm = response.headers.get("content-type")?.startsWith("application/wasm");
  return isWasm ? WebAssembly.compileStreaming(response) : WebAssembly.compile(await response.arrayBuffer());
}
