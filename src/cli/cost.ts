/** `svdq cost`: bytes, traffic, seconds and money of caches that are kept, before there is one. */
import type { Command } from "commander";
import { checkOptions, DEFAULT_OPTIONS } from "../codec/options.ts";
import {
  archiveBytes,
  type CacheBytes,
  type CostOptions,
  f16Bytes,
  q8Bytes,
  trafficBytes,
} from "../evaluation/cost.ts";
import { groupingOption } from "./codec-flags.ts";
import { asUsage, UsageError } from "./failure.ts";
import { type Io, print } from "./io.ts";
import { knownNames, modelShape } from "./models.ts";
import { notNegative, number, positiveInteger, positiveNumber } from "./numbers.ts";
import { columns, facts, thousands } from "./text.ts";

const GB = 1e9;

interface CostFlags extends CostOptions {
  model: string;
  tokens: number;
  sessions: number;
  months: number;
  loads: number;
  pricePerGbMonth?: number;
  pricePerGbEgress?: number;
  prefillTokensPerSecond?: number;
  bandwidth?: number;
  json?: boolean;
}

export function addCost(program: Command, io: Io): void {
  const { keyBits, valueBits, sinks, recent } = DEFAULT_OPTIONS;
  program
    .command("cost")
    .summary("bytes, traffic, seconds and money of kept caches")
    .description(
      "Says what caches of a model take as f16, as q8_0 and compressed: at rest, and read for each decoded token.\n" +
        "Where you give rates and prices, also seconds to compute a cache again against seconds to load it, and money.\n" +
        "What ours takes at rest is an estimate from the settings; compress says what a cache really takes.\n" +
        `Models by name: ${knownNames()}.`,
    )
    .requiredOption("--model <model>", "a GGUF file, a config.json, or a name")
    .requiredOption("--tokens <count>", "tokens of a session's cache", positiveInteger)
    .option("--sessions <count>", "sessions whose caches are kept", positiveInteger, 1)
    .option("--months <count>", "how long they are kept", positiveNumber, 1)
    .option("--loads <count>", "how often each is loaded", notNegative, 1)
    .option("--price-per-gb-month <money>", "price of keeping 1e9 bytes for a month", notNegative)
    .option("--price-per-gb-egress <money>", "price of loading 1e9 bytes", notNegative)
    .option("--prefill-tokens-per-second <rate>", "tokens that the model reads a second", positiveNumber)
    .option("--bandwidth <rate>", "megabytes (1e6) a second that a cache is loaded with", positiveNumber)
    .option("--key-bits <bits>", "mean bits of a key element", number, keyBits)
    .option("--value-bits <bits>", "mean bits of a value element", number, valueBits)
    .addOption(groupingOption())
    .option("--sinks <tokens>", "tokens at the start that stay exact", number, sinks)
    .option("--recent <tokens>", "tokens at the end that stay exact", number, recent)
    .option("--json", "print JSON")
    .action((flags: CostFlags) => runCost(io, flags));
}

interface Cost {
  format: string;
  /** At rest, of one session. */
  keyBytes: number;
  valueBytes: number;
  /** Read for each decoded token, at this length. */
  keyTraffic: number;
  valueTraffic: number;
  /** At rest, of all sessions. */
  totalBytes: number;
  /** f16 over this. */
  ratio: number;
  loadSeconds: number | null;
  storageMoney: number | null;
  egressMoney: number | null;
}

async function runCost(io: Io, flags: CostFlags): Promise<void> {
  const { keyBits, valueBits, grouping, sinks, recent, tokens, sessions } = flags;
  const options = asUsage(() => checkOptions({ keyBits, valueBits, grouping, sinks, recent }));
  if (tokens <= sinks + recent) {
    throw new UsageError(`--tokens: expected more than the ${sinks + recent} that stay exact, got ${tokens}`);
  }
  const { model, geometry } = await modelShape(flags.model);
  const [f16, q8] = [f16Bytes(geometry, tokens), q8Bytes(geometry, tokens)];
  const row = (format: string, rest: CacheBytes, traffic: CacheBytes): Cost =>
    costOf(format, rest, traffic, f16, flags);
  const costs = [
    row("f16", f16, f16),
    row("q8_0", q8, q8),
    row(
      `svdq K ${keyBits} V ${valueBits}`,
      archiveBytes(geometry, tokens, options),
      trafficBytes(geometry, tokens, options),
    ),
  ];
  const rate = flags.prefillTokensPerSecond;
  const prefillSeconds = rate === undefined ? null : tokens / rate;
  print(io, flags.json, { model, geometry, tokens, sessions, prefillSeconds, costs }, () => {
    const { layerCount, kvHeads, headDim } = geometry;
    const head = facts([
      ["model", `${model}: ${layerCount} layers of ${kvHeads} kv heads x ${headDim}`],
      ["caches", `${thousands(sessions)} of ${thousands(tokens)} tokens`],
      ...(prefillSeconds === null ? [] : [["computed again", `${seconds(prefillSeconds)} each`] as [string, string]]),
    ]);
    return `${head}\n${tableOf(costs)}`;
  });
}

function costOf(format: string, rest: CacheBytes, traffic: CacheBytes, f16: CacheBytes, flags: CostFlags): Cost {
  const { sessions, months, loads, bandwidth, pricePerGbMonth, pricePerGbEgress } = flags;
  const bytes = rest.keys + rest.values;
  const totalBytes = sessions * bytes;
  const given = (price: number | undefined, of: (price: number) => number) => (price === undefined ? null : of(price));
  return {
    format,
    keyBytes: Math.round(rest.keys),
    valueBytes: Math.round(rest.values),
    keyTraffic: Math.round(traffic.keys),
    valueTraffic: Math.round(traffic.values),
    totalBytes: Math.round(totalBytes),
    ratio: (f16.keys + f16.values) / bytes,
    loadSeconds: given(bandwidth, (rate) => bytes / (rate * 1e6)),
    storageMoney: given(pricePerGbMonth, (price) => (totalBytes / GB) * months * price),
    egressMoney: given(pricePerGbEgress, (price) => (totalBytes / GB) * loads * price),
  };
}

const seconds = (value: number): string => `${value.toPrecision(3)} s`;

/** Columns of what was asked for. */
function tableOf(costs: Cost[]): string {
  const all: [string, (cost: Cost) => string | null][] = [
    ["format", ({ format }) => format],
    ["keys at rest", ({ keyBytes }) => thousands(keyBytes)],
    ["values at rest", ({ valueBytes }) => thousands(valueBytes)],
    ["keys read a token", ({ keyTraffic }) => thousands(keyTraffic)],
    ["values read a token", ({ valueTraffic }) => thousands(valueTraffic)],
    ["all at rest, GB", ({ totalBytes }) => (totalBytes / GB).toPrecision(4)],
    ["smaller", ({ ratio }) => ratio.toFixed(2)],
    ["load", ({ loadSeconds }) => (loadSeconds === null ? null : seconds(loadSeconds))],
    ["storage", ({ storageMoney }) => storageMoney?.toFixed(2) ?? null],
    ["egress", ({ egressMoney }) => egressMoney?.toFixed(2) ?? null],
  ];
  const shown = all.filter(([, of]) => of(costs[0]) !== null);
  return columns(
    shown.map(([title]) => title),
    costs.map((cost) => shown.map(([, of]) => of(cost) as string)),
  );
}
