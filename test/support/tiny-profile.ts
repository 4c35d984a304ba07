/** A profile of a tiny model under which every element of keys and of values counts alike. */
import type { ModelProfile } from "../../src/engines/profile.ts";

/** `count`: what a squared error of an element counts. */
export function tinyProfile(count: number, layers = 2, kvHeads = 2, headDim = 32): ModelProfile {
  const squares = Float32Array.from({ length: kvHeads * headDim ** 2 }, (_, i) =>
    (i % headDim ** 2) % (headDim + 1) === 0 ? count : 0,
  );
  const fisher = new Map(Array.from({ length: layers }, (_, layer) => [layer, { keys: squares, values: squares }]));
  return { model: "", kvHeads, headDim, layout: "half-split", moments: new Map(), fisher };
}
