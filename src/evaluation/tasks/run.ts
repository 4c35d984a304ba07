/**
 * Tasks through the exact and through compressed caches: each case's context is computed once and its state saved; the
 * question is put to the state as it is, then to what each method makes of it. Answers are generated, likeliest token
 * after likeliest token, so a case counts as the user would see it.
 */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { GgufModel } from "../../engines/gguf-model.ts";
import { parseLlamaState } from "../../engines/llama-state.ts";
import type { ModelProfile } from "../../engines/profile.ts";
import type { Runtime } from "../../runtime/runtime.ts";
import type { EvalEngine } from "../eval/engine.ts";
import { FEED_CHUNK, inChunks } from "../eval/evaluate.ts";
import { cacheOf, type EvalMethod } from "../eval/methods.ts";
import { longestCase, scoreOf, type Task, type TaskCase } from "./task.ts";

export interface TaskOptions {
  /** Tokens of a case's context, at most. */
  context: number;
  /** Cases of each task. */
  cases: number;
  /** Case i has seed + i. */
  seed: number;
  /** For the tasks that ask about a text. */
  text?: string | undefined;
  profile?: ModelProfile | undefined;
  signal?: AbortSignal;
  /** After each case of each task. */
  onStep?: (what: string) => void;
}

export interface TaskRow {
  task: string;
  method: string;
  cases: number;
  /** Mean part of the answers found: exact cache, compressed one. */
  exact: number;
  compressed: number;
  /** Cases that the exact cache solves wholly, and those of them that the compressed one solves too. */
  solved: number;
  kept: number;
}

/** Rows task by task, method by method. RangeError where a task needs a text and there is none. */
export async function evaluateTasks(
  runtime: Runtime,
  engine: EvalEngine,
  model: GgufModel,
  tasks: Task[],
  methods: EvalMethod[],
  options: TaskOptions,
): Promise<TaskRow[]> {
  const folder = await mkdtemp(join(tmpdir(), "svdq-tasks-"));
  const path = join(folder, "state.bin");
  const { cases, profile, signal, onStep } = options;
  const rows: TaskRow[] = [];
  try {
    for (const task of tasks) {
      const own = methods.map(({ name }) => ({
        ...{ task: task.name, method: name, cases, exact: 0, compressed: 0, solved: 0, kept: 0 },
      }));
      rows.push(...own);
      for (let index = 0; index < cases; index++) {
        const one = caseOf(engine, task, index, options);
        await engine.clear();
        await inChunks(engine.tokenize(one.context), FEED_CHUNK, signal, (tokens) => engine.feed(tokens));
        await engine.save(path);
        const state = parseLlamaState(await readFile(path));
        const source = cacheOf(state, model, profile);
        const exact = await answerTo(engine, path, one);
        for (const [i, method] of methods.entries()) {
          signal?.throwIfAborted();
          await writeFile(path, (await method.apply(runtime, state, source, signal ? { signal } : {})).file);
          tally(own[i], exact, await answerTo(engine, path, one));
        }
        onStep?.(task.name);
      }
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return rows;
}

/** RangeError that names the task where not even the first case of one can be made. */
export function checkTasks(engine: EvalEngine, tasks: Task[], options: TaskOptions): void {
  for (const task of tasks) caseOf(engine, task, 0, options);
}

function caseOf(engine: EvalEngine, task: Task, index: number, { context, seed, text }: TaskOptions): TaskCase {
  try {
    return longestCase(task.make(text), seed + index, context, (string) => engine.tokenize(string).length);
  } catch (error) {
    if (error instanceof RangeError) throw new RangeError(error.message.replace(": ", `: ${task.name}: `));
    throw error;
  }
}

/** Part of the answers in what the model says; it stops where nothing is missing. */
async function answerTo(engine: EvalEngine, path: string, one: TaskCase): Promise<number> {
  await engine.load(path);
  const score = (said: number[]): number => scoreOf(one, engine.detokenize(said));
  // A question goes on in the sequence: no first token of the model's own.
  return score(await engine.generate(engine.tokenizePart(one.question), one.length, (said) => score(said) === 1));
}

function tally(row: TaskRow, exact: number, compressed: number): void {
  row.exact += exact / row.cases;
  row.compressed += compressed / row.cases;
  if (exact < 1) return;
  row.solved++;
  if (compressed === 1) row.kept++;
}

const TITLES = ["task", "method", "cases", "exact %", "compressed %", "solved", "kept", "kept %"];

export function taskTable(rows: readonly TaskRow[]): { titles: string[]; lines: string[][] } {
  const percent = (part: number): string => (100 * part).toFixed(1);
  const lines = rows.map((row) => [
    row.task,
    row.method,
    String(row.cases),
    percent(row.exact),
    percent(row.compressed),
    String(row.solved),
    String(row.kept),
    row.solved > 0 ? percent(row.kept / row.solved) : "-",
  ]);
  return { titles: TITLES, lines };
}
