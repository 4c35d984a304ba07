/** `svdq compress`: a dump to an archive. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { extendCache } from "../archive/extend.ts";
import { withoutRows } from "../archive/profile-rows.ts";
import { readArchive } from "../archive/reader.ts";
import { writeArchive } from "../archive/writer.ts";
import { spansByFrequency } from "../codec/anchors.ts";
import { type CodedCache, hasStreams } from "../codec/coded.ts";
import { checkTargetKl } from "../codec/expected-kl.ts";
import { compressOnBases } from "../codec/given-bases.ts";
import { type CodecOptions, checkOptions, DEFAULT_OPTIONS } from "../codec/options.ts";
import type { CacheSource } from "../codec/source.ts";
import { withProfile } from "../engines/profile.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { groupingOption } from "./codec-flags.ts";
import { asUsage, UsageError } from "./failure.ts";
import { basesOf, checkOutput, fileBytes, profileAt, withDump } from "./files.ts";
import { compressForGoal, describeChoice } from "./goal.ts";
import { type Io, print } from "./io.ts";
import { atLeastOne, number, positiveInteger } from "./numbers.ts";
import { phasesOf, withProgress } from "./progress.ts";
import { describeCodes, describeExact, describeSource, formatCodes } from "./summary.ts";
import { facts, thousands } from "./text.ts";

/** Projection of keys and values on the bases of a profile, coding of keys, coding of values. */
const BASES_PHASES = 3;
/** Analysis of keys and of values, before bits are chosen. */
const GOAL_PHASES = 2;

/** What an archive that is extended has decided, and goals for a whole file. */
const FIXED_FLAGS = ["grouping", "anchorSpan", "schedule", "entropy", "sinks", "targetKl", "ratio"];

/** Tokens, after RoPE, or a span for each pair that turns no faster, in radians a token. */
type WantedSpan = number | "none" | { fastest: number };

interface CompressFlags extends Omit<CodecOptions, "anchorSpan"> {
  output: string;
  anchorSpan: WantedSpan;
  tokens?: number;
  extend?: string;
  profile?: string;
  bases: "own" | "profile";
  json?: boolean;
  targetKl?: number;
  ratio?: number;
}

export function addCompress(program: Command, io: Io): void {
  const defaults = DEFAULT_OPTIONS;
  program
    .command("compress")
    .summary("a safetensors dump to an archive")
    .description("Compresses a key-value cache, saved as a safetensors dump, to an archive.")
    .argument("<file>", "safetensors dump: layers.N.key and layers.N.value, keys after RoPE")
    .requiredOption("-o, --output <archive>", "archive to write")
    .option("--key-bits <bits>", "mean bits of a key element, over all layers", number, defaults.keyBits)
    .option("--value-bits <bits>", "mean bits of a value element", number, defaults.valueBits)
    .addOption(
      new Option(
        "--target-kl <nats>",
        "in place of bits: choose them for this KL divergence of the model's next token; wants a --profile with Fisher information",
      )
        .argParser((text: string) => asUsage(() => checkTargetKl(number(text))))
        .conflicts(["keyBits", "valueBits", "schedule", "ratio"]),
    )
    .addOption(
      new Option("--ratio <times>", "in place of bits: choose them for a file so many times smaller than f16")
        .argParser(atLeastOne)
        .conflicts(["keyBits", "valueBits", "schedule"]),
    )
    .addOption(groupingOption())
    .option(
      "--anchor-span <tokens>",
      "keys are rotated inside a span only: 1 before RoPE, none after it, or a power of two between; 0.1rad: a span\nfor each rotary pair by how fast it turns, none above 0.1 radians a token",
      wantedSpan,
      1,
    )
    .addOption(
      new Option("--schedule <widths>", "the SVDq paper's mode for keys: bits of 8 equal groups, as 4,4,2,0,0,0,0,0")
        .argParser((text: string) => text.split(",").map(number))
        .conflicts("keyBits"),
    )
    .addOption(
      new Option("--entropy", "codes at their entropy, in steps alike for all channels: the smallest files").conflicts(
        "schedule",
      ),
    )
    .option("--sinks <tokens>", "tokens at the start that stay exact", number, defaults.sinks)
    .option("--recent <tokens>", "tokens at the end that stay exact", number, defaults.recent)
    .option(
      "--tokens <count>",
      "tokens to compress, from the start (default: context_tokens of the dump, or all)",
      positiveInteger,
    )
    .addOption(
      new Option(
        "--extend <archive>",
        "an archive of the first tokens: its codes stay as they are, byte for byte, and only the others are coded",
      ).conflicts(FIXED_FLAGS),
    )
    .option(
      "--profile <file>",
      "the model's profile: what errors cost it, or its queries for a dump that holds none, see svdq profile",
    )
    .addOption(
      new Option(
        "--bases <whose>",
        "profile: codes on the profile's bases, which the archive names and holds none of; it opens with --profile only",
      )
        .choices(["own", "profile"])
        .default("own")
        .conflicts(["extend", "targetKl", "ratio", "schedule"]),
    )
    .option("--no-metric", "count all errors alike, whatever queries or profile say of them")
    .option(
      "--no-attention-weights",
      "do not weigh tokens by the attention that they receive; none are where the profile has Fisher information",
    )
    .option(
      "--basis-bits <bits>",
      "bits of a basis element, or auto",
      (text) => (text === "auto" ? text : number(text)),
      defaults.basisBits,
    )
    .option("--json", "print JSON")
    .action((file: string, flags: CompressFlags) => runCompress(io, file, flags));
}

function wantedSpan(text: string): WantedSpan {
  if (text === "none") return text;
  const [, radians] = /^(.*)rad$/.exec(text) ?? [];
  if (radians === undefined) return number(text);
  const fastest = number(radians);
  if (fastest < 0 || fastest > Math.PI) throw new InvalidArgumentError("Expected 0 to 3.14 radians a token.");
  return { fastest };
}

async function runCompress(io: Io, file: string, flags: CompressFlags): Promise<void> {
  const start = performance.now();
  const {
    output,
    tokens,
    extend: shorterPath,
    profile: profilePath,
    json,
    anchorSpan,
    bases: whose,
    targetKl,
    ratio,
    ...others
  } = flags;
  const options = asUsage(() =>
    checkOptions({ ...others, anchorSpan: typeof anchorSpan === "number" ? anchorSpan : null }),
  );
  if (whose === "profile" && profilePath === undefined) {
    throw new UsageError("--bases profile: expected --profile beside it, got none");
  }
  await checkOutput("--output", output, [
    file,
    ...(profilePath ? [profilePath] : []),
    ...(shorterPath ? [shorterPath] : []),
  ]);
  const runtime = await io.createRuntime();
  const shorter = shorterPath === undefined ? undefined : await readArchive(shorterPath);
  const profile = await profileAt(profilePath);
  const bases = whose === "profile" ? basesOf(profile, profilePath) : undefined;
  const goal = { ...(targetKl !== undefined && { targetKl }), ...(ratio !== undefined && { ratio }) };
  const { source, cache, chosen } = await withDump(file, tokens, async (dump) => {
    const from = profile ? withProfile(dump, profile) : dump;
    if (typeof anchorSpan === "object") options.anchorSpan = spansByFrequency(dump.rotary, anchorSpan);
    const described = describeSource(dump);
    if (shorter) return { source: described, cache: await extend(io, runtime, shorter, from, options) };
    if (bases) return { source: described, cache: await onBases(io, runtime, from, bases, options) };
    const phases = phasesOf(options, from) + ((targetKl ?? ratio) ? GOAL_PHASES : 0);
    const reached = await withProgress(io, phases * dump.geometry.layerCount, (bar) =>
      compressForGoal(runtime, from, options, goal, described.f16Bytes, {
        signal: io.signal,
        onProgress: ({ phase }) => bar.step(phase),
      }),
    );
    return { source: described, ...reached };
  });
  io.signal.throwIfAborted();
  await writeArchive(output, cache, { profile: bases });
  const totalBytes = await fileBytes(output);
  const seconds = (performance.now() - start) / 1000;
  const codes = describeCodes(bases ? withoutRows(cache, bases) : cache);
  const result = {
    ...{ input: file, output, ...source, ...codes, totalBytes, ratio: source.f16Bytes / totalBytes, seconds },
    ...(chosen && { chosen }),
  };
  print(io, json, result, () => {
    const { geometry } = source;
    const head = facts([
      ["from", `${file}: ${geometry.layerCount} layers of ${geometry.kvHeads} kv heads x ${geometry.headDim}`],
      ["tokens", `${thousands(source.tokens)}, ${describeExact(codes)}`],
      ["to", `${output}: ${thousands(totalBytes)} bytes in ${seconds.toFixed(2)} s`],
      ...(chosen ? [["chosen", describeChoice(chosen, options)] as [string, string]] : []),
      ["ratio", `${result.ratio.toFixed(2)} times smaller than f16 (${thousands(source.f16Bytes)} bytes)`],
    ]);
    return `${head}\n${formatCodes(codes)}`;
  });
}

/** Codes on the bases of a profile. */
function onBases(io: Io, runtime: Runtime, source: CacheSource, bases: CodedCache, options: CodecOptions) {
  const { keyBits, valueBits, entropy, sinks, recent, metric } = options;
  return withProgress(io, BASES_PHASES * source.geometry.layerCount, (bar) =>
    compressOnBases(
      runtime,
      source,
      bases,
      { keyBits, valueBits, entropy, sinks, recent, metric },
      {
        signal: io.signal,
        onProgress: ({ phase }) => bar.step(phase),
      },
    ),
  );
}

/** `shorter` with the source's further tokens. */
function extend(io: Io, runtime: Runtime, shorter: CodedCache, source: CacheSource, options: CodecOptions) {
  const { keyBits, valueBits, recent, basisBits, metric, attentionWeights } = options;
  const own = { keyBits, valueBits, recent, basisBits, metric, attentionWeights };
  const phases = phasesOf({ metric, schedule: null, entropy: shorter.layers.some(hasStreams) }, source);
  return withProgress(io, phases * source.geometry.layerCount, (bar) =>
    extendCache(runtime, shorter, source, own, {
      signal: io.signal,
      onProgress: ({ phase }) => bar.step(phase),
    }),
  );
}
