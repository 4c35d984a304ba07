/** Entry for browsers: fetches `kernels.wasm` beside the bundle; compiles while it streams where the server allows. */
import { runtimeOf, type SvdqRuntime } from "../../svdq-runtime.ts";
import type { RuntimeOptions } from "../runtime.ts";

export * from "../../index.ts";

/** Loads the kernels and gives a runtime over a memory of its own. */
export async function createRuntime(options: RuntimeOptions = {}): Promise<SvdqRuntime> {
  return runtimeOf(options.module ?? (await fetchModule()), options);
}

async function fetchModule(): Promise<WebAssembly.Module> {
  const response = await fetch(new URL("./kernels.wasm", import.meta.url));
  if (!response.ok) throw new Error(`kernels.wasm: HTTP ${response.status} from ${response.url}`);
  const isWasm = response.headers.get("content-type")?.startsWith("application/wasm");
  return isWasm ? WebAssembly.compileStreaming(response) : WebAssembly.compile(await response.arrayBuffer());
}
