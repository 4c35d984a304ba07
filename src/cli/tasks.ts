/** `svdq tasks`: what a real language model still finds in its cache, asked and answered. */
import { availableParallelism } from "node:os";
import type { Command } from "commander";
import { readGgufModel } from "../engines/llama-cpp.ts";
import { type BitPair, ENDS, EVAL_METHODS, methodsAt } from "../evaluation/eval/methods.ts";
import { openNodeLlama } from "../evaluation/eval/node-llama-cpp.ts";
import { TASKS } from "../evaluation/tasks/index.ts";
import { checkTasks, evaluateTasks, taskTable } from "../evaluation/tasks/run.ts";
import { bitPairs } from "./bits.ts";
import { aboutFile, asUsage, UsageError } from "./failure.ts";
import { profileAt, readText } from "./files.ts";
import { type Io, print } from "./io.ts";
import { chooseByName, nameList } from "./methods.ts";
import { positiveInteger } from "./numbers.ts";
import { withProgress } from "./progress.ts";
import { columns } from "./text.ts";

/** What a question and its answer may take behind the context. */
const ANSWER_TOKENS = 512;

const DEFAULT_METHODS = ["K 1.25 V 2", "TurboQuant 3"];

interface TaskFlags {
  model: string;
  text?: string;
  context: number;
  cases: number;
  seed: number;
  tasks?: string[];
  methods?: string[];
  bits?: BitPair[];
  profile?: string;
  threads: number;
  json?: boolean;
}

export function addTasks(program: Command, io: Io): void {
  program
    .command("tasks")
    .summary("what a real model still finds in its cache, by RULER's tasks")
    .description(
      "Makes cases of RULER's thirteen tasks from a seed (needles, variable tracking, common words, questions on a\n" +
        "text), reads each context with a llama.cpp model, and puts the question to the exact cache and to what every\n" +
        "method makes of it. Prints a row a task and method: mean part of the answers found by both, cases that the\n" +
        "exact cache solves, and how many of them the compressed one solves too. Needs node-llama-cpp, as svdq eval.",
    )
    .requiredOption("--model <gguf>", "model, such as one that svdq eval takes")
    .option("--text <file>", "what the two question tasks ask about; they are left out without it")
    .option("--context <tokens>", "tokens of a case's context, at most", positiveInteger, 1024)
    .option("--cases <count>", "cases of each task", positiveInteger, 10)
    .option("--seed <number>", "another seed, other cases", positiveInteger, 1)
    .option("--tasks <names>", "only tasks whose name contains one of these, as needle,tracking", nameList)
    .option(
      "--methods <names>",
      `methods whose name contains one of these (default: ${DEFAULT_METHODS.join(",")}; with --bits: codec)`,
      nameList,
    )
    .option(
      "--bits <pairs>",
      "settings of the codec, in planes and at entropy: keys/values or one number, as 1.25/2,2/2,3",
      bitPairs,
    )
    .option("--profile <file>", "the model's profile: what errors in a cache cost it, see svdq profile")
    .option("--threads <count>", "threads of llama.cpp", positiveInteger, availableParallelism())
    .option("--json", "print JSON")
    .action((flags: TaskFlags) => runTasks(io, flags));
}

async function runTasks(io: Io, flags: TaskFlags): Promise<void> {
  const { model: modelPath, text: textPath, context, cases, seed, threads, json } = flags;
  const methods = flags.bits
    ? chooseByName(methodsAt(flags.bits), flags.methods ?? ["codec"])
    : chooseByName(EVAL_METHODS, flags.methods ?? DEFAULT_METHODS);
  const chosen = chooseByName(TASKS, flags.tasks, "tasks");
  const tasks = textPath === undefined ? chosen.filter(({ needsText }) => !needsText) : chosen;
  if (tasks.length === 0) throw new UsageError("--tasks: expected --text beside tasks that ask about one, got none");
  const least = ENDS.sinks + ENDS.recent + 1;
  if (context < least) throw new UsageError(`--context: expected at least ${least}, got ${context}`);
  const profile = await profileAt(flags.profile);
  const model = await aboutFile(modelPath, () => readGgufModel(modelPath));
  const text = textPath === undefined ? undefined : await readText(textPath);
  const runtime = await io.createRuntime();
  const engine = await (io.openEngine ?? openNodeLlama)({ modelPath, contextSize: context + ANSWER_TOKENS, threads });
  try {
    const options = { context, cases, seed, text, profile, signal: io.signal };
    asUsage(() => checkTasks(engine, tasks, options));
    const rows = await withProgress(io, tasks.length * cases, (bar) =>
      evaluateTasks(runtime, engine, model, tasks, methods, { ...options, onStep: (what) => bar.step(what) }),
    );
    const { titles, lines } = taskTable(rows);
    print(io, json, rows, () => columns(titles, lines));
  } finally {
    await engine.dispose();
  }
}
