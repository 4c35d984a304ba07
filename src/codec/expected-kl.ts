/**
 * What codes will cost a model's next token, from the spectra of a cache alone: under the model's Fisher information
 * squared errors are in nats (fisher.ts). Sums are too small by a factor: errors of tokens count as independent and all
 * tokens as alike, but those that a model asks for are unlike the rest, and err more (docs/adr/0050).
 */
import { expectNumber } from "../errors.ts";

/** By least squares of log KL on SmolLM2-135M, in planes and at entropy: scripts/calibrate-kl.ts. */
export const CALIBRATION = { keys: 9.8, values: 3.1 };

/** Targets of a next-token KL that the calibration covers. */
export const checkTargetKl = (target: number): number => expectNumber("targetKl", target, 0.0005, 0.1);

/** Squared errors under the metric, by layer, head group and channel, as nats of KL divergence. */
export const klOfErrors = (errors: Float64Array[][]): number =>
  errors.flat().reduce((total, channels) => channels.reduce((sum, x) => sum + x, total), 0) / 2;

/** Next-token KL divergence in nats, mean over tokens, of errors of keys and of values as `klOfErrors` gives them. */
export const expectedKl = (keys: number, values: number, part = CALIBRATION): number =>
  part.keys * keys + part.values * values;
