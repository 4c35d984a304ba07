/**
 * The page's side of messages.ts. The newest settings win: a study is given up for newer ones as soon as its first
 * pictures are there, so that they keep moving with a slider, or after a moment where they take long.
 */
import type { Answer, Look, NamedBlob, Request, Settings } from "../messages.ts";

/** Milliseconds that a study may take for its first pictures before newer settings stop it. */
const PATIENCE = 300;

export interface WorkerLike {
  postMessage(request: Request): void;
  addEventListener(type: "message", listener: (event: { data: Answer }) => void): void;
}

export class Client {
  readonly #worker: WorkerLike;
  readonly #now: () => number;
  #number = 0;
  /** The study that the worker has, until it ends. */
  #running: { study: number; since: number; shown: boolean } | undefined;
  #wanted: { settings: Settings; look: Look } | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** `onAnswer` gets what is of the newest study sent, and what is of none. */
  constructor(worker: WorkerLike, onAnswer: (answer: Answer) => void, now = () => performance.now()) {
    this.#worker = worker;
    this.#now = now;
    worker.addEventListener("message", ({ data }) => {
      if ("study" in data && data.study !== this.#number) return;
      if (data.kind === "sizes" && this.#running) this.#running.shown = true;
      if (data.kind === "done" || data.kind === "stopped" || data.kind === "failed") this.#running = undefined;
      onAnswer(data);
      this.#pump();
    });
  }

  open(files: NamedBlob[]): void {
    this.#forget();
    this.#worker.postMessage({ kind: "open", files });
  }

  study(settings: Settings, look: Look): void {
    this.#wanted = { settings, look };
    this.#pump();
  }

  /** Ends the study; what it has shown stays. */
  stop(): void {
    this.#wanted = undefined;
    clearTimeout(this.#timer);
    this.#worker.postMessage({ kind: "stop" });
  }

  save(): void {
    this.#worker.postMessage({ kind: "save" });
  }

  #forget(): void {
    this.#number++;
    this.#wanted = undefined;
    this.#running = undefined;
    clearTimeout(this.#timer);
  }

  #pump(): void {
    clearTimeout(this.#timer);
    if (!this.#wanted) return;
    const left = this.#running && !this.#running.shown ? this.#running.since + PATIENCE - this.#now() : 0;
    if (left > 0) {
      this.#timer = setTimeout(() => this.#pump(), left);
      return;
    }
    const { settings, look } = this.#wanted;
    this.#wanted = undefined;
    const study = ++this.#number;
    this.#running = { study, since: this.#now(), shown: false };
    this.#worker.postMessage({ kind: "study", study, settings, look });
  }
}
