/**
 * Bits between layers. Errors of some layers cost the model's next token many times what those of others do, so a source
 * may say what they count (docs/adr/0049); its layers' bases carry that along. Without weights all layers' key errors
 * count alike, and the values of each layer have the same bits.
 */
import { allocate } from "./allocation.ts";
import type { Basis } from "./basis.ts";
import { allocateValues, leastValueWidth } from "./value-codec.ts";

/** What squared errors of each layer of a cache count, above 0: of scores (keys), of directions (values). */
export interface LayerWeights {
  keys: ArrayLike<number>;
  values: ArrayLike<number>;
}

/** Bases of all layers with the layers' weights, where there are some. */
export function weighBases<T extends { basis: Basis }>(layers: T[][], weights: ArrayLike<number> | undefined): T[][] {
  if (!weights) return layers;
  return layers.map((bases, layer) =>
    bases.map((one) => ({ ...one, basis: { ...one.basis, weight: weights[layer] } })),
  );
}

/** Variances by what they count. */
export const weighedVariance = ({ variance, weight }: Basis): Float64Array =>
  weight === undefined ? variance : variance.map((x) => x * weight);

/**
 * Bits of the channels of all layers' value bases: as many for each layer, or by what its errors count. Directions have
 * a mean square of 1 an element in every layer, so errors of all compare.
 */
export function allocateAllValues(bases: Basis[][], valueBits: number): Uint8Array[][] {
  const all = bases.flat();
  if (!all.some(({ weight }) => weight !== undefined))
    return bases.map((layer) => layer.map((basis) => allocateValues(basis, valueBits)));
  const elements = all.reduce((sum, { dim }) => sum + dim, 0);
  const flat = allocate(all.map(weighedVariance), Math.floor(valueBits * elements), leastValueWidth(all[0], valueBits));
  let next = 0;
  return bases.map((layer) => layer.map(() => flat[next++]));
}
