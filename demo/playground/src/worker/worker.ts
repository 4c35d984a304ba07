/** Entry of the worker: kernels.wasm lies beside the bundle. */
import { createRuntime } from "../../../../src/runtime/load/web.ts";
import { serve } from "./serve.ts";

serve(createRuntime());
