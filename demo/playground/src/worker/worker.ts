/** Entry of the worker: kernels.wasm lies beside the bundle. */
import { createRuntime } from "../../../../src/runtime/load/web.ts";
import type { Answer, Request } from "../messages.ts";
import { Service } from "./service.ts";

const port = self as unknown as { postMessage(answer: Answer): void };
const service = new Service(createRuntime(), (answer) => port.postMessage(answer));
self.addEventListener("message", ({ data }: MessageEvent<Request>) => void service.handle(data));
