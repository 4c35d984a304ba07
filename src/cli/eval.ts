/** `svdq eval`: what the codec and its peers cost a real language model, by what it then says. */
import { availableParallelism } from "node:os";
import type { Command } from "commander";
import { writeFileAtomically } from "../archive/atomic-file.ts";
import { openGguf, readGgufModel } from "../engines/llama-cpp.ts";
import { evaluate, STEPS_A_TEXT } from "../evaluation/eval/evaluate.ts";
import { ENDS, EVAL_METHODS, FLOOR } from "../evaluation/eval/methods.ts";
import { openNodeLlama } from "../evaluation/eval/node-llama-cpp.ts";
import { evalSvg, evalTable } from "../evaluation/eval/report.ts";
import { cutText, type EvalText } from "../evaluation/eval/text.ts";
import { aboutFile, UsageError } from "./failure.ts";
import { checkOutput, profileAt, readText } from "./files.ts";
import { type Io, print } from "./io.ts";
import { chooseByName, nameList } from "./methods.ts";
import { positiveInteger } from "./numbers.ts";
import { withProgress } from "./progress.ts";
import { columns } from "./text.ts";

interface EvalFlags {
  model: string;
  text: string[];
  context: number;
  continue: number;
  methods?: string[];
  profile?: string;
  threads: number;
  svg?: string;
  json?: boolean;
}

export function addEval(program: Command, io: Io): void {
  program
    .command("eval")
    .summary("what compression costs a real model, through llama.cpp")
    .description(
      "Reads the first tokens of each text with a llama.cpp model, sends the state of the sequence through every\n" +
        "method and compares what the model says of the text's continuation with what it says through the exact state.\n" +
        "Prints a row a method, over all texts: bits of a coded element without and with the basis, change of\n" +
        "perplexity, mean and 99th percentile KL divergence in nats, agreement of the likeliest token, KL as part of\n" +
        "that of a cache without far tokens, seconds to compress and restore. Needs node-llama-cpp, which npm install\n" +
        "node-llama-cpp brings to the working directory.",
    )
    .requiredOption("--model <gguf>", "model; f32 or f16 weights, because quantized ones add noise")
    .requiredOption("--text <files...>", "texts longer than context and continuation")
    .option("--context <tokens>", "tokens to compress", positiveInteger, 2048)
    .option("--continue <tokens>", "tokens to score", positiveInteger, 256)
    .option("--methods <names>", "only methods whose name contains one of these, as turboquant,kivi", nameList)
    .option("--profile <file>", "the model's profile, whose queries give the codec its metric, see svdq profile")
    .option("--threads <count>", "threads of llama.cpp", positiveInteger, availableParallelism())
    .option("--svg <file>", "also plot KL against bits")
    .option("--json", "print JSON")
    .action((flags: EvalFlags) => runEval(io, flags));
}

async function runEval(io: Io, flags: EvalFlags): Promise<void> {
  const { model: modelPath, text: paths, context, continue: continuation, threads, svg, json } = flags;
  // Every row is to be read beside the floor.
  const methods = [FLOOR, ...chooseByName(EVAL_METHODS, flags.methods).filter((method) => method !== FLOOR)];
  const least = ENDS.sinks + ENDS.recent + 1;
  if (context < least) throw new UsageError(`--context: expected at least ${least}, got ${context}`);
  if (svg !== undefined)
    await checkOutput("--svg", svg, [modelPath, ...paths, ...(flags.profile ? [flags.profile] : [])]);
  const profile = await profileAt(flags.profile);
  const model = await aboutFile(modelPath, () => readGgufModel(modelPath));
  const note = (await hasQuantizedWeights(modelPath))
    ? "note: quantized weights turn any tiny change into noise; no row can be below the first. See docs/eval.md.\n"
    : "";
  const strings = await Promise.all(paths.map(readText));
  const runtime = await io.createRuntime();
  // A few more than are fed, so that the engine never shifts its context.
  const contextSize = context + continuation + 16;
  const engine = await (io.openEngine ?? openNodeLlama)({ modelPath, contextSize, threads });
  try {
    const texts: EvalText[] = [];
    for (const [i, path] of paths.entries()) {
      texts.push(await aboutFile(path, async () => cutText(engine, strings[i], { context, continuation })));
    }
    const rows = await withProgress(io, texts.length * (STEPS_A_TEXT + methods.length), (bar) =>
      evaluate(runtime, engine, model, texts, methods, {
        profile,
        signal: io.signal,
        onStep: (what) => bar.step(what),
      }),
    );
    if (svg !== undefined) {
      const bytes = new TextEncoder().encode(await evalSvg(rows));
      await writeFileAtomically(svg, (write) => write(bytes), { signal: io.signal });
    }
    if (json) io.stderr.write(note);
    const { titles, lines } = evalTable(rows);
    print(io, json, rows, () => columns(titles, lines) + note);
  } finally {
    await engine.dispose();
  }
}

/** f32, f16 and bf16 in ggml's numbering; norms and the like are f32 in any file. */
const PLAIN = [0, 1, 30];

async function hasQuantizedWeights(path: string): Promise<boolean> {
  const file = await openGguf(path);
  try {
    return [...file.tensors.values()].some(({ type }) => !PLAIN.includes(type));
  } finally {
    await file.close();
  }
}
