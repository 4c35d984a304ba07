/**
 * What errors of each layer cost a model: keys, then values, of a few layers at a time go through the codec and all
 * others stay exact; what the next tokens lose is held against the error that was made. Weights are square roots of the
 * quotients: losses of single layers are small, noisy, and do not add up (docs/adr/0049).
 */
import type { CodedCache } from "../../codec/coded.ts";
import { compress, rangeOf, type WorkOptions } from "../../codec/compress.ts";
import { type Forecast, forecastKeys, forecastValues } from "../../codec/forecast.ts";
import { checkOptions } from "../../codec/options.ts";
import { type RestoredLayer, restoreLayer } from "../../codec/restore.ts";
import type { CacheSource } from "../../codec/source.ts";
import { spectraOf } from "../../codec/spectra.ts";
import type { GgufModel } from "../../engines/gguf-model.ts";
import { llamaStateOf } from "../../engines/llama-cpp.ts";
import type { LlamaState } from "../../engines/llama-state.ts";
import type { ErrorWeights, ModelProfile } from "../../engines/profile.ts";
import type { Runtime } from "../../runtime/runtime.ts";
import type { EvalEngine } from "./engine.ts";
import { type EvaluateOptions, evaluate } from "./evaluate.ts";
import { ENDS, type EvalMethod, exactLayers } from "./methods.ts";
import type { EvalText } from "./text.ts";

/** Few, so that a layer's loss stands out from what rounding costs. */
const BITS = { keyBits: 0.75, valueBits: 1 };
const OPTIONS = checkOptions({ ...ENDS, ...BITS });
/** No layer counts more or less than this, whatever a few tokens say. */
const MOST = 8;

type Kind = "keys" | "values";
const KINDS: Kind[] = ["keys", "values"];

/** Error of each layer's channels together, of one text. */
type Errors = Record<Kind, number[]>;

/** The text in turn: its cache as it is and coded. */
interface Coded {
  state: LlamaState;
  exact: RestoredLayer[];
  cache: CodedCache;
}

/** Layers of which one kind is coded at a time. */
interface Part {
  kind: Kind;
  first: number;
  end: number;
}

/** Steps of a text that `onStep` hears of: context, exact run, and each part. */
export const stepsOf = (layers: number, atATime: number): number => 2 + KINDS.length * Math.ceil(layers / atATime);

/** Weights by the layer's number in the model. `atATime` layers are taken together and share what they are found to lose. */
export async function measureLayerWeights(
  runtime: Runtime,
  engine: EvalEngine,
  model: GgufModel,
  profile: ModelProfile,
  texts: EvalText[],
  atATime: number,
  options: Pick<EvaluateOptions, "signal" | "onStep"> = {},
): Promise<Map<number, ErrorWeights>> {
  const layers = model.geometry.layerCount;
  const starts = Array.from({ length: Math.ceil(layers / atATime) }, (_, i) => i * atATime);
  const partsOf = (kind: Kind): Part[] =>
    starts.map((first) => ({ kind, first, end: Math.min(layers, first + atATime) }));
  const parts = KINDS.flatMap(partsOf);
  const errors: Errors[] = [];
  const { weights: _, ...unweighted } = profile;
  const rows = await evaluate(runtime, engine, model, texts, partly(parts, errors), {
    ...options,
    profile: unweighted,
  });
  const weightsOf = (kind: Kind): number[] => {
    const mine = parts.map((part, i) => ({ ...part, kl: rows[i].kl })).filter((part) => part.kind === kind);
    const found = mine.map(({ first, end, kl }) => kl / (errorOf(errors, kind, first, end) / errors.length));
    return between(normalised(found.map(Math.sqrt)), layers, atATime);
  };
  const [keys, values] = KINDS.map(weightsOf);
  return new Map(keys.map((weight, layer) => [layer, { keys: weight, values: values[layer] }]));
}

/** For each part codes of its kind and layers, everything else as it is; a text's cache is coded once. */
function partly(parts: Part[], errors: Errors[]): EvalMethod[] {
  let coded: Coded | undefined;
  return parts.map(({ kind, first, end }) => ({
    name: `${kind} of layers ${first} to ${end - 1}`,
    async apply(runtime, state, source, work) {
      if (coded?.state !== state) {
        const cache = await compress(runtime, source, OPTIONS, work);
        coded = { state, cache, exact: await exactLayers(source) };
        errors.push(await errorsOf(runtime, source, work));
      }
      const { cache, exact } = coded;
      const file = llamaStateOf(state, source.geometry, state.type, (layer) => {
        if (layer < first || layer >= end) return exact[layer];
        const { key, value } = restoreLayer(runtime, cache, layer, state.type);
        return kind === "keys" ? { ...exact[layer], key } : { ...exact[layer], value };
      });
      return { bits: 0, bitsWithBasis: 0, file };
    },
  }));
}

async function errorsOf(runtime: Runtime, source: CacheSource, work: WorkOptions): Promise<Errors> {
  const spectra = await spectraOf(runtime, source, OPTIONS, work);
  const { count } = rangeOf(source.tokenCount, ENDS);
  return {
    keys: layerErrors(forecastKeys(spectra, OPTIONS, count, BITS.keyBits)),
    values: layerErrors(forecastValues(spectra, OPTIONS, count, BITS.valueBits)),
  };
}

const layerErrors = ({ errors }: Forecast): number[] =>
  errors.map((groups) => groups.reduce((total, channels) => channels.reduce((sum, x) => sum + x, total), 0));

const errorOf = (errors: Errors[], kind: Kind, first: number, end: number): number =>
  errors.reduce((sum, text) => text[kind].slice(first, end).reduce((a, b) => a + b, sum), 0);

/** To a geometric mean of 1, none far from it. */
function normalised(weights: number[]): number[] {
  const least = Math.max(...weights) / MOST ** 2;
  const logs = weights.map((weight) => Math.log(Math.max(weight, least)));
  const mean = logs.reduce((a, b) => a + b, 0) / logs.length;
  return logs.map((log) => Math.min(MOST, Math.max(1 / MOST, Math.exp(log - mean))));
}

/** From the middle of each part to that of the next evenly, in logarithms. */
function between(weights: number[], layers: number, atATime: number): number[] {
  return Array.from({ length: layers }, (_, layer) => {
    const at = Math.min(weights.length - 1, Math.max(0, (layer - (atATime - 1) / 2) / atATime));
    const before = Math.floor(at);
    const after = Math.min(weights.length - 1, before + 1);
    return weights[before] ** (1 - (at - before)) * weights[after] ** (at - before);
  });
}
