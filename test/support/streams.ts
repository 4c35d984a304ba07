/** Keys and values without RoPE, in a few directions that may change along the way; any token may be made to stand out. */
import type { Rotary } from "../../src/codec/rotary.ts";
import type { LayerRows } from "./live-cache.ts";
import { noise } from "./noise.ts";

export const NO_ROTARY: Rotary = { layout: "half-split", frequencies: new Float64Array(0) };

export interface StreamShape {
  kvHeads?: number;
  headDim?: number;
  tokens: number;
  /** Token from which on keys lie in other directions. */
  turnsAt?: number;
  /** Size of a mean that keys have from then on, in a direction of its own. */
  shift?: number;
  /** Heads whose keys turn then; all unless given. */
  turning?: number[];
  rank?: number;
  /** Beside 1 for the directions. */
  rest?: number;
  seed?: number;
}

export interface Stream extends LayerRows {
  kvHeads: number;
  headDim: number;
  /** Direction of number `rank` of a head, of length 1; those after the turn follow. */
  direction(head: number, rank: number): Float32Array;
}

export function streamOf(shape: StreamShape): Stream {
  const {
    kvHeads = 2,
    headDim = 32,
    tokens,
    turnsAt = Infinity,
    shift = 0,
    turning,
    rank = 4,
    rest = 0.05,
    seed = 1,
  } = shape;
  const directions = Array.from({ length: kvHeads * 2 * rank }, (_, i) => unit(noise(headDim, 1000 * seed + i + 1)));
  const direction = (head: number, number: number): Float32Array => directions[head * 2 * rank + number];
  const rows = [0, 1].map((role) => {
    const out = noise(kvHeads * tokens * headDim, 77 * seed + role).map((x) => rest * x);
    const latents = noise(kvHeads * tokens * rank, 99 * seed + role);
    for (let head = 0; head < kvHeads; head++) {
      for (let t = 0; t < tokens; t++) {
        const turned = role === 0 && t >= turnsAt && (turning?.includes(head) ?? true);
        const mean = turned ? unit(noise(headDim, 500 * seed + head)) : [];
        for (let d = 0; d < mean.length; d++) out[(head * tokens + t) * headDim + d] += shift * mean[d];
        for (let r = 0; r < rank; r++) {
          const along = direction(head, turned ? rank + r : r);
          const latent = 4 * 0.7 ** r * latents[(head * tokens + t) * rank + r];
          for (let d = 0; d < headDim; d++) out[(head * tokens + t) * headDim + d] += latent * along[d];
        }
      }
    }
    return out;
  });
  return { kvHeads, headDim, tokens, keys: rows[0], values: rows[1], direction };
}

function unit(row: Float32Array): Float32Array {
  const norm = Math.hypot(...row);
  return row.map((x) => x / norm);
}

/** Exact scaled scores of queries (queryHeads, headDim) by position: (queryHeads, tokens). */
export function exactScores(stream: Stream, queries: Float32Array): Float32Array {
  const { kvHeads, headDim, tokens, keys } = stream;
  const queryHeads = queries.length / headDim;
  const out = new Float32Array(queryHeads * tokens);
  for (let q = 0; q < queryHeads; q++) {
    const head = Math.floor((q * kvHeads) / queryHeads);
    for (let t = 0; t < tokens; t++) {
      let sum = 0;
      for (let d = 0; d < headDim; d++) sum += queries[q * headDim + d] * keys[(head * tokens + t) * headDim + d];
      out[q * tokens + t] = sum / Math.sqrt(headDim);
    }
  }
  return out;
}
