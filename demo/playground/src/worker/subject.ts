/** Files to something to study: a dump, a llama.cpp state with its GGUF, an archive, or an archive with its dump. */
import { MAGIC } from "../../../../src/archive/format.ts";
import { decodeArchive } from "../../../../src/archive/reader.ts";
import type { CodedCache } from "../../../../src/codec/coded.ts";
import { type RestoredLayer, restoreLayer } from "../../../../src/codec/restore.ts";
import type { CacheSource } from "../../../../src/codec/source.ts";
import { type Dump, openDump } from "../../../../src/engines/dump.ts";
import { parseLlamaState, readGgufModel, sourceOfLlamaState } from "../../../../src/engines/llama-cpp.ts";
import { MismatchError, UnsupportedError } from "../../../../src/errors.ts";
import type { Runtime } from "../../../../src/runtime/runtime.ts";
import type { Facts, NamedBlob, Settings } from "../messages.ts";

export interface Subject {
  facts: Facts;
  /** The tokens to compress. */
  context: CacheSource;
  /** A dump: its context, and the same with the tokens that follow and all queries. */
  dumps?: { context: Dump; all: Dump };
  /** What an archive holds; nothing is compressed then. */
  coded?: CodedCache;
}

type Kind = "dump" | "state" | "archive" | "gguf";

/** Throws FormatError, UnsupportedError and MismatchError that name the file. */
export async function openSubject(runtime: Runtime, files: NamedBlob[]): Promise<Subject> {
  const found = new Map<Kind, NamedBlob>();
  for (const file of files) {
    const kind = await kindOf(file);
    const other = found.get(kind);
    if (other) throw new UnsupportedError(`${file.name}: expected one ${kind}, got ${other.name} too`);
    found.set(kind, file);
  }
  const [archive, dump, state, gguf] = (["archive", "dump", "state", "gguf"] as const).map((kind) => found.get(kind));
  if (archive) return openArchive(runtime, archive, dump);
  if (dump) return openDumpFile(dump);
  if (state) return openState(state, gguf);
  const got = gguf ? `${gguf.name}: a model alone` : "nothing";
  throw new UnsupportedError(`expected a dump, a llama.cpp state with its GGUF, or an archive, got ${got}`);
}

/** By the first bytes. A safetensors file begins with the length of its header, which is JSON. */
async function kindOf({ name, blob }: NamedBlob): Promise<Kind> {
  const head = new Uint8Array(await blob.slice(0, 9).arrayBuffer());
  const text = String.fromCharCode(...head);
  if (MAGIC.subarray(0, 4).every((byte, i) => byte === head[i])) return "archive";
  if (text.startsWith("qsgg")) return "state"; // the u32 "ggsq", little-endian
  if (text.startsWith("GGUF")) return "gguf";
  if (text[8] === "{") return "dump";
  const got = head.length ? `a file that begins with ${JSON.stringify(text.slice(0, 8))}` : "an empty file";
  throw new UnsupportedError(`${name}: expected a safetensors dump, a llama.cpp state or an svdq archive, got ${got}`);
}

async function openDumpFile(file: NamedBlob): Promise<Subject> {
  const named = new File([file.blob], file.name);
  const context = await openDump(named);
  const all = await openDump(named, { tokens: context.heldTokens });
  const query = await all.queryTensor(0);
  return {
    facts: {
      ...factsOf(file.name, "dump", context),
      text: context.text,
      heldTokens: context.heldTokens,
      ...(query && { queryHeads: query.queryHeads, firstQuery: query.firstToken, queryCount: query.count }),
      // `compareMethods` and `replay` ask for queries from the context's end on.
      continued:
        query !== undefined &&
        query.firstToken <= context.tokenCount &&
        query.firstToken + query.count > context.tokenCount,
    },
    context,
    dumps: { context, all },
  };
}

async function openState({ name, blob }: NamedBlob, gguf: NamedBlob | undefined): Promise<Subject> {
  if (!gguf) {
    throw new UnsupportedError(
      `${name}: expected the model's GGUF file with a llama.cpp state, which says neither heads nor rotary ` +
        "frequencies, got the state alone; choose both at once (of the GGUF only its header is read)",
    );
  }
  const model = await readGgufModel(gguf.blob);
  const context = sourceOfLlamaState(parseLlamaState(new Uint8Array(await blob.arrayBuffer())), model);
  return { facts: factsOf(name, "state", context), context };
}

async function openArchive(runtime: Runtime, archive: NamedBlob, dump: NamedBlob | undefined): Promise<Subject> {
  const coded = decodeArchive(new Uint8Array(await archive.blob.arrayBuffer()), archive.name);
  if (coded.tokenCount === 0) {
    throw new UnsupportedError(`${archive.name}: expected an archive with tokens, got a profile, which has none`);
  }
  const made = madeWith(coded);
  if (!dump) {
    const context = restoredSource(runtime, coded);
    return { facts: { ...factsOf(archive.name, "archive", context), exact: false, made }, context, coded };
  }
  const subject = await openDumpFile(dump);
  const [expected, got] = [coded, subject.context].map(({ geometry: g, layerNumbers, tokenCount }) => {
    return `layers ${layerNumbers.join(",")} of ${g.kvHeads} kv heads x ${g.headDim}, ${tokenCount} tokens`;
  });
  if (expected !== got) throw new MismatchError(`${dump.name}: expected ${expected} as the archive has, got ${got}`);
  const name = `${archive.name} with ${dump.name}`;
  return { ...subject, coded, facts: { ...subject.facts, name, kind: "archive", made } };
}

function madeWith({ anchorSpan, sinks, recent, geometry, layers }: CodedCache): NonNullable<Facts["made"]> {
  const isByHead = geometry.kvHeads > 1 && layers.every(({ keys }) => keys.length === geometry.kvHeads);
  const grouping: Settings["grouping"] = isByHead ? "head" : "layer";
  return { grouping, anchorSpan, sinks, recent };
}

/** An archive as the cache that it restores to; keys and values of a layer are kept until another is asked for. */
function restoredSource(runtime: Runtime, coded: CodedCache): CacheSource {
  let held: { layer: number; tensors: RestoredLayer } | undefined;
  const tensor = async (layer: number, part: keyof RestoredLayer) => {
    if (held?.layer !== layer) held = { layer, tensors: restoreLayer(runtime, coded, layer, "f32") };
    return { type: "f32" as const, bytes: held.tensors[part] };
  };
  return { ...coded, key: (layer) => tensor(layer, "key"), value: (layer) => tensor(layer, "value") };
}

function factsOf(name: string, kind: Facts["kind"], source: CacheSource): Facts {
  const { geometry, layerNumbers, model, tokenCount } = source;
  return {
    ...{ name, kind, model, text: "", geometry, layerNumbers, tokens: tokenCount, heldTokens: tokenCount },
    ...{ queryHeads: 0, firstQuery: 0, queryCount: 0, exact: true, continued: false },
  };
}
