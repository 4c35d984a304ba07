/** What a cache looks like before it is compressed: tensors as engines hold them, read a layer at a time. */
import type { FisherData } from "./fisher.ts";
import type { Geometry } from "./geometry.ts";
import type { Rotary } from "./rotary.ts";

export type ElementType = "f32" | "f16" | "bf16";

export const ELEMENT_BYTES: Record<ElementType, number> = { f32: 4, f16: 2, bf16: 2 };

/** Little-endian elements of a dense row-major tensor; the shape is said where one is used. */
export interface TensorData {
  type: ElementType;
  bytes: Uint8Array;
}

/** Queries of one layer, after RoPE: (queryHeads, count, headDim), at positions firstToken, firstToken + 1, … */
export interface QueryData extends TensorData {
  firstToken: number;
  count: number;
  queryHeads: number;
}

/**
 * A cache to compress. Tensors are (kvHeads, tokenCount, headDim), keys after RoPE as engines cache them.
 * `layer` counts from 0 to layerCount - 1; a layer may be asked for more than once.
 */
export interface CacheSource {
  readonly geometry: Geometry;
  readonly rotary: Rotary;
  /** Tokens to compress. */
  readonly tokenCount: number;
  /** Number in the model of each layer held. */
  readonly layerNumbers: number[];
  /** Identifies model and geometry (see archive); empty if unknown. */
  readonly model: string;
  /** Token ids of the prefix, if known: (tokenCount). */
  readonly tokens?: Int32Array;
  key(layer: number): Promise<TensorData>;
  value(layer: number): Promise<TensorData>;
  /** Queries at positions below tokenCount for the metric and the weights, or undefined where there are none. */
  query?(layer: number): Promise<QueryData | undefined>;
  /**
   * Where there are no queries: what the model's queries are known to be, E[q q'] before RoPE over the query heads of
   * each kv head, (kvHeads, headDim, headDim) f32 in the dimensions' order of `rotary.layout`. For the metric alone.
   */
  queryMoments?(layer: number): Promise<Float32Array | undefined>;
  /** What errors of keys and values cost the model's next token. Where it is known it stands before all queries. */
  fisher?(layer: number): Promise<FisherData>;
}
