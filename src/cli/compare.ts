/** `svdq compare`: the codec and its peers side by side on real caches. */
import type { Command } from "commander";
import { writeFileAtomically } from "../archive/atomic-file.ts";
import { compareMethods, METHODS, type Method } from "../evaluation/compare.ts";
import { type ComparisonRow, formatTable, renderSvg } from "../evaluation/report.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { checkOutput, withDump } from "./files.ts";
import { type Io, print } from "./io.ts";
import { chooseByName, nameList } from "./methods.ts";
import { withProgress } from "./progress.ts";

interface CompareFlags {
  methods?: string[];
  svg?: string;
  json?: boolean;
}

export function addCompare(program: Command, io: Io): void {
  program
    .command("compare")
    .summary("error, size and time of the codec and its peers")
    .description(
      "Compresses the context of each dump by every method and lets the queries of its continuation attend on the\n" +
        "result. Prints a row a method, the mean over the files: bits of a coded element without and with the basis,\n" +
        "attention KL in nats, error of the outputs, bytes, seconds to encode and decode.",
    )
    .argument("<files...>", "safetensors dumps with a continuation and its queries")
    .option("--methods <names>", "only methods whose name contains one of these, as turboquant,kivi", nameList)
    .option("--svg <file>", "also plot error against bits")
    .option("--json", "print JSON")
    .action((files: string[], flags: CompareFlags) => runCompare(io, files, flags));
}

async function runCompare(io: Io, files: string[], { methods, svg, json }: CompareFlags): Promise<void> {
  const chosen = chooseMethods(methods);
  if (svg !== undefined) await checkOutput("--svg", svg, files);
  const runtime = await io.createRuntime();
  const ofFiles: ComparisonRow[][] = [];
  for (const file of files) ofFiles.push(await compareFile(io, runtime, file, chosen));
  const rows = meanRows(ofFiles);
  if (svg !== undefined) {
    const bytes = new TextEncoder().encode(await renderSvg(rows));
    await writeFileAtomically(svg, (write) => write(bytes), { signal: io.signal });
  }
  print(io, json, rows, () => formatTable(rows));
}

export const chooseMethods = (names: string[] | undefined): Method[] => chooseByName(METHODS, names);

async function compareFile(io: Io, runtime: Runtime, file: string, methods: Method[]): Promise<ComparisonRow[]> {
  return withDump(file, undefined, (context) =>
    withDump(file, context.heldTokens, (all) =>
      withProgress(io, methods.length + context.geometry.layerCount, (bar) =>
        compareMethods(runtime, context, all, methods, {
          signal: io.signal,
          onMethod: (_done, _of, name) => bar.step(name),
          onProgress: () => bar.step("attention"),
        }),
      ),
    ),
  );
}

/** Each number the mean over the files; rows of all files are those of the same methods. */
function meanRows(ofFiles: ComparisonRow[][]): ComparisonRow[] {
  return ofFiles[0].map((first, i) => {
    const mean = (pick: (row: ComparisonRow) => number): number =>
      ofFiles.reduce((sum, rows) => sum + pick(rows[i]), 0) / ofFiles.length;
    return {
      ...first,
      bits: mean((row) => row.bits),
      bitsWithBasis: mean((row) => row.bitsWithBasis),
      attentionKl: mean((row) => row.attentionKl),
      outputError: mean((row) => row.outputError),
      bytes: mean((row) => row.bytes),
      seconds: mean((row) => row.seconds),
    };
  });
}
