/** The page's side of the talk with its worker: the newest settings win, and pictures keep coming while they change. */
import { describe, expect, it, vi } from "vitest";
import type { Answer, Request } from "../../../demo/playground/src/messages.ts";
import { Client } from "../../../demo/playground/src/page/client.ts";
import { DEFAULT_SETTINGS } from "../../../demo/playground/src/settings.ts";

const LOOK = { layer: 0, head: 0, query: 0 };

function start() {
  const sent: Request[] = [];
  const answers: Answer[] = [];
  let listen: (event: { data: Answer }) => void = () => {};
  const worker = {
    postMessage: (request: Request) => void sent.push(request),
    addEventListener: (_: "message", listener: typeof listen) => void (listen = listener),
  };
  let now = 0;
  const client = new Client(
    worker,
    (answer) => answers.push(answer),
    () => now,
  );
  return {
    client,
    answers,
    bits: () => sent.flatMap((request) => (request.kind === "study" ? [request.settings.keyBits] : [])),
    set: (keyBits: number) => client.study({ ...DEFAULT_SETTINGS, keyBits }, LOOK),
    answer: (answer: Answer) => listen({ data: answer }),
    pass: (milliseconds: number) => {
      now += milliseconds;
      vi.advanceTimersByTime(milliseconds);
    },
  };
}

const sizes = (study: number) => ({ kind: "sizes", study }) as Answer;

describe("client", () => {
  it("lets a study show its first pictures, then goes on to the newest settings, never to those between", () => {
    vi.useFakeTimers();
    const page = start();
    for (const bits of [1, 2, 3, 4]) page.set(bits);
    expect(page.bits()).toEqual([1]);
    page.answer(sizes(1));
    expect(page.bits()).toEqual([1, 4]);
    page.answer({ kind: "done", study: 2, milliseconds: 1 });
    expect(page.bits()).toEqual([1, 4]);
    page.set(5);
    expect(page.bits()).toEqual([1, 4, 5]);
  });

  it("gives up a study that takes long for its first pictures", () => {
    vi.useFakeTimers();
    const page = start();
    page.set(1);
    page.pass(100);
    page.set(2);
    page.pass(100);
    expect(page.bits()).toEqual([1]);
    page.pass(150);
    expect(page.bits()).toEqual([1, 2]);
  });

  it("passes on nothing of an older study, and all that is of none", () => {
    const page = start();
    page.set(1);
    page.answer(sizes(1));
    page.set(2);
    page.answer({ kind: "progress", study: 1, text: "old", part: 0 });
    page.answer({ kind: "refused", message: "no" });
    page.answer(sizes(2));
    expect(page.answers.map(({ kind }) => kind)).toEqual(["sizes", "refused", "sizes"]);
    page.client.open([]);
    page.answer(sizes(2));
    expect(page.answers).toHaveLength(3);
  });

  it("forgets what waits when it is stopped", () => {
    vi.useFakeTimers();
    const page = start();
    page.set(1);
    page.set(2);
    page.client.stop();
    page.pass(1000);
    page.answer({ kind: "stopped", study: 1 });
    expect(page.bits()).toEqual([1]);
  });
});
