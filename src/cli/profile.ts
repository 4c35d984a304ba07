/** `svdq profile`: what a model's queries are like, what errors cost it, and bases for its caches, in one file. */
import { readFile } from "node:fs/promises";
import type { Command } from "commander";
import { profileFingerprint } from "../archive/profile-rows.ts";
import { createProfile } from "../cache/profile.ts";
import type { CodedCache } from "../codec/coded.ts";
import { type CodecOptions, checkOptions, DEFAULT_OPTIONS } from "../codec/options.ts";
import type { CacheSource } from "../codec/source.ts";
import { type Dump, openDump } from "../engines/dump.ts";
import { type GgufModel, parseLlamaState, readGgufModel, sourceOfLlamaState } from "../engines/llama-cpp.ts";
import {
  isProfile,
  type ModelProfile,
  mergeFisher,
  readProfile,
  withProfile,
  writeProfile,
} from "../engines/profile.ts";
import {
  isQuerySample,
  mergeSamples,
  type QuerySample,
  queriesOfDump,
  readQuerySample,
} from "../engines/query-sample.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { aboutFile, asUsage, InputError, UsageError } from "./failure.ts";
import { checkOutput, fileBytes, firstBytes } from "./files.ts";
import { type Io, print } from "./io.ts";
import { number } from "./numbers.ts";
import { phasesOf, withProgress } from "./progress.ts";
import { facts, thousands } from "./text.ts";

interface ProfileFlags {
  output: string;
  bases?: boolean;
  anchorSpan: number;
  model?: string;
  keyBits: number;
  valueBits: number;
  json?: boolean;
}

/** Bases of a profile serve live caches, which attend in place. */
const LIVE_SPAN = 256;

export function addProfile(program: Command, io: Io): void {
  const { keyBits, valueBits } = DEFAULT_OPTIONS;
  program
    .command("profile")
    .summary("what a model's queries are like and what errors cost it, as one file")
    .description(
      "Writes a model's profile: the second moments of its queries before RoPE, from samples of queries and from dumps\n" +
        "that hold some, and the mean Fisher information of profiles (tools/fisher-transformers.py makes one);\n" +
        "--profile of compress, eval and tasks takes it. With --bases also bases, allocation and books,\n" +
        "calibrated on the dumps or states: for live caches that start empty, and for archives without bases of their\n" +
        "own (compress --bases profile).",
    )
    .argument(
      "<files...>",
      "safetensors: samples of queries before RoPE, dumps with layers.N.query, profiles with layers.N.key_fisher; with\n" +
        "--model state files of llama.cpp",
    )
    .requiredOption("-o, --output <profile>", "profile to write")
    .option("--bases", "calibrate bases too: on the states, or else on the dumps")
    .option("--anchor-span <tokens>", "of the bases, see svdq compress: 1 for archives alone", number, LIVE_SPAN)
    .option("--model <gguf>", "the model of state files of llama.cpp")
    .option("--key-bits <bits>", "of the bases: mean bits of a key element", number, keyBits)
    .option("--value-bits <bits>", "of the bases: mean bits of a value element", number, valueBits)
    .option("--json", "print JSON")
    .action((files: string[], flags: ProfileFlags) => runProfile(io, files, flags));
}

async function runProfile(io: Io, files: string[], flags: ProfileFlags): Promise<void> {
  const { output, json, keyBits, valueBits, anchorSpan, model: modelPath } = flags;
  const options = asUsage(() => checkOptions({ keyBits, valueBits, anchorSpan }));
  await checkOutput("--output", output, [...files, ...(modelPath ? [modelPath] : [])]);
  const runtime = await io.createRuntime();
  const gguf = modelPath === undefined ? undefined : await aboutFile(modelPath, () => readGgufModel(modelPath));
  const samples: QuerySample[] = [];
  const measured: ModelProfile[] = [];
  const dumps: Dump[] = [];
  const states: CacheSource[] = [];
  let bases: CodedCache | undefined;
  let known: ModelProfile;
  try {
    for (const path of files) {
      io.signal.throwIfAborted();
      await aboutFile(path, async () => {
        if (await isLlamaState(path)) states.push(await stateAt(path, gguf));
        else if (await isProfile(path)) measured.push(await fisherAt(path));
        else samples.push(await queriesOf(runtime, path, dumps));
      });
    }
    if (samples.length + measured.length === 0) {
      throw new InputError("files: expected queries or Fisher information in one of them, got states alone");
    }
    known = merged(samples, measured);
    // Keys of states and of dumps turn in different layouts: where there are states, bases are theirs.
    if (flags.bases) bases = await basesOf(io, runtime, states.length ? states : dumps, known, options);
  } finally {
    for (const dump of dumps) await dump.close();
  }
  const profile: ModelProfile = { ...known, ...(bases && { bases }) };
  await writeProfile(output, profile, { signal: io.signal });
  const { model, kvHeads, headDim, moments, fisher } = profile;
  const count = samples.reduce((sum, sample) => sum + sample.count, 0);
  const totalBytes = await fileBytes(output);
  const layers = Math.max(moments.size, fisher.size);
  const parts = { queries: count, fisher: measured.length, bases: !!bases };
  const result = { output, model, layers, kvHeads, headDim, ...parts, totalBytes };
  print(io, json, result, () =>
    facts([
      ["from", `${files.length} files${count ? `, ${thousands(count)} queries a query head` : ""}`],
      ["model", `${model || "unknown"}: ${layers} layers of ${kvHeads} kv heads x ${headDim}`],
      ["to", `${output}: ${thousands(totalBytes)} bytes, ${describeParts(parts)}`],
      ...(bases ? [["bases", profileFingerprint(bases)] as [string, string]] : []),
    ]),
  );
}

const describeParts = ({ queries, fisher, bases }: { queries: number; fisher: number; bases: boolean }): string =>
  [queries && "queries", fisher && "Fisher information", bases && "bases"].filter(Boolean).join(", ");

/** A profile that has nothing which would be lost: of others, Fisher information alone is taken. */
async function fisherAt(path: string): Promise<ModelProfile> {
  const profile = await readProfile(path);
  const beside = [profile.moments.size && "queries", profile.bases && "bases"].filter(Boolean);
  if (profile.fisher.size > 0 && beside.length === 0) return profile;
  const got = profile.fisher.size ? `${beside.join(" and ")} beside it` : "a profile without";
  throw new InputError(`${path}: expected Fisher information alone, got ${got}`);
}

/** Queries of samples and Fisher information of profiles. */
function merged(samples: QuerySample[], measured: ModelProfile[]): ModelProfile {
  const base = samples.length ? mergeSamples(samples) : measured[0];
  return { ...base, fisher: mergeFisher(measured, base) };
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

/** A state file of llama.cpp begins with these bytes: "ggsq" as a little-endian number. */
const STATE_MAGIC = Buffer.from("qsgg");

async function isLlamaState(path: string): Promise<boolean> {
  return (await firstBytes(path, STATE_MAGIC.length)).equals(STATE_MAGIC);
}

async function stateAt(path: string, model: GgufModel | undefined): Promise<CacheSource> {
  if (!model) throw new UsageError(`--model: expected the GGUF file that ${path} is a state of, got none`);
  return sourceOfLlamaState(parseLlamaState(await readFile(path)), model);
}

async function basesOf(
  io: Io,
  runtime: Runtime,
  caches: CacheSource[],
  queries: ModelProfile,
  options: CodecOptions,
): Promise<CodedCache> {
  if (caches.length === 0) {
    throw new InputError("--bases: expected at least one dump or state with keys and values, got none");
  }
  const sources = caches.map((cache) => withProfile(cache, queries));
  return withProgress(io, phasesOf({ ...options, schedule: null }, sources[0]) * caches[0].geometry.layerCount, (bar) =>
    createProfile(runtime, sources, options, { signal: io.signal, onProgress: ({ phase }) => bar.step(phase) }),
  );
}
