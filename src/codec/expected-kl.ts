/**
 * What codes will cost a model's next token, from the spectra of a cache alone: under the model's Fisher information
 * errors are in nats (fisher.ts). A text may feel them more or less than those that it was measured on, and losses that
 * are not small grow slower than their square, so the sum is calibrated (docs/adr/0050).
 */
import { expectNumber } from "../errors.ts";

/** By least squares of log KL on SmolLM2-135M: scripts/calibrate-kl.ts. */
export const CALIBRATION = { keys: 1, values: 1, power: 1 };

/** Targets of a next-token KL that the calibration covers. */
export const checkTargetKl = (target: number): number => expectNumber("targetKl", target, 0.0005, 0.1);

/** Squared errors under the metric, by layer, head group and channel, as nats of KL divergence. */
export const klOfErrors = (errors: Float64Array[][]): number =>
  errors.flat().reduce((total, channels) => channels.reduce((sum, x) => sum + x, total), 0) / 2;

/** Next-token KL divergence in nats, mean over tokens, of errors of keys and of values as `klOfErrors` gives them. */
export const expectedKl = (keys: number, values: number, { power, ...part } = CALIBRATION): number =>
  (part.keys * keys + part.values * values) ** power;
