/** The worker's end of the page's messages. */
import type { SvdqRuntime } from "../../../../src/svdq-runtime.ts";
import type { Answer, Request } from "../messages.ts";
import { Service } from "./service.ts";

export function serve(runtime: Promise<SvdqRuntime>): void {
  const port = self as unknown as { postMessage(answer: Answer): void };
  const service = new Service(runtime, (answer) => port.postMessage(answer));
  self.addEventListener("message", ({ data }: MessageEvent<Request>) => void service.handle(data));
}
