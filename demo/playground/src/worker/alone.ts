/** Entry of the worker in alone.html: holds the kernels. */
import bytes from "../../../../dist/kernels.wasm";
import { createRuntime } from "../../../../src/runtime/load/web.ts";
import { serve } from "./serve.ts";

// esbuild gives a module's bytes here.
serve(WebAssembly.compile(bytes as unknown as Uint8Array<ArrayBuffer>).then((module) => createRuntime({ module })));
