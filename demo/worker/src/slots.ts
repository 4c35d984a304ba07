/** How much an isolate does at a time: its memory is shared by all requests. */
import type { Context } from "hono";
import type { App } from "./env.ts";
import { Refusal } from "./errors.ts";

const WAIT_MS = 20;
const MOST_WAITS = 500;

export class Slots {
  #free: number;

  constructor(count: number) {
    this.#free = count;
  }

  /**
   * Runs `work` once fewer than `count` others run; 503 after 10 s. Waits by a timer of its own, because a promise of
   * another request may never be kept, and runs on when the caller hangs up, because else the slot would stay taken.
   */
  async run<T>(context: Context<App>, work: () => Promise<T>): Promise<T> {
    for (let i = 0; this.#free === 0; i++) {
      if (i === MOST_WAITS) throw new Refusal(503, "BUSY", "expected an isolate with room, got one at its limit");
      await new Promise((resolve) => setTimeout(resolve, WAIT_MS));
    }
    this.#free--;
    const running = work().finally(() => {
      this.#free++;
    });
    context.executionCtx.waitUntil(running.catch(() => undefined));
    return running;
  }
}
