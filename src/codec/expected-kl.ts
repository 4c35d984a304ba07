/**
 * What codes cost a model's next token, from the spectra of a cache alone (docs/adr/0041). Two measures of attention,
 * means over layers: the attention KL of key errors (predicted-kl.ts) and the relative error of value directions. Both
 * are weighed by how much the text repeats itself: where a few channels hold all variance, at 2 bits little is lost,
 * but what is lost tells tokens apart that the model will ask for.
 */
import { expectNumber } from "../errors.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { DISTORTION } from "./allocation.ts";
import type { Basis } from "./basis.ts";
import { allocateKeys, analyseAllKeys, analyseAllValues, type WorkOptions } from "./compress.ts";
import type { KeyBasis } from "./key-codec.ts";
import type { CodecOptions } from "./options.ts";
import { predictedKl } from "./predicted-kl.ts";
import type { CacheSource } from "./source.ts";
import { allocateValues } from "./value-codec.ts";

/** Bases of the keys and values of each layer's head groups. */
export interface CacheSpectra {
  keys: KeyBasis[][];
  values: Basis[][];
  headDim: number;
}

export interface AttentionErrors {
  /** Nats. */
  keyKl: number;
  /** Squared error over squared size of directions. */
  valueError: number;
}

/** Least squares of log KL on SmolLM2-135M, by scripts/calibrate-kl.ts. */
export const CALIBRATION = { key: 0.608, value: 0.323 };
const REFERENCE_BITS = 2;
/** Of the texts calibrated on, at these bits. */
export const REFERENCE: AttentionErrors = { keyKl: 0.00916, valueError: 0.0329 };

/** Targets of a next-token KL that the calibration covers. */
export const checkTargetKl = (target: number): number => expectNumber("targetKl", target, 0.0005, 0.1);

/** Analysis of all layers, without weights by attention, as it was calibrated. Spectra of up to `options` bits' rank. */
export async function spectraOf(
  runtime: Runtime,
  source: CacheSource,
  options: CodecOptions,
  work: WorkOptions = {},
): Promise<CacheSpectra> {
  const given = { ...options, schedule: null, attentionWeights: false };
  const keys = await analyseAllKeys(runtime, source, given, work);
  const values = await analyseAllValues(runtime, source, given, work);
  return { keys, values: values.map((layer) => layer.map(({ basis }) => basis)), headDim: source.geometry.headDim };
}

/** True where keys were analysed under the queries' metric, so that errors are in units of a logit. */
export const hasMetric = ({ keys }: CacheSpectra): boolean => keys.every((layer) => layer[0].basis.roots !== undefined);

export const keyWidths = ({ keys }: CacheSpectra, options: CodecOptions, keyBits: number): Uint8Array[][] =>
  allocateKeys(keys, { ...options, schedule: null, keyBits });

export const valueWidths = ({ values }: CacheSpectra, valueBits: number): Uint8Array[][] =>
  values.map((layer) => layer.map((basis) => allocateValues(basis, valueBits)));

export function keyKlAt({ keys, headDim }: CacheSpectra, widths: Uint8Array[][]): number {
  return mean(keys.map((bases, layer) => predictedKl(bases, widths[layer], headDim)));
}

export function valueErrorAt({ values }: CacheSpectra, widths: Uint8Array[][]): number {
  return mean(values.map((layer, l) => mean(layer.map((basis, group) => relativeError(basis, widths[l][group])))));
}

function relativeError({ variance, energy }: Basis, widths: Uint8Array): number {
  let error = 0;
  widths.forEach((width, channel) => {
    error += variance[channel] * DISTORTION[width];
  });
  return energy > 0 ? error / energy : 0;
}

const mean = (numbers: number[]): number => numbers.reduce((a, b) => a + b, 0) / numbers.length;

/** Errors at 2 bits, which say how much the text repeats itself. */
export const referenceErrors = (spectra: CacheSpectra, options: CodecOptions): AttentionErrors => ({
  keyKl: keyKlAt(spectra, keyWidths(spectra, options, REFERENCE_BITS)),
  valueError: valueErrorAt(spectra, valueWidths(spectra, REFERENCE_BITS)),
});

/** Errors times (own / reference)^-1.5. No power of the host takes part, because bits follow from this. */
export function weighed(errors: AttentionErrors, own: AttentionErrors): AttentionErrors {
  const weight = (name: keyof AttentionErrors): number => {
    const part = Math.max(own[name], Number.MIN_VALUE) / REFERENCE[name];
    return 1 / (part * Math.sqrt(part));
  };
  return { keyKl: errors.keyKl * weight("keyKl"), valueError: errors.valueError * weight("valueError") };
}

/** Next-token KL divergence in nats, mean over tokens: (key keyKl + value valueError)^1.25 of weighed errors. */
export function expectedKl(errors: AttentionErrors, own: AttentionErrors): number {
  const { keyKl, valueError } = weighed(errors, own);
  const loss = CALIBRATION.key * keyKl + CALIBRATION.value * valueError;
  return loss * Math.sqrt(Math.sqrt(loss));
}
