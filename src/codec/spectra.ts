/** What is known of a cache before any code is made: the variances of its channels, of all layers. */
import type { Runtime } from "../runtime/runtime.ts";
import type { Basis } from "./basis.ts";
import { analyseAllKeys, analyseAllValues, type WorkOptions } from "./compress.ts";
import type { KeyBasis } from "./key-codec.ts";
import type { CodecOptions } from "./options.ts";
import type { CacheSource } from "./source.ts";

/** Bases of the keys and values of each layer's head groups. */
export interface CacheSpectra {
  keys: KeyBasis[][];
  values: Basis[][];
}

/** Analysis of all layers without weights of tokens, as losses are calibrated. Up to `options` bits' rank. */
export async function spectraOf(
  runtime: Runtime,
  source: CacheSource,
  options: CodecOptions,
  work: WorkOptions = {},
): Promise<CacheSpectra> {
  const given = { ...options, schedule: null, attentionWeights: false };
  const keys = await analyseAllKeys(runtime, source, given, work);
  const values = await analyseAllValues(runtime, source, given, work);
  return { keys, values: values.map((layer) => layer.map(({ basis }) => basis)) };
}

/** True where errors are in nats: values have a metric by the model's Fisher information alone. */
export const hasFisher = ({ values }: CacheSpectra): boolean => values.every((layer) => layer[0].roots !== undefined);
