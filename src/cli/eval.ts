/** `svdq eval`: what the codec and its peers cost a real language model, by what it then says. */
import { availableParallelism } from "node:os";
import type { Command } from "commander";
import { writeFileAtomically } from "../archive/atomic-file.ts";
import { checkTargetKl } from "../codec/expected-kl.ts";
import { openGguf, readGgufModel } from "../engines/llama-cpp.ts";
import type { ModelProfile } from "../engines/profile.ts";
import { evaluate, STEPS_A_TEXT } from "../evaluation/eval/evaluate.ts";
import {
  type BitPair,
  ENDS,
  EVAL_METHODS,
  type EvalMethod,
  EXACT_BITS,
  FLOOR,
  forTargets,
  methodsAt,
  methodsOnBases,
} from "../evaluation/eval/methods.ts";
import { openNodeLlama } from "../evaluation/eval/node-llama-cpp.ts";
import { type EvalRow, evalSvg, evalTable, textTable } from "../evaluation/eval/report.ts";
import { bitPairs } from "./bits.ts";
import { builtInTexts, ownTexts } from "./eval-texts.ts";
import { aboutFile, asUsage, UsageError } from "./failure.ts";
import { checkOutput, profileAt, readText } from "./files.ts";
import { type Io, print } from "./io.ts";
import { chooseByName, nameList } from "./methods.ts";
import { number, positiveInteger } from "./numbers.ts";
import { withProgress } from "./progress.ts";
import { columns } from "./text.ts";

interface EvalFlags {
  model: string;
  text?: string[];
  seed: number;
  context: number;
  continue?: number;
  methods?: string[];
  bits?: BitPair[];
  targetKl?: number[];
  profile?: string;
  threads: number;
  svg?: string;
  byText?: boolean;
  json?: boolean;
}

/** Tokens scored of the user's texts, and of those that svdq brings: there are four, and the run shall be short. */
const CONTINUATION = { own: 256, builtIn: 64 };

export function addEval(program: Command, io: Io): void {
  program
    .command("eval")
    .summary("what compression costs a real model, through llama.cpp")
    .description(
      "Reads the first tokens of each text with a llama.cpp model, sends the state of the sequence through every\n" +
        "method and compares what the model says of the text's continuation with what it says through the exact state.\n" +
        "Prints a row a method, over all texts: bits of a coded element without and with the basis, change of\n" +
        "perplexity, mean and 99th percentile KL divergence in nats, agreement of the likeliest token, KL as part of\n" +
        "that of a cache without far tokens, seconds to compress and restore; then KL text by text. Without --text it\n" +
        "takes four texts of its own: prose, and three made ones that cannot go on without their far context (code,\n" +
        "records, needles). Needs node-llama-cpp, which npm install node-llama-cpp brings to the working directory.",
    )
    .requiredOption("--model <gguf>", "model; f32 or f16 weights, because quantized ones add noise")
    .option("--text <files...>", "your own texts, longer than context and continuation")
    .option("--seed <number>", "of the made texts", positiveInteger, 1)
    .option("--context <tokens>", "tokens to compress", positiveInteger, 2048)
    .option(
      "--continue <tokens>",
      `tokens to score of each text (default: ${CONTINUATION.own}, of svdq's own texts ${CONTINUATION.builtIn})`,
      positiveInteger,
    )
    .option("--methods <names>", "only methods whose name contains one of these, as turboquant,kivi", nameList)
    .option(
      "--bits <pairs>",
      "settings of the codec, in planes and at entropy: keys/values or one number, as 1.25/2,2/2,3; values of 16 are not\ncoded; the paper's schedules get values as these",
      bitPairs,
    )
    .option("--target-kl <nats>", "also the codec with bits chosen for these, as compress does it", targets)
    .option("--profile <file>", "the model's profile: what errors in a cache cost it, see svdq profile")
    .option("--threads <count>", "threads of llama.cpp", positiveInteger, availableParallelism())
    .option("--svg <file>", "also plot KL against bits")
    .option("--by-text", "JSON: also mean KL and change of perplexity of each text")
    .option("--json", "print JSON")
    .action((flags: EvalFlags) => runEval(io, flags));
}

async function runEval(io: Io, flags: EvalFlags): Promise<void> {
  const { model: modelPath, text: paths, context, threads, svg, json } = flags;
  const continuation = flags.continue ?? (paths ? CONTINUATION.own : CONTINUATION.builtIn);
  const least = ENDS.sinks + ENDS.recent + 1;
  if (context < least) throw new UsageError(`--context: expected at least ${least}, got ${context}`);
  if (svg !== undefined)
    await checkOutput("--svg", svg, [modelPath, ...(paths ?? []), ...(flags.profile ? [flags.profile] : [])]);
  const profile = await profileAt(flags.profile);
  const methods = methodsOf(flags, profile);
  const model = await aboutFile(modelPath, () => readGgufModel(modelPath));
  const note = (await hasQuantizedWeights(modelPath))
    ? "note: quantized weights turn any tiny change into noise; no row can be below the first. See docs/eval.md.\n"
    : "";
  const strings = paths && (await Promise.all(paths.map(readText)));
  const runtime = await io.createRuntime();
  // A few more than are fed, so that the engine never shifts its context.
  const contextSize = context + continuation + 16;
  const engine = await (io.openEngine ?? openNodeLlama)({ modelPath, contextSize, threads });
  try {
    const lengths = { context, continuation };
    const texts =
      paths && strings ? await ownTexts(engine, paths, strings, lengths) : builtInTexts(engine, flags.seed, lengths);
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
    print(io, json, flags.byText ? rows : rows.map(({ byText: _, ...row }) => row), () => tables(rows) + note);
  } finally {
    await engine.dispose();
  }
}

function methodsOf({ targetKl = [], bits, methods }: EvalFlags, profile?: ModelProfile): EvalMethod[] {
  if (targetKl.length && !profile?.fisher.size) {
    const got = profile ? "one without" : "none";
    throw new UsageError(`--target-kl: expected a --profile with the model's Fisher information, got ${got}`);
  }
  const coded = bits?.filter(({ valueBits }) => valueBits !== EXACT_BITS);
  const onBases = profile?.bases ? methodsOnBases(profile.bases, coded) : [];
  const all = [...(bits ? methodsAt(bits) : EVAL_METHODS), ...onBases, ...forTargets(targetKl)];
  // Every row is to be read beside the floor.
  return [FLOOR, ...chooseByName(all, methods).filter((method) => method !== FLOOR)];
}

const targets = (text: string): number[] => text.split(",").map((part) => asUsage(() => checkTargetKl(number(part))));

function tables(rows: EvalRow[]): string {
  const all = evalTable(rows);
  const text = columns(all.titles, all.lines);
  if (rows[0].byText.length < 2) return text;
  const parts = textTable(rows);
  return `${text}\n${columns(parts.titles, parts.lines)}`;
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
