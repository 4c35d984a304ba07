/** The worker's side of messages.ts: one study at a time, the newest wins; a file that does not open changes nothing. */
import { encodeArchive } from "../../../../src/archive/writer.ts";
import { joinChunks } from "../../../../src/codec/chunks.ts";
import type { CodedCache } from "../../../../src/codec/coded.ts";
import type { Runtime } from "../../../../src/runtime/runtime.ts";
import type { Answer, Request } from "../messages.ts";
import { Memo } from "./memo.ts";
import { study } from "./study.ts";
import { openSubject, type Subject } from "./subject.ts";

type StudyRequest = Extract<Request, { kind: "study" }>;

export class Service {
  readonly #runtime: Promise<Runtime>;
  readonly #send: (answer: Answer) => void;
  #subject: Subject | undefined;
  #memo = new Memo();
  #coded: CodedCache | undefined;
  /** What runs or waits; whoever comes next waits for it. */
  #last: Promise<void> = Promise.resolve();
  #stop = new AbortController();

  constructor(runtime: Promise<Runtime>, send: (answer: Answer) => void) {
    this.#runtime = runtime;
    this.#send = send;
  }

  /** Ends when the request is answered in full. */
  handle(request: Request): Promise<void> {
    // Saving disturbs no study.
    if (request.kind === "save") return this.#save();
    this.#stop.abort();
    if (request.kind === "stop") return this.#last;
    const stop = new AbortController();
    this.#stop = stop;
    const work = request.kind === "open" ? () => this.#open(request.files) : () => this.#study(request, stop.signal);
    this.#last = this.#last.then(work);
    return this.#last;
  }

  async #open(files: Extract<Request, { kind: "open" }>["files"]): Promise<void> {
    try {
      const subject = await openSubject(await this.#runtime, files);
      this.#subject = subject;
      this.#memo = new Memo();
      this.#coded = undefined;
      this.#send({ kind: "opened", facts: subject.facts });
    } catch (error) {
      this.#send({ kind: "refused", message: messageOf(error) });
    }
  }

  async #study({ study: number, settings, look }: StudyRequest, signal: AbortSignal): Promise<void> {
    const start = performance.now();
    const subject = this.#subject;
    if (!subject || signal.aborted) return this.#send({ kind: "stopped", study: number });
    try {
      await study(
        { runtime: await this.#runtime, memo: this.#memo },
        subject,
        settings,
        look,
        {
          signal,
          emit: (picture) => this.#send({ study: number, ...picture }),
          onProgress: (text, part) => this.#send({ kind: "progress", study: number, text, part }),
        },
        (coded) => {
          this.#coded = coded;
        },
      );
      this.#send({ kind: "done", study: number, milliseconds: performance.now() - start });
    } catch (error) {
      if (signal.aborted) this.#send({ kind: "stopped", study: number });
      else this.#send({ kind: "failed", study: number, message: messageOf(error) });
    }
  }

  async #save(): Promise<void> {
    if (!this.#coded || !this.#subject) return this.#send({ kind: "refused", message: "nothing is compressed yet" });
    const bytes = joinChunks(encodeArchive(this.#coded));
    const name = `${this.#subject.facts.name.replace(/\.[^.]*$/, "")}.svdq`;
    this.#send({ kind: "archive", name, bytes });
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
