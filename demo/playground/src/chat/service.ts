/** The worker's side of messages.ts: one thing at a time, in the order asked for; `stop` ends what runs. */
import type { Progress } from "../../../../src/codec/compress.ts";
import type { Runtime } from "../../../../src/runtime/runtime.ts";
import { Conversation } from "./conversation.ts";
import { loadEngine } from "./engine.ts";
import type { Answer, LoadChoice, Request, Saved } from "./messages.ts";
import type { SavedChats } from "./saved.ts";

type Work = Exclude<Request, { kind: "stop" }>;

export class ChatService {
  readonly #runtime: Promise<Runtime>;
  readonly #chats: Promise<SavedChats>;
  readonly #send: (answer: Answer) => void;
  readonly #load: typeof loadEngine;
  #chat: Conversation | undefined;
  #last: Promise<void> = Promise.resolve();
  #stop = new AbortController();

  constructor(
    runtime: Promise<Runtime>,
    chats: Promise<SavedChats>,
    send: (answer: Answer) => void,
    load = loadEngine,
  ) {
    this.#runtime = runtime;
    this.#chats = chats;
    this.#send = send;
    this.#load = load;
  }

  /** Ends when the request is answered in full. */
  handle(request: Request): Promise<void> {
    if (request.kind === "stop") {
      this.#stop.abort();
      return this.#last;
    }
    this.#last = this.#last.then(() => this.#answer(request));
    return this.#last;
  }

  async #answer(request: Work): Promise<void> {
    this.#stop = new AbortController();
    const { signal } = this.#stop;
    try {
      if (request.kind === "load") await this.#open(request);
      else if (request.kind === "say") await this.#say(request, signal);
      else if (request.kind === "save") await this.#save(request.bits, signal);
      else if (request.kind === "back") await this.#restore();
      else await this.#forget();
    } catch (error) {
      if (signal.aborted) this.#send({ kind: "stopped" });
      else this.#send({ kind: "failed", message: error instanceof Error ? error.message : String(error) });
    }
  }

  async #open(choice: LoadChoice): Promise<void> {
    const start = performance.now();
    const engine = await this.#load(choice, (text, part) => this.#send({ kind: "progress", text, part }));
    const { name } = choice.model;
    this.#chat = new Conversation(engine, `${name} ${choice.dtype}`);
    this.#send({ kind: "loaded", name, threads: engine.threads, ms: performance.now() - start });
    await this.#restore();
  }

  async #say({ text, most }: Extract<Request, { kind: "say" }>, signal: AbortSignal): Promise<void> {
    const said = await this.#opened().say(text, {
      signal,
      most,
      onPiece: (piece) => this.#send({ kind: "piece", text: piece }),
      onPrefill: (done, all) =>
        this.#send({ kind: "progress", text: `Prefill: ${done} of ${all} tokens`, part: done / all }),
    });
    this.#send({ kind: "said", ...said });
  }

  async #save(bits: number, signal: AbortSignal): Promise<void> {
    const chat = this.#opened();
    if (chat.held.length === 0) throw new Error("expected a chat to save, got none: say something first");
    const start = performance.now();
    const onProgress = ({ phase, layer, layerCount }: Progress) => {
      const text = `Compressing: ${phase}, layer ${layer + 1} of ${layerCount}`;
      this.#send({ kind: "progress", text, part: (layer + 1) / layerCount });
    };
    const { bytes, f16Bytes } = await chat.compressed(await this.#runtime, bits, { signal, onProgress });
    const saved: Saved = {
      ...{ tokens: chat.held.length, bits, bytes: bytes.length, f16Bytes, compressMs: performance.now() - start },
      prefillTokensPerSecond: chat.written.prefillTokensPerSecond,
    };
    await (await this.#chats).save(chat.model, bytes, { saved, written: chat.written }, signal);
    this.#send({ kind: "saved", saved });
  }

  async #restore(): Promise<void> {
    const chat = this.#opened();
    const start = performance.now();
    const found = await (await this.#chats).find(chat.model);
    if (!found) return this.#send({ kind: "nothing" });
    chat.restore(await this.#runtime, found.archive, found.written);
    const { saved, written } = found;
    this.#send({ kind: "restored", saved, messages: written.messages, ms: performance.now() - start });
  }

  async #forget(): Promise<void> {
    await (await this.#chats).forget(this.#opened().model);
    this.#send({ kind: "forgotten" });
  }

  #opened(): Conversation {
    if (!this.#chat) throw new Error("expected a model to be loaded first, got none");
    return this.#chat;
  }
}
