/**
 * What codes cost a model's next token, from the spectra of a cache alone (docs/adr/0041, 0048). Two measures of
 * attention, means over layers: the attention KL of key errors (predicted-kl.ts) and the relative error of value
 * directions. Both are weighed by how much the text repeats itself: where a few channels hold all variance, at 2 bits
 * little is lost, but what is lost tells tokens apart that the model will ask for.
 */
import { expectNumber } from "../errors.ts";
import { forecastKeys, forecastValues } from "./forecast.ts";
import type { CodecOptions } from "./options.ts";
import { predictedKl } from "./predicted-kl.ts";
import type { CacheSpectra } from "./spectra.ts";

export interface AttentionErrors {
  /** Nats. */
  keyKl: number;
  /** Squared error over squared size of directions. */
  valueError: number;
}

/** Constants by least squares of log KL on SmolLM2-135M, by scripts/calibrate-kl.ts. */
interface Calibration {
  key: number;
  value: number;
  /** Of the texts calibrated on, at REFERENCE_BITS. */
  reference: AttentionErrors;
  /** By what part of the reference a cache's own errors at these bits are. Of square roots at most: bits follow from it. */
  weightOf: (part: number) => number;
}

const PLANES: Calibration = {
  key: 0.608,
  value: 0.323,
  reference: { keyKl: 0.00916, valueError: 0.0329 },
  weightOf: (part) => 1 / (part * Math.sqrt(part)),
};
const ENTROPY: Calibration = {
  key: 0.465,
  value: 0.239,
  reference: { keyKl: 0.00581, valueError: 0.0206 },
  weightOf: (part) => 1 / part,
};
const REFERENCE_BITS = 2;

export const calibrationOf = ({ entropy }: Pick<CodecOptions, "entropy">): Calibration => (entropy ? ENTROPY : PLANES);

/** Targets of a next-token KL that the calibration covers. */
export const checkTargetKl = (target: number): number => expectNumber("targetKl", target, 0.0005, 0.1);

/** Attention KL of what is left of each channel of the keys (forecast.ts). */
export const keyKlOf = ({ keys, headDim }: CacheSpectra, errors: Float64Array[][]): number =>
  mean(keys.map((bases, layer) => predictedKl(bases, errors[layer], headDim)));

/** Relative error of what is left of each channel of the values. */
export const valueErrorOf = ({ values }: CacheSpectra, errors: Float64Array[][]): number =>
  mean(
    values.map((layer, l) => mean(layer.map(({ energy }, group) => (energy > 0 ? sum(errors[l][group]) / energy : 0)))),
  );

const sum = (numbers: Iterable<number>): number => Array.from(numbers).reduce((a, b) => a + b, 0);
const mean = (numbers: number[]): number => sum(numbers) / numbers.length;

/** Errors at 2 bits, which say how much the text repeats itself; `coded` tokens lie between the exact ones. */
export const referenceErrors = (spectra: CacheSpectra, options: CodecOptions, coded: number): AttentionErrors => ({
  keyKl: keyKlOf(spectra, forecastKeys(spectra, options, coded, REFERENCE_BITS).errors),
  valueError: valueErrorOf(spectra, forecastValues(spectra, options, coded, REFERENCE_BITS).errors),
});

/** Errors as the texts calibrated on would have them: times a power of own / reference. */
export function weighed(
  errors: AttentionErrors,
  own: AttentionErrors,
  { reference, weightOf }: Calibration,
): AttentionErrors {
  const of = (name: keyof AttentionErrors): number =>
    errors[name] * weightOf(Math.max(own[name], Number.MIN_VALUE) / reference[name]);
  return { keyKl: of("keyKl"), valueError: of("valueError") };
}

/** Next-token KL divergence in nats, mean over tokens: (key keyKl + value valueError)^1.25 of weighed errors. */
export function expectedKl(errors: AttentionErrors, own: AttentionErrors, calibration: Calibration): number {
  const { keyKl, valueError } = weighed(errors, own, calibration);
  const loss = calibration.key * keyKl + calibration.value * valueError;
  return loss * Math.sqrt(Math.sqrt(loss));
}
