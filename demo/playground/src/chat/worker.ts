/** Entry of the chat's worker: kernels.wasm lies beside the bundle. */
import { createRuntime } from "../../../../src/runtime/load/web.ts";
import { OpfsStore } from "../../../../src/store/opfs.ts";
import type { Answer, Request } from "./messages.ts";
import { SavedChats } from "./saved.ts";
import { ChatService } from "./service.ts";

const port = self as unknown as { postMessage(answer: Answer): void };
const chats = Promise.all([OpfsStore.open("svdq-chats"), OpfsStore.open("svdq-chat-caches")]).then(
  ([texts, caches]) => new SavedChats(texts, caches),
);
chats.catch(() => {}); // said where it is wanted
const service = new ChatService(createRuntime(), chats, (answer) => port.postMessage(answer));
self.addEventListener("message", ({ data }: MessageEvent<Request>) => void service.handle(data));
