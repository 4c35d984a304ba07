/** `svdq texts`: texts that need their context, as files for tools that measure a model elsewhere. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Command } from "commander";
import { writeFileAtomically } from "../archive/atomic-file.ts";
import { contextTexts } from "../evaluation/texts/contexts.ts";
import { asUsage, UsageError } from "./failure.ts";
import { type Io, print } from "./io.ts";
import { positiveInteger } from "./numbers.ts";

interface TextsFlags {
  output: string;
  seed: number;
  count: number;
  length: number;
  json?: boolean;
}

export function addTexts(program: Command, io: Io): void {
  program
    .command("texts")
    .summary("texts that need their context, as files")
    .description(
      "Writes made texts that no model can go on with but by their far context: code, records, facts, and needles that\n" +
        "are asked for. What errors of a cache cost a model shows on these (tools/fisher-transformers.py).",
    )
    .requiredOption("-o, --output <folder>", "folder to write them to")
    .option("--seed <number>", "of the first texts", positiveInteger, 2)
    .option("--count <count>", "texts of each kind, of one seed after the other", positiveInteger, 3)
    .option(
      "--length <characters>",
      "of the context, about three or four times as many as tokens",
      positiveInteger,
      3000,
    )
    .option("--json", "print JSON")
    .action((flags: TextsFlags) => runTexts(io, flags));
}

async function runTexts(io: Io, { output, seed, count, length, json }: TextsFlags): Promise<void> {
  const texts = Array.from({ length: count }, (_, i) => asUsage(() => contextTexts(seed + i, length))).flat();
  const made = mkdir(output, { recursive: true });
  await made.catch((cause) => {
    throw new UsageError(`--output: expected a folder, got ${output}, which cannot be one (${cause.code})`, { cause });
  });
  const files: string[] = [];
  for (const { name, text } of texts) {
    const path = join(output, `${name}.txt`);
    const bytes = new TextEncoder().encode(text);
    await writeFileAtomically(path, (write) => write(bytes), { signal: io.signal });
    files.push(path);
  }
  print(io, json, { files }, () => `${files.join("\n")}\n`);
}
