/** All pictures of the open file under the settings: cheap ones first, each sent when it is ready and has changed. */
import { bitsOf, bytesOf } from "../../../../src/codec/bytes.ts";
import type { CodedCache } from "../../../../src/codec/coded.ts";
import { allocateKeys, type Progress, type WorkOptions } from "../../../../src/codec/compress.ts";
import { rowDim } from "../../../../src/codec/geometry.ts";
import { breathe } from "../../../../src/runtime/breathe.ts";
import { binMeans, binSize, errorByToken } from "../data/bins.ts";
import { codedWidths, runsOf, spectraOf } from "../data/runs.ts";
import type { Look, Picture, Settings, Sizes, TokenErrors } from "../messages.ts";
import {
  codedTensors,
  exactTensors,
  headAttention,
  type LayerTensors,
  pictureOf,
  queriesOf,
  queryErrors,
} from "./attention.ts";
import { measureBudgets } from "./budget.ts";
import { basesOf, codesOf, type Desk, optionsOf } from "./coding.ts";
import { measureQuality } from "./quality.ts";
import type { Subject } from "./subject.ts";

export interface StudyWork {
  signal: AbortSignal;
  emit: (picture: Picture) => void;
  /** `part`: of the stage, 0 to 1. */
  onProgress: (text: string, part: number) => void;
}

const MOST_BINS = 160;

/** Gives the codes as soon as they are there, through `onCoded`, and goes on. Throws the signal's reason when stopped. */
export async function study(
  desk: Desk,
  subject: Subject,
  settings: Settings,
  look: Look,
  work: StudyWork,
  onCoded: (coded: CodedCache) => void,
): Promise<void> {
  const codecWork: WorkOptions = { signal: work.signal, onProgress: layerProgress(work) };
  const bases = await basesOf(desk, subject, settings, codecWork);
  const widths = subject.coded ? codedWidths(subject.coded) : allocateKeys(bases, optionsOf(settings));
  work.emit({ kind: "spectrum", layers: spectraOf(subject.facts.layerNumbers, bases, widths) });
  const coded = await codesOf(desk, subject, settings, bases, codecWork);
  onCoded(coded);
  work.emit({ kind: "allocation", runs: runsOf(coded) });
  work.emit({ kind: "sizes", sizes: sizesOf(coded, settings) });
  await showLayer(desk, subject, coded, look, work);
  if (!subject.facts.continued) return;
  await measureQuality(
    desk,
    subject,
    settings,
    { signal: work.signal, onMethod: (done, of, name) => work.onProgress(`quality: ${name}`, done / of) },
    (points) => work.emit({ kind: "quality", points }),
  );
  await measureBudgets(
    desk,
    subject,
    coded,
    settings,
    { signal: work.signal, onBudget: (done, of) => work.onProgress("budgets", done / of) },
    (points) => work.emit({ kind: "budget", points }),
  );
}

const layerProgress =
  ({ onProgress }: StudyWork) =>
  ({ phase, layer, layerCount }: Progress): void =>
    onProgress(`${phase}, layer ${layer + 1} of ${layerCount}`, (layer + 1) / layerCount);

function sizesOf(coded: CodedCache, { grouping }: Settings): Sizes {
  const { geometry, tokenCount, sinks, recent } = coded;
  const bytes = bytesOf(coded);
  return {
    bytes,
    bits: { keys: bitsOf(bytes.keys, coded), values: bitsOf(bytes.values, coded) },
    ...{ geometry, grouping, tokens: tokenCount, exactTokens: sinks + recent },
    f16Bytes: 4 * geometry.layerCount * tokenCount * rowDim(geometry),
  };
}

/** Pictures of one layer: attention, and errors by token. */
async function showLayer(
  desk: Desk,
  { facts, context, dumps }: Subject,
  coded: CodedCache,
  look: Look,
  work: StudyWork,
) {
  if (!facts.exact) return;
  const { runtime, memo } = desk;
  const { layer } = look;
  const exact = await memo.get("exact layer", layer, () => exactTensors(runtime, dumps?.all ?? context, layer));
  const tensors = { exact, coded: codedTensors(runtime, coded, exact, layer) };
  const queries = dumps && (await queriesOf(runtime, dumps.all, layer));
  const number = coded.layerNumbers[layer];
  let turn = performance.now();
  if (queries) {
    const head = Math.min(look.head, queries.queryHeads - 1);
    const attention = headAttention(runtime, coded.geometry, tensors, queries, head);
    work.emit({ kind: "attention", picture: pictureOf(attention, { ...look, head }, number) });
  }
  const errors: TokenErrors = { layer: number, bins: tokenBins(coded, tensors), queries: [] };
  const sums = Array.from({ length: queries?.count ?? 0 }, () => ({ attentionKl: 0, outputError: 0 }));
  for (let head = 0; queries && head < queries.queryHeads; head++) {
    turn = await breathe(turn, work.signal);
    const attention = headAttention(runtime, coded.geometry, tensors, queries, head);
    sums.forEach((sum, q) => {
      const { attentionKl, outputError } = queryErrors(attention, q);
      sum.attentionKl += attentionKl / queries.queryHeads;
      sum.outputError += outputError / queries.queryHeads;
    });
    work.onProgress(`attention, head ${head + 1} of ${queries.queryHeads}`, (head + 1) / queries.queryHeads);
  }
  errors.queries = sums.map((sum, q) => ({ position: (queries?.firstToken ?? 0) + q, ...sum }));
  work.emit({ kind: "errors", errors });
}

/** Errors of the compressed tokens; those of the continuation are exact. */
function tokenBins({ geometry, tokenCount }: CodedCache, { exact, coded }: LayerTensors): TokenErrors["bins"] {
  const size = binSize(tokenCount, MOST_BINS);
  const [keys, values] = (["keys", "values"] as const).map((part) => {
    const errors = errorByToken(exact[part], coded[part], geometry.kvHeads, geometry.headDim);
    return binMeans(errors.subarray(0, tokenCount), size);
  });
  return keys.map((key, i) => ({ token: i * size, keys: key, values: values[i] }));
}
