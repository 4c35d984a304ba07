/** Entry for Cloudflare Workers, which cannot compile from bytes: the bundler gives a ready module. */

import { runtimeOf, type SvdqRuntime } from "../../svdq-runtime.ts";
import type { RuntimeOptions } from "../runtime.ts";
import module from "./kernels.wasm";

export * from "../../index.ts";

/** Gives a runtime over a memory of its own. */
export async function createRuntime(options: RuntimeOptions = {}): Promise<SvdqRuntime> {
  return runtimeOf(options.module ?? module, options);
}
