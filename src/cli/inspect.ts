/** `svdq inspect`: what a dump or an archive holds, and how well it can be compressed. */
import type { Command } from "commander";
import { ARCHIVE_VERSIONS, PREAMBLE } from "../archive/format.ts";
import { withoutRows } from "../archive/profile-rows.ts";
import { readArchive } from "../archive/reader.ts";
import type { CodedCache } from "../codec/coded.ts";
import { compress, eachLayer, rangeOf } from "../codec/compress.ts";
import { rowDim } from "../codec/geometry.ts";
import type { CacheSource } from "../codec/source.ts";
import { loadTensor } from "../codec/tensors.ts";
import { isProfile } from "../engines/profile.ts";
import { energyOf } from "../evaluation/spectrum.ts";
import { type LayerSpectrum, measureKeys } from "../evaluation/theorem.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { basesOfArchiveOption } from "./codec-flags.ts";
import { aboutFile } from "./failure.ts";
import { basesAt, fileBytes, firstBytes, isArchive, withDump } from "./files.ts";
import { formatInspection, type Inspection } from "./inspection.ts";
import { type Io, print } from "./io.ts";
import { formatModelProfile, inspectModelProfile } from "./model-profile.ts";
import { withProgress } from "./progress.ts";
import { restoredSource } from "./restored.ts";
import { allocations, describeCodes, describeSource } from "./summary.ts";

export function addInspect(program: Command, io: Io): void {
  program
    .command("inspect")
    .summary("what a dump, an archive or a profile holds")
    .description(
      "Shows geometry, rotary embedding, the energy of keys before RoPE that the leading latent channels capture,\n" +
        "the bits of the channels and bytes by kind. Of a dump: as compress would make them by default, and the\n" +
        "SVDq paper's theorem in numbers. Of an archive: as they are, energy of the keys as restored; of a profile,\n" +
        "which has no tokens: channels and bytes, or of a model's profile what errors of each kv head cost.",
    )
    .argument("<file>", "safetensors dump, archive, or profile")
    .addOption(basesOfArchiveOption())
    .option("--json", "print JSON")
    .action((file: string, flags: InspectFlags) => runInspect(io, file, flags));
}

interface InspectFlags {
  profile?: string;
  json?: boolean;
}

async function runInspect(io: Io, file: string, { profile, json }: InspectFlags): Promise<void> {
  if (!(await isArchive(file)) && (await aboutFile(file, () => isProfile(file)))) {
    const found = await aboutFile(file, () => inspectModelProfile(file));
    return print(io, json, found, () => formatModelProfile(found));
  }
  const runtime = await io.createRuntime();
  const inspection = (await isArchive(file))
    ? await inspectArchive(io, runtime, file, profile)
    : await inspectDump(io, runtime, file);
  print(io, json, inspection, () => formatInspection(inspection));
}

async function inspectArchive(
  io: Io,
  runtime: Runtime,
  file: string,
  profile: string | undefined,
): Promise<Inspection> {
  const bases = await basesAt(profile);
  const cache = await readArchive(file, { profile: bases });
  const rowsElsewhere = bases && (await versionAt(file)) === ARCHIVE_VERSIONS.profile;
  /** What the file has of the cache. */
  const held = rowsElsewhere ? withoutRows(cache, bases) : cache;
  const source = restoredSource(runtime, cache, "f32");
  if (cache.tokenCount === 0) {
    const layers = allocations(cache).map((segments, i) => ({ layer: cache.layerNumbers[i], segments }));
    return { path: file, kind: "profile", ...(await describe(file, source, held)), layers };
  }
  const spectra = await aboutFile(file, () =>
    withProgress(io, cache.geometry.layerCount, (bar) => spectraOf(io, runtime, source, cache, bar.step)),
  );
  const layers = layersOf(cache, spectra).map(({ theorem: _, ...layer }) => layer);
  return { path: file, kind: "archive", ...(await describe(file, source, held)), layers };
}

/** Of an archive that has been read. */
const versionAt = async (file: string): Promise<number> =>
  (await firstBytes(file, PREAMBLE.bytes)).readUInt32LE(PREAMBLE.version);

function inspectDump(io: Io, runtime: Runtime, file: string): Promise<Inspection> {
  return withDump(file, undefined, async (dump) => {
    const { cache, spectra } = await withProgress(io, 4 * dump.geometry.layerCount, async (bar) => {
      const onProgress = ({ phase }: { phase: string }) => bar.step(phase);
      const cache = await compress(runtime, dump, {}, { signal: io.signal, onProgress });
      return { cache, spectra: await spectraOf(io, runtime, dump, cache, bar.step) };
    });
    const { heldTokens, text } = dump;
    const description = await describe(file, dump, cache);
    return { path: file, kind: "dump", text, heldTokens, ...description, layers: layersOf(cache, spectra) };
  });
}

async function describe(file: string, source: CacheSource, cache: CodedCache) {
  return { fileBytes: await fileBytes(file), ...describeSource(source), ...describeCodes(cache) };
}

/** Spectrum and theorem of each layer on the tokens that are coded. */
function spectraOf(
  io: Io,
  runtime: Runtime,
  source: CacheSource,
  ends: Pick<CodedCache, "sinks" | "recent">,
  step: (text: string) => void,
): Promise<LayerSpectrum[]> {
  const range = rangeOf(source.tokenCount, ends);
  const work = { signal: io.signal, onProgress: () => step("measure keys") };
  return eachLayer(source, "analyse keys", work, async (layer) => {
    const key = await source.key(layer);
    return runtime.heap.scratch((frame) => {
      const keysPtr = loadTensor(runtime, frame, `layer ${layer} key`, key, range.tokens * rowDim(source.geometry));
      return measureKeys(runtime, source.geometry, source.rotary, range, keysPtr);
    });
  });
}

function layersOf(cache: CodedCache, spectra: LayerSpectrum[]) {
  const segments = allocations(cache);
  return spectra.map(({ variance, theorem }, i) => ({
    layer: cache.layerNumbers[i],
    energy: energyOf(variance),
    segments: segments[i],
    theorem,
  }));
}
