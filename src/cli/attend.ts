/** `svdq attend`: attention in place on an archive, by the queries of a dump's continuation. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { type CacheOptions, checkCacheOptions, DEFAULT_CACHE_OPTIONS, SELECTIONS } from "../cache/options.ts";
import { isInPlace } from "../cache/score.ts";
import { anchorsOf } from "../codec/anchors.ts";
import { type Replay, replay } from "../evaluation/replay.ts";
import { basesOfArchiveOption } from "./codec-flags.ts";
import { asUsage, UsageError } from "./failure.ts";
import { archiveAt, withDump } from "./files.ts";
import { type Io, print } from "./io.ts";
import { number } from "./numbers.ts";
import { withProgress } from "./progress.ts";
import { columns, facts, percent, thousands } from "./text.ts";

interface AttendFlags extends Partial<Pick<CacheOptions, "selection">> {
  queries: string;
  budget?: number[];
  scoreStep: number;
  mixTolerance: number;
  profile?: string;
  json?: boolean;
}

export function addAttend(program: Command, io: Io): void {
  const { scoreStep, mixTolerance } = DEFAULT_CACHE_OPTIONS;
  program
    .command("attend")
    .summary("attention in place on an archive, against f32 kernels")
    .description(
      "Opens an archive as a live cache, nothing decompressed, and replays the tokens of a dump that follow: each is\n" +
        "appended and its queries attend. Error, attention KL, time and bytes read are against exact f32 attention on\n" +
        "the dump's own keys and values. KL under a budget is taken among the tokens attended to.",
    )
    .argument("<archive>", "archive of the dump's first tokens, as compress writes it")
    .requiredOption("--queries <dump>", "safetensors dump with a continuation and its queries")
    .option(
      "--budget <tokens>",
      "coded tokens to attend to, or a part of them, as 1/32 or 0.03 (default: all); a row each of several, as 1/4,1/32",
      (text) => text.split(",").map(budget),
    )
    .addOption(
      new Option(
        "--selection <way>",
        "what a budget chooses, and by what (default: tokens; always landmarks where spans are below 32)",
      ).choices(SELECTIONS),
    )
    .option("--score-step <logits>", "steps of score tables; smaller is more exact and slower", number, scoreStep)
    .option("--mix-tolerance <part>", "part of the weight whose values may be left out", number, mixTolerance)
    .addOption(basesOfArchiveOption())
    .option("--json", "print JSON")
    .action((archive: string, flags: AttendFlags) => runAttend(io, archive, flags));
}

/** Tokens, or a fraction below 1. */
function budget(text: string): number {
  const [, over, under] = /^(\d+)\/(\d+)$/.exec(text.trim()) ?? [];
  const value = under === undefined ? number(text) : Number(over) / Number(under);
  const isCount = under === undefined && Number.isInteger(value);
  if (!(value > 0 && value <= 2 ** 31 && (value < 1 || isCount))) {
    throw new InvalidArgumentError("Expected a fraction below 1, as 1/32 or 0.03, or a number of tokens.");
  }
  return value;
}

async function runAttend(io: Io, archive: string, { queries, profile, json, ...flags }: AttendFlags): Promise<void> {
  if (flags.selection !== undefined && flags.budget === undefined) {
    throw new UsageError("--selection: expected --budget with it, got none");
  }
  const budgets = flags.budget ?? [null];
  const checked = asUsage(() => budgets.map((budget) => checkCacheOptions({ ...flags, budget })));
  const coded = await archiveAt(archive, profile);
  const settings = { grouping: coded.layers[0].keys.length > 1 ? "head" : "layer", anchorSpan: coded.anchorSpan };
  const isPlanar = isInPlace(anchorsOf(coded.anchorSpan, coded.rotary, coded.geometry.headDim));
  const runtime = await io.createRuntime();
  const results = await withDump(queries, undefined, (context) =>
    withDump(queries, context.heldTokens, (all) =>
      withProgress(io, coded.geometry.layerCount * budgets.length, async (bar) => {
        const found: Result[] = [];
        for (const { budget, selection: wanted, scoreStep, mixTolerance } of checked) {
          const selection = isPlanar ? wanted : "landmarks";
          const options = { budget, selection, scoreStep, mixTolerance };
          const work = { signal: io.signal, onProgress: () => bar.step("attend") };
          found.push({ ...settings, ...options, ...(await replay(runtime, coded, all, options, work)) });
        }
        return found;
      }),
    ),
  );
  const rows = results.map((result) => ({ input: archive, queries, ...result }));
  if (rows.length > 1) print(io, json, rows, () => budgetTable(results));
  else print(io, json, rows[0], () => describe(results[0], results[0]));
}

type Result = Replay & Pick<CacheOptions, "budget" | "selection" | "scoreStep" | "mixTolerance">;

/** A budget each: how much of what exact attention looks at is kept, and what that costs. */
function budgetTable(results: Result[]): string {
  const titles = ["budget", "by", "weight %", "top 64 %", "KL among them", "output error", "ms a token", "bytes read"];
  const lines = results.map((result) => [
    budgetText(result.budget),
    result.selection,
    (100 * result.attendedWeight).toFixed(1),
    (100 * result.recall).toFixed(1),
    result.attentionKl.toFixed(4),
    result.outputError.toFixed(4),
    (1000 * result.secondsPerToken).toFixed(2),
    thousands(result.bytesRead),
  ]);
  return columns(titles, lines);
}

const budgetText = (budget: number | null): string =>
  budget === null ? "all" : budget < 1 ? percent(budget) : thousands(budget);

function speed({ secondsPerToken, secondsPerTokenF32 }: Replay): string {
  const ratio = secondsPerTokenF32 / secondsPerToken;
  return ratio >= 1 ? `${ratio.toPrecision(3)} times as fast` : `${(1 / ratio).toPrecision(3)} times slower than they`;
}

const CHOSEN_AS: Record<CacheOptions["selection"], string> = {
  tokens: "each kv head its own",
  blocks: "in whole blocks",
  landmarks: "in whole blocks by landmarks",
};

function describe(replay: Replay, { budget, selection }: Pick<CacheOptions, "budget" | "selection">): string {
  const { tokens, firstLength, layers, keyTraffic } = replay;
  const times = (ratio: number): string => ratio.toPrecision(3);
  const milliseconds = (seconds: number): string => `${(1000 * seconds).toFixed(2)} ms`;
  const rows: [string, string][] = [
    ["tokens", `${tokens} from a length of ${thousands(firstLength)} on, ${layers} layers`],
    ["output error", replay.outputError.toPrecision(3)],
    ["attention KL", `${replay.attentionKl.toPrecision(3)} nats${budget === null ? "" : ", among tokens attended to"}`],
  ];
  if (budget !== null) {
    const chosen = `${budgetText(budget)} ${budget < 1 ? "of " : ""}coded tokens`;
    rows.push([
      "selection",
      `${chosen}, ${CHOSEN_AS[selection]}: ${percent(replay.attendedWeight)} of the weight, ${percent(replay.recall)} of the top 64 tokens`,
    ]);
  }
  rows.push(
    [
      "time a token",
      `${milliseconds(replay.secondsPerToken)}, f32 kernels ${milliseconds(replay.secondsPerTokenF32)}: ${speed(replay)}; append ${milliseconds(replay.secondsPerAppend)}`,
    ],
    [
      "bytes read",
      `${thousands(replay.bytesRead)} a token, f16 ${thousands(replay.bytesReadF16)}: ${times(replay.bytesReadF16 / replay.bytesRead)} times fewer`,
    ],
    [
      "key traffic",
      `f16 keys over codes scored ${keyTraffic.scored === null ? "(none)" : times(keyTraffic.scored)}, with what is scanned ${times(keyTraffic.scoredAndScanned)}, with exact tokens ${times(keyTraffic.all)}`,
    ],
    [
      "cache",
      `${thousands(replay.cacheBytes)} bytes, f16 ${thousands(replay.cacheBytesF16)}: ${times(replay.storageRatio)} times smaller`,
    ],
  );
  return facts(rows);
}
