/**
 * What a model's whole cache would take with the codes that were measured here. Codes, scales and norms grow with the
 * elements, a basis with the square of its dimension, means with the dimension; exact tokens are f16. A model's own
 * spectrum may fall faster or slower, so this is a projection and no measurement.
 */
import { totalBytes } from "../../../../src/codec/bytes.ts";
import { type Geometry, rowDim } from "../../../../src/codec/geometry.ts";
import { headGroups } from "../../../../src/codec/groups.ts";
import type { Sizes } from "../messages.ts";

export interface Projection {
  f16Bytes: number;
  bytes: number;
}

export function projectedBytes(sizes: Sizes, geometry: Geometry, tokens: number): Projection {
  const f16Bytes = 4 * geometry.layerCount * rowDim(geometry) * tokens;
  const exactTokens = Math.min(tokens, sizes.exactTokens);
  const exactBytes = 4 * geometry.layerCount * rowDim(geometry) * exactTokens;
  if (tokens === exactTokens) return { f16Bytes, bytes: f16Bytes };
  const coded = geometry.layerCount * rowDim(geometry) * (tokens - exactTokens);
  const { keys, values } = sizes.bits;
  const codes = (coded * (keys.bits + values.bits)) / 8;
  return { f16Bytes, bytes: codes + oncePaid(sizes, geometry) + exactBytes };
}

/** Bases and means, which do not grow with the text. */
function oncePaid({ bytes, geometry: measured, grouping }: Sizes, geometry: Geometry): number {
  const of = (g: Geometry, power: number): number =>
    g.layerCount * headGroups(g, grouping).reduce((sum, { headCount }) => sum + (headCount * g.headDim) ** power, 0);
  const basis = (bytes.keys.basis + bytes.values.basis) * (of(geometry, 2) / of(measured, 2));
  return basis + bytes.keys.means * (of(geometry, 1) / of(measured, 1));
}

/** Bytes of a measured cache by kind, as rows of a table or bars. */
export function kindRows({ bytes }: Sizes): { part: "keys" | "values"; kind: string; bytes: number }[] {
  return (["keys", "values"] as const).flatMap((part) =>
    Object.entries(bytes[part]).map(([kind, count]) => ({ part, kind, bytes: count as number })),
  );
}

export const sizeOf = ({ bytes }: Sizes): number => totalBytes(bytes.keys) + totalBytes(bytes.values);
