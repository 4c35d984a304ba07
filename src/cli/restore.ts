/** `svdq restore`: an archive to a dump. */
import { type Command, Option } from "commander";
import type { CacheSource } from "../codec/source.ts";
import { type TensorToWrite, writeSafetensors } from "../engines/safetensors.ts";
import { basesOfArchiveOption } from "./codec-flags.ts";
import { aboutFile, InputError } from "./failure.ts";
import { archiveAt, checkOutput, fileBytes } from "./files.ts";
import { type Io, print } from "./io.ts";
import { withProgress } from "./progress.ts";
import { restoredSource } from "./restored.ts";
import { describeSource } from "./summary.ts";
import { facts, thousands } from "./text.ts";

const DTYPES = { f16: "F16", f32: "F32" } as const;

interface RestoreFlags {
  output: string;
  type: keyof typeof DTYPES;
  profile?: string;
  json?: boolean;
}

export function addRestore(program: Command, io: Io): void {
  program
    .command("restore")
    .summary("an archive to a safetensors dump")
    .description("Opens an archive again: writes a safetensors dump that inspect and compress read.")
    .argument("<archive>", "archive, as compress writes it")
    .requiredOption("-o, --output <file>", "safetensors dump to write")
    .addOption(new Option("--type <type>", "type of the elements").choices(Object.keys(DTYPES)).default("f16"))
    .addOption(basesOfArchiveOption())
    .option("--json", "print JSON")
    .action((file: string, flags: RestoreFlags) => runRestore(io, file, flags));
}

async function runRestore(io: Io, file: string, { output, type, profile, json }: RestoreFlags): Promise<void> {
  const start = performance.now();
  await checkOutput("--output", output, [file, ...(profile ? [profile] : [])]);
  const cache = await archiveAt(file, profile);
  if (cache.tokenCount === 0)
    throw new InputError(`${file}: expected an archive of tokens, got a profile, which has none`);
  const runtime = await io.createRuntime();
  const source = restoredSource(runtime, cache, type);
  await withProgress(io, 2 * cache.geometry.layerCount, (bar) =>
    aboutFile(file, () =>
      writeSafetensors(output, metadataOf(source), tensorsOf(source, type, bar.step), { signal: io.signal }),
    ),
  );
  const totalBytes = await fileBytes(output);
  const seconds = (performance.now() - start) / 1000;
  const summary = describeSource(source);
  print(io, json, { input: file, output, type, ...summary, totalBytes, seconds }, () => {
    const { layerCount, kvHeads, headDim } = summary.geometry;
    return facts([
      ["from", file],
      ["to", `${output}: ${thousands(totalBytes)} bytes, ${type}, in ${seconds.toFixed(2)} s`],
      ["cache", `${layerCount} layers of ${kvHeads} kv heads x ${headDim}, ${thousands(summary.tokens)} tokens`],
    ]);
  });
}

/** What openDump reads. The archive does not say how many layers the model has, nor its theta. */
function metadataOf({ geometry, rotary, layerNumbers, model, tokenCount }: CacheSource): Record<string, string> {
  return {
    ...(model && { model }),
    stored_layers: layerNumbers.join(","),
    kv_heads: String(geometry.kvHeads),
    head_dim: String(geometry.headDim),
    context_tokens: String(tokenCount),
    rope_frequencies: JSON.stringify([...rotary.frequencies]),
    rope_layout: rotary.layout,
    rope_applied: "true",
  };
}

/** Token ids where known, then key and value of each layer, restored when it is their turn. */
function tensorsOf(source: CacheSource, type: keyof typeof DTYPES, step: (text: string) => void): TensorToWrite[] {
  const { geometry, layerNumbers, tokenCount, tokens } = source;
  const shape = [geometry.kvHeads, tokenCount, geometry.headDim];
  const tensors = layerNumbers.flatMap((n, layer) =>
    (["key", "value"] as const).map((part): TensorToWrite => {
      const read = async (): Promise<Uint8Array> => {
        const { bytes } = await source[part](layer);
        step("restore");
        return bytes;
      };
      return { name: `layers.${n}.${part}`, dtype: DTYPES[type], shape, read };
    }),
  );
  if (!tokens) return tensors;
  return [{ name: "tokens", dtype: "I32", shape: [tokenCount], read: async () => littleEndian(tokens) }, ...tensors];
}

function littleEndian(values: Int32Array): Uint8Array {
  const bytes = new Uint8Array(4 * values.length);
  const view = new DataView(bytes.buffer);
  for (const [i, value] of values.entries()) view.setInt32(4 * i, value, true);
  return bytes;
}
