/** The chat's page: what was asked for in, what the worker says out. The choice of a model outlives a reload. */
import { bytesText, thousands, times } from "../data/text.ts";
import { showAlert, showProgress } from "../page/status.ts";
import { chosen, offer, remembered } from "./choice.ts";
import { append, clear, say, showFacts } from "./log.ts";
import type { Answer, Request, Saved, Turn } from "./messages.ts";

const at = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;
const text = at<HTMLTextAreaElement>("text");
const button = (id: string) => at<HTMLButtonElement>(id);

const state = { loading: false, loaded: false, saved: undefined as Saved | undefined, held: 0 };
let worker = startWorker();

at("model").addEventListener("submit", (event) => {
  event.preventDefault();
  load();
});
at("say").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
button("stop").addEventListener("click", stop);
button("save").addEventListener("click", () =>
  ask({ kind: "save", bits: Number(at<HTMLSelectElement>("bits").value) }),
);
button("back").addEventListener("click", () => ask({ kind: "back" }));
button("forget").addEventListener("click", () => ask({ kind: "forget" }));
void offer().then(() => remembered() && load());

function startWorker(): Worker {
  const started = new Worker(new URL("chat-worker.js", import.meta.url), { type: "module" });
  started.addEventListener("message", ({ data }: MessageEvent<Answer>) => answered(data));
  started.addEventListener("error", ({ message }) =>
    failed(`the worker failed: ${message || "it could not be loaded"}`),
  );
  return started;
}

/** Loading a model cannot be stopped, but its worker can. */
function stop(): void {
  if (!state.loading) {
    worker.postMessage({ kind: "stop" } satisfies Request);
    return;
  }
  worker.terminate();
  worker = startWorker();
  Object.assign(state, { loading: false, loaded: false, saved: undefined, held: 0 });
  ended("Stopped");
}

function load(): void {
  try {
    const choice = chosen();
    ask({ kind: "load", ...choice });
    state.loading = true;
  } catch (error) {
    failed((error as Error).message);
  }
}

function send(): void {
  const content = text.value.trim();
  if (!content || button("send").disabled) return;
  say({ role: "user", content });
  say({ role: "assistant", content: "" });
  text.value = "";
  ask({ kind: "say", text: content, most: Number(at<HTMLSelectElement>("most").value) });
}

/** Nothing else may be asked for until the answer is there. */
function ask(request: Request): void {
  showAlert(undefined);
  showProgress("Working", undefined);
  enable(true);
  worker.postMessage(request);
}

function enable(busy: boolean): void {
  const { loaded, saved, held } = state;
  const enabled: Record<string, boolean> = {
    stop: busy,
    load: !busy,
    send: !busy && loaded,
    save: !busy && held > 0,
    back: !busy && saved !== undefined,
    forget: !busy && loaded,
  };
  for (const [id, on] of Object.entries(enabled)) button(id).disabled = !on;
  text.disabled = !loaded;
}

function answered(answer: Answer): void {
  if (answer.kind === "progress") showProgress(answer.text, answer.part);
  else if (answer.kind === "piece") append(answer.text);
  else if (answer.kind === "loaded") loaded(answer);
  else if (answer.kind === "said") said(answer);
  else if (answer.kind === "saved") keep(answer.saved, `All saved: ${thousands(answer.saved.tokens)} tokens`);
  else if (answer.kind === "restored") restored(answer);
  else if (answer.kind === "nothing") ended("All ready; nothing is saved for this model");
  else if (answer.kind === "forgotten") forgotten();
  else if (answer.kind === "stopped") stopped();
  else failed(answer.message);
}

/** A restored chat, or `nothing`, follows. */
function loaded({ name, threads, ms }: Extract<Answer, { kind: "loaded" }>): void {
  Object.assign(state, { loading: false, loaded: true, saved: undefined, held: 0 });
  clear();
  showFacts([]);
  at("said-title").textContent =
    `Chat with ${name}, loaded in ${seconds(ms)}, ${threads === 1 ? "1 thread" : `${threads} threads`}`;
}

function said({ text: content, turn }: Extract<Answer, { kind: "said" }>): void {
  append(undefined, content, turnText(turn));
  state.held = turn.held + turn.prefilled + turn.made;
  ended("All said");
  text.focus();
}

const turnText = ({ held, prefilled, prefillMs, made, makeMs }: Turn): string =>
  `${thousands(held)} tokens were in the cache, ${thousands(prefilled)} prefilled in ${seconds(prefillMs)}, ${thousands(made)} made in ${seconds(makeMs)}`;

function restored({ saved, messages, ms }: Extract<Answer, { kind: "restored" }>): void {
  clear();
  for (const message of messages) say(message);
  state.held = saved.tokens;
  keep(saved, `All restored: ${thousands(saved.tokens)} tokens in ${seconds(ms)}`, ms);
  text.focus();
}

function keep(saved: Saved, done: string, restoreMs?: number): void {
  state.saved = saved;
  const { tokens, bytes, f16Bytes, compressMs, prefillTokensPerSecond: rate } = saved;
  showFacts([
    ["tokens", thousands(tokens)],
    ["as f16", bytesText(f16Bytes)],
    [`compressed, ${saved.bits} bits`, bytesText(bytes)],
    ["smaller", times(f16Bytes / bytes)],
    ["compressed in", seconds(compressMs)],
    ...(restoreMs === undefined ? [] : ([["restored in", seconds(restoreMs)]] as [string, string][])),
    ...(rate === null
      ? []
      : ([[`prefill at the ${rate.toFixed(0)} tokens/s measured`, seconds((1000 * tokens) / rate)]] as [
          string,
          string,
        ][])),
    ...(rate === null || restoreMs === undefined
      ? []
      : ([["time saved", seconds((1000 * tokens) / rate - restoreMs)]] as [string, string][])),
  ]);
  ended(done);
}

function forgotten(): void {
  state.saved = undefined;
  showFacts([]);
  ended("All forgotten");
}

function stopped(): void {
  append("", undefined, "stopped before an answer");
  ended("Stopped");
}

function failed(message: string): void {
  state.loading = false;
  showAlert(message);
  ended("Failed");
}

function ended(done: string): void {
  enable(false);
  showProgress(done, 1);
}

const seconds = (ms: number): string => `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 0)} s`;
