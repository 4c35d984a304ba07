/** The shape of a model's cache, checked once where it enters. */
import { expectInteger } from "../errors.ts";

export interface Geometry {
  /** Layers held; their numbers in the model are `layerNumbers` where a dump holds only some. */
  layerCount: number;
  /** kv heads a layer, 1 to 32. */
  kvHeads: number;
  /** Elements a head, a multiple of 4, 32 to 256. */
  headDim: number;
}

export function checkGeometry(geometry: Geometry): Geometry {
  expectInteger("geometry.layerCount", geometry.layerCount, 1, 1024);
  expectInteger("geometry.kvHeads", geometry.kvHeads, 1, 32);
  expectInteger("geometry.headDim", geometry.headDim, 32, 256);
  if (geometry.headDim % 4 !== 0) {
    throw new RangeError(`geometry.headDim: expected a multiple of 4, got ${geometry.headDim}`);
  }
  return geometry;
}

/** Elements of all kv heads of a layer side by side. */
export const rowDim = (geometry: Geometry): number => geometry.kvHeads * geometry.headDim;
