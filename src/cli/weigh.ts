/** `svdq weigh`: which layers' errors a real model feels, into its profile. */
import { availableParallelism } from "node:os";
import type { Command } from "commander";
import { readGgufModel } from "../engines/llama-cpp.ts";
import { type ModelProfile, writeProfile } from "../engines/profile.ts";
import { measureLayerWeights, stepsOf } from "../evaluation/eval/layer-weights.ts";
import { ENDS } from "../evaluation/eval/methods.ts";
import { openNodeLlama } from "../evaluation/eval/node-llama-cpp.ts";
import { TEXTS } from "../evaluation/texts/index.ts";
import { builtInTexts, ownTexts } from "./eval-texts.ts";
import { aboutFile, UsageError } from "./failure.ts";
import { checkOutput, profileAt, readText } from "./files.ts";
import { type Io, print } from "./io.ts";
import { positiveInteger } from "./numbers.ts";
import { withProgress } from "./progress.ts";
import { columns } from "./text.ts";

interface WeighFlags {
  model: string;
  output: string;
  text?: string[];
  seed: number;
  context: number;
  continue: number;
  layers: number;
  threads: number;
  json?: boolean;
}

/** Prose hardly needs its context, so it says little of any layer. */
const MADE = TEXTS.filter(({ name }) => name !== "novel");

export function addWeigh(program: Command, io: Io): void {
  program
    .command("weigh")
    .summary("which layers' errors a real model feels, into its profile")
    .description(
      "Codes the keys, then the values, of a few layers at a time and leaves the others exact, and measures through\n" +
        "llama.cpp what the model's next tokens lose. Writes the profile with what errors of each layer count: compress,\n" +
        "eval and tasks then give more bits to layers that count more (--profile). Needs node-llama-cpp, as svdq eval.",
    )
    .argument("<profile>", "the model's profile, see svdq profile")
    .requiredOption("--model <gguf>", "model; f32 or f16 weights, because quantized ones add noise")
    .requiredOption("-o, --output <profile>", "profile to write")
    .option("--text <files...>", "your own texts, longer than context and continuation (default: three made ones)")
    .option("--seed <number>", "of the made texts", positiveInteger, 2)
    .option("--context <tokens>", "tokens to compress", positiveInteger, 1024)
    .option("--continue <tokens>", "tokens to score of each text", positiveInteger, 64)
    .option("--layers <count>", "layers that are measured together", positiveInteger, 3)
    .option("--threads <count>", "threads of llama.cpp", positiveInteger, availableParallelism())
    .option("--json", "print JSON")
    .action((path: string, flags: WeighFlags) => runWeigh(io, path, flags));
}

async function runWeigh(io: Io, path: string, flags: WeighFlags): Promise<void> {
  const { model: modelPath, output, text: paths, context, layers, threads, json } = flags;
  const least = ENDS.sinks + ENDS.recent + 1;
  if (context < least) throw new UsageError(`--context: expected at least ${least}, got ${context}`);
  await checkOutput("--output", output, [modelPath, ...(paths ?? [])]);
  const profile = (await profileAt(path)) as ModelProfile;
  const model = await aboutFile(modelPath, () => readGgufModel(modelPath));
  const strings = paths && (await Promise.all(paths.map(readText)));
  const runtime = await io.createRuntime();
  const lengths = { context, continuation: flags.continue };
  const contextSize = context + flags.continue + 16;
  const engine = await (io.openEngine ?? openNodeLlama)({ modelPath, contextSize, threads });
  try {
    const texts =
      paths && strings
        ? await ownTexts(engine, paths, strings, lengths)
        : builtInTexts(engine, MADE, flags.seed, lengths);
    const steps = texts.length * stepsOf(model.geometry.layerCount, layers);
    const weights = await withProgress(io, steps, (bar) =>
      measureLayerWeights(runtime, engine, model, profile, texts, layers, {
        signal: io.signal,
        onStep: (what) => bar.step(what),
      }),
    );
    await writeProfile(output, { ...profile, weights }, { signal: io.signal });
    const rows = [...weights].map(([layer, { keys, values }]) => ({ layer, keys, values }));
    print(io, json, { output, weights: rows }, () =>
      columns(
        ["layer", "keys", "values"],
        rows.map(({ layer, keys, values }) => [String(layer), keys.toFixed(2), values.toFixed(2)]),
      ),
    );
  } finally {
    await engine.dispose();
  }
}
