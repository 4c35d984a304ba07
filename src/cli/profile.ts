/** `svdq profile`: what a model's queries are like, and bases for its caches, from dumps and samples of queries. */
import type { Command } from "commander";
import { createProfile } from "../cache/profile.ts";
import type { CodedCache } from "../codec/coded.ts";
import { checkOptions, DEFAULT_OPTIONS } from "../codec/options.ts";
import { type Dump, openDump } from "../engines/dump.ts";
import { type ModelProfile, writeProfile } from "../engines/profile.ts";
import {
  isQuerySample,
  mergeSamples,
  type QuerySample,
  queriesOfDump,
  readQuerySample,
} from "../engines/query-sample.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { aboutFile, asUsage, InputError } from "./failure.ts";
import { checkOutput, fileBytes } from "./files.ts";
import { type Io, print } from "./io.ts";
import { number } from "./numbers.ts";
import { withProgress } from "./progress.ts";
import { facts, thousands } from "./text.ts";

interface ProfileFlags {
  output: string;
  bases?: boolean;
  keyBits: number;
  valueBits: number;
  json?: boolean;
}

/** Analysis of keys, coding of keys, coding of values. */
const PHASES = 3;

export function addProfile(program: Command, io: Io): void {
  const { keyBits, valueBits } = DEFAULT_OPTIONS;
  program
    .command("profile")
    .summary("what a model's queries are like, for engines that hand out none")
    .description(
      "Writes a model's profile: the second moments of its queries before RoPE, from samples of queries and from dumps\n" +
        "that hold some; --profile of compress and eval takes it. With --bases also bases, allocation and books for\n" +
        "live caches that start empty, calibrated on the dumps.",
    )
    .argument("<files...>", "safetensors: samples of queries before RoPE, or dumps with layers.N.query")
    .requiredOption("-o, --output <profile>", "profile to write")
    .option("--bases", "calibrate bases on the dumps too (anchor span 256)")
    .option("--key-bits <bits>", "of the bases: mean bits of a key element", number, keyBits)
    .option("--value-bits <bits>", "of the bases: mean bits of a value element", number, valueBits)
    .option("--json", "print JSON")
    .action((files: string[], flags: ProfileFlags) => runProfile(io, files, flags));
}

/** Bases of a profile serve live caches, which attend in place. */
const LIVE_SPAN = 256;

async function runProfile(io: Io, files: string[], flags: ProfileFlags): Promise<void> {
  const { output, json, keyBits, valueBits } = flags;
  const options = asUsage(() => checkOptions({ keyBits, valueBits, anchorSpan: LIVE_SPAN }));
  await checkOutput("--output", output, files);
  const runtime = await io.createRuntime();
  const samples: QuerySample[] = [];
  const dumps: Dump[] = [];
  let bases: CodedCache | undefined;
  try {
    for (const path of files) {
      io.signal.throwIfAborted();
      await aboutFile(path, async () => void samples.push(await queriesOf(runtime, path, dumps)));
    }
    if (flags.bases) bases = await basesOf(io, runtime, dumps, options);
  } finally {
    for (const dump of dumps) await dump.close();
  }
  const profile: ModelProfile = { ...mergeSamples(samples), ...(bases && { bases }) };
  await writeProfile(output, profile, { signal: io.signal });
  const { model, kvHeads, headDim, moments } = profile;
  const queries = samples.reduce((sum, { count }) => sum + count, 0);
  const totalBytes = await fileBytes(output);
  const result = { output, model, layers: moments.size, kvHeads, headDim, queries, bases: !!bases, totalBytes };
  print(io, json, result, () =>
    facts([
      ["from", `${files.length} files, ${thousands(queries)} queries a query head`],
      ["model", `${model || "unknown"}: ${moments.size} layers of ${kvHeads} kv heads x ${headDim}`],
      ["to", `${output}: ${thousands(totalBytes)} bytes, ${bases ? "with bases" : "queries alone"}`],
    ]),
  );
}

/** Queries of a file; a dump is kept open among `dumps`. */
async function queriesOf(runtime: Runtime, path: string, dumps: Dump[]): Promise<QuerySample> {
  if (await isQuerySample(path)) return readQuerySample(runtime, path);
  const dump = await openDump(path);
  dumps.push(dump);
  const sample = await queriesOfDump(runtime, dump);
  if (!sample) throw new InputError(`${path}: expected layers.N.query, got a dump without queries`);
  return sample;
}

async function basesOf(
  io: Io,
  runtime: Runtime,
  dumps: Dump[],
  options: ReturnType<typeof checkOptions>,
): Promise<CodedCache> {
  if (dumps.length === 0) throw new InputError("--bases: expected at least one dump with keys and values, got none");
  return withProgress(io, PHASES * dumps[0].geometry.layerCount, (bar) =>
    createProfile(runtime, dumps, options, { signal: io.signal, onProgress: ({ phase }) => bar.step(phase) }),
  );
}
