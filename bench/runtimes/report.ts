/** What the results of the runtimes say: where bits differ, and the table. */

/** What a runtime gave: the programme's result, or why there is none. */
export interface Outcome {
  version?: string;
  /** Milliseconds to load the package and instantiate the kernels, where a clock sees that. */
  loaded?: number;
  /** SHA-256 of each step's bytes; undefined for the peer, whose bits hang on the host. */
  digests?: Record<string, string | undefined>;
  milliseconds?: Record<string, number>;
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

/** A line for each digest that is not the first runtime's, and for each runtime that failed. */
export function differences(results: Result[]): string[] {
  const [first, ...others] = thatRan(results);
  const failed = results.filter((result) => result.failed).map((result) => `${result.name}: ${result.failed}`);
  if (!first) return failed;
  const steps = Object.keys(first.digests).filter((step) => first.digests[step] !== undefined);
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
  const steps = Object.keys(first?.milliseconds ?? {});
  const row = (cells: string[]) => `| ${cells.join(" | ")} |`;
  return `# The same work in every runtime

\`npm run bench:runtimes -- --write\` on ${date}, ${cpu}. The built package and one wasm file of ${wasm.bytes} bytes, SHA-256 ${wasm.sha256}, on \`test/fixtures/smollm2-novel.safetensors\` (SmolLM2-135M, two layers): \`programme.mjs\`.

${verdict(ran, differences(results))}

Best of some repetitions, milliseconds in ${first?.name ?? "no runtime"}, then times that. workerd's clock moves in whole milliseconds, and loading is over before it can be read.

${row(["step", `${first?.name ?? ""}, ms`, ...ran.slice(1).map(({ name }) => name)])}
${row(["---", ...ran.map(() => "---:")])}
${steps.map((step) => row([step, first.milliseconds[step].toFixed(1), ...ratios(ran, (r) => r.milliseconds[step])])).join("\n")}
${first ? row(["load and instantiate", first.loaded?.toFixed(1) ?? "", ...ratios(ran, (r) => r.loaded)]) : ""}

![times as ratios](ratios.svg)

| runtime | version | load and instantiate, ms |
| --- | --- | ---: |
${ran.map(({ name, version, loaded }) => row([name, version ?? "", loaded?.toFixed(1) ?? "not seen"])).join("\n")}
${absent.map(({ name, missing, failed }) => row([name, missing ?? `failed: ${failed}`, ""])).join("\n")}
`.replace(/\n+$/, "\n");
}

function verdict(ran: Ran[], wrong: string[]): string {
  if (wrong.length > 0) return `**Not the same everywhere:**\n\n${wrong.map((line) => `- ${line}`).join("\n")}`;
  return `All steps but the plain JavaScript peer gave the same bytes in ${ran.length} runtimes: ${ran.map(({ name }) => name).join(", ")}.`;
}

const ratios = (ran: Ran[], timeOf: (result: Ran) => number | undefined): string[] =>
  ran.slice(1).map((result) => {
    const [own, first] = [timeOf(result), timeOf(ran[0])];
    return own === undefined || first === undefined ? "" : (own / first).toFixed(2);
  });
