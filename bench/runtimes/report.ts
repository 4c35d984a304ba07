/** What the results of the runtimes say: where bits differ, and the table. */

/** What a runtime gave: the programme's result, or why there is none. */
export interface Outcome {
  version?: string;
  /** Milliseconds to load the package and instantiate the kernels, where a clock sees that. */
  loaded?: number;
  /** SHA-256 of each step's bytes. */
  digests?: Record<string, string>;
  /** Of the steps, and of the peers, whose bits hang on the host. */
  milliseconds?: Record<string, number>;
  /** Peers that were not run, and why. */
  notRun?: Record<string, string>;
  missing?: string;
  failed?: string;
}
export type Result = { name: string } & Outcome;
/** Of a runtime that is here. */
export type Ran = Result & Required<Pick<Outcome, "digests" | "milliseconds">>;

export interface Machine {
  cpu: string;
  date: string;
  wasm: { bytes: number; sha256: string };
}

export const thatRan = (results: Result[]): Ran[] =>
  results.filter((result): result is Ran => result.digests !== undefined);

/** One outcome of several processes of a runtime: its best times, and a failure where there was one or bits differ. */
export function bestOf(outcomes: Outcome[]): Outcome {
  const [first, ...others] = outcomes;
  const none = outcomes.find(({ missing, failed }) => missing ?? failed);
  if (none) return none;
  const best = { ...first, milliseconds: { ...first.milliseconds } };
  for (const { digests = {}, milliseconds = {}, loaded } of others) {
    const other = Object.keys(digests).find((step) => digests[step] !== first.digests?.[step]);
    if (other) return { failed: `${other}: gave ${first.digests?.[other]}, then ${digests[other]}` };
    for (const [step, time] of Object.entries(milliseconds)) {
      best.milliseconds[step] = Math.min(best.milliseconds[step] ?? time, time);
    }
    if (loaded !== undefined) best.loaded = Math.min(best.loaded ?? loaded, loaded);
  }
  return best;
}

/** A line for each digest that is not the first runtime's, and for each runtime that failed. */
export function differences(results: Result[]): string[] {
  const [first, ...others] = thatRan(results);
  const failed = results.filter((result) => result.failed).map((result) => `${result.name}: ${result.failed}`);
  if (!first) return failed;
  const steps = Object.keys(first.digests);
  const wrong = others.flatMap(({ name, digests }) =>
    steps
      .filter((step) => digests[step] !== first.digests[step])
      .map((step) => `${step}: ${name} gave ${digests[step]}, ${first.name} ${first.digests[step]}`),
  );
  return [...failed, ...wrong];
}

/** The results as a page. Times are ratios to the first runtime's. */
export function markdown({ cpu, date, wasm }: Machine, results: Result[]): string {
  const ran = thatRan(results);
  const absent = results.filter((result) => !result.digests);
  const [first] = ran;
  const steps = [...new Set(ran.flatMap(({ milliseconds }) => Object.keys(milliseconds)))];
  const peers = steps.filter((step) => !first.digests[step]);
  const row = (cells: string[]) => `| ${cells.join(" | ")} |`;
  return `# The same work in every runtime

\`npm run bench:runtimes -- --write\` on ${date}, ${cpu}. The built package and one wasm file of ${wasm.bytes} bytes, SHA-256 ${wasm.sha256}, on \`test/fixtures/smollm2-novel.safetensors\` (SmolLM2-135M, two layers): \`programme.mjs\`.

${verdict(ran, differences(results))}

Best of some repetitions in each of three processes, of loading best of the three; milliseconds in ${first?.name ?? "no runtime"}, then times that. workerd's clock moves in whole milliseconds, and loading is over before it can be read.

${row(["step", `${first?.name ?? ""}, ms`, ...ran.slice(1).map(({ name }) => name)])}
${row(["---", ...ran.map(() => "---:")])}
${steps.map((step) => row([step, first.milliseconds[step]?.toFixed(1) ?? "not run", ...ratios(ran, (r) => r.milliseconds[step], "not run")])).join("\n")}
${first ? row(["load and instantiate", first.loaded?.toFixed(1) ?? "", ...ratios(ran, (r) => r.loaded)]) : ""}

![times as ratios](ratios.svg)

Peers attend on restored f32 rows of the same tokens, one query at a time, one thread. Their time over that of \`attend\` on codes, both in the same runtime:

${row(["peer", ...ran.map(({ name }) => name)])}
${row(["---", ...ran.map(() => "---:")])}
${peers.map((peer) => row([peer.replace(/ attend$/, ""), ...ran.map((result) => overAttend(result, peer))])).join("\n")}

${ran.flatMap(({ name, notRun = {} }) => Object.entries(notRun).map(([peer, why]) => `- ${peer} was not run in ${name}: ${why}`)).join("\n")}

| runtime | version | load and instantiate, ms |
| --- | --- | ---: |
${ran.map(({ name, version, loaded }) => row([name, version ?? "", loaded?.toFixed(1) ?? "not seen"])).join("\n")}
${absent.map(({ name, missing, failed }) => row([name, missing ?? `failed: ${failed}`, ""])).join("\n")}
`
    .replace(/\n{3,}/g, "\n\n")
    .replace(/\n+$/, "\n");
}

function verdict(ran: Ran[], wrong: string[]): string {
  if (wrong.length > 0) return `**Not the same everywhere:**\n\n${wrong.map((line) => `- ${line}`).join("\n")}`;
  return `All steps gave the same bytes in ${ran.length} runtimes: ${ran.map(({ name }) => name).join(", ")}.`;
}

const overAttend = ({ milliseconds }: Ran, peer: string): string =>
  milliseconds[peer] === undefined ? "not run" : (milliseconds[peer] / milliseconds.attend).toFixed(2);

const ratios = (ran: Ran[], timeOf: (result: Ran) => number | undefined, absent = ""): string[] =>
  ran.slice(1).map((result) => {
    const [own, first] = [timeOf(result), timeOf(ran[0])];
    return own === undefined || first === undefined ? absent : (own / first).toFixed(2);
  });
