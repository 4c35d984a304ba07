/** Which kv heads share a basis. */
import type { Geometry } from "./geometry.ts";

export type Grouping = "layer" | "head";

export interface HeadGroup {
  firstHead: number;
  headCount: number;
}

/** Widest group: a basis of more channels would cost more than it saves and take seconds to find. */
export const MAX_GROUP_DIM = 1024;

/** `head`: each head alone. `layer`: all heads, in equal parts where they have more than MAX_GROUP_DIM elements. */
export function headGroups(geometry: Geometry, grouping: Grouping): HeadGroup[] {
  const { kvHeads, headDim } = geometry;
  let size = grouping === "head" ? 1 : kvHeads;
  while (size > 1 && (size * headDim > MAX_GROUP_DIM || kvHeads % size !== 0)) size--;
  return Array.from({ length: kvHeads / size }, (_, i) => ({ firstHead: i * size, headCount: size }));
}
