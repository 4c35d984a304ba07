/** Twins of assembly/mix.ts. */
import {
  BLOCK_TOKENS,
  channelCount,
  MIX_BLOCKS,
  MIX_LEVEL,
  PART_LEVELS,
  PLANE_BYTES,
  partCount,
} from "../codec/layout.ts";
import type { Views } from "../runtime/heap.ts";
import type { Kernels } from "../runtime/kernels.ts";
import { nibbleOf, readCounts, readGroup, usedParts } from "./parts.ts";
import { roundedSteps, sumOfLanes } from "./rounding.ts";

const { fround } = Math;
const LANES = 4;

export const mixTwins = (views: Views): Pick<Kernels, "blockWeights" | "mixPlanes" | "foldMix"> => ({
  blockWeights(worthPtr, weightsPtr, factorsPtr, blockCount, queryCount, weightStride) {
    const factors = views.f32(factorsPtr, queryCount);
    const worth = views.f32(worthPtr, blockCount).fill(0);
    for (let i = 0; i < blockCount; i++) {
      for (let q = 0; q < queryCount; q++) {
        const weights = views.f32(weightsPtr + 4 * (q * weightStride + i * BLOCK_TOKENS), BLOCK_TOKENS);
        const lanes = new Float32Array(LANES);
        weights.forEach((weight, t) => {
          lanes[t % LANES] += weight;
        });
        worth[i] = Math.max(worth[i], fround(sumOfLanes(lanes) * factors[q]));
      }
    }
  },

  mixPlanes(sumsPtr, blocksPtr, groupPtr, _scratchPtr, blockCount) {
    const { counts, planes, levelsPtr, normsPtr, queryCount, weightStride } = readGroup(views, groupPtr);
    const norms = views.f32(normsPtr, 256);
    const parts = usedParts(counts);
    const sums = views.f32(sumsPtr, partCount(counts) * queryCount * LANES);

    /** weight * norm of the 32 tokens of a block. */
    const weighted = (planesPtr: number, weightsPtr: number): Float32Array => {
      const codes = views.u8(planesPtr + PLANE_BYTES * planes, BLOCK_TOKENS);
      return views.f32(weightsPtr, BLOCK_TOKENS).map((weight, t) => weight * norms[codes[t]]);
    };

    for (let first = 0; first < blockCount; first += MIX_BLOCKS) {
      const few = Math.min(MIX_BLOCKS, blockCount - first);
      const addresses = views.u32(blocksPtr + 8 * first, 2 * few);
      for (let q = 0; q < queryCount; q++) {
        const blocks = Array.from({ length: few }, (_, i) => ({
          planesPtr: addresses[2 * i],
          weights: weighted(addresses[2 * i], addresses[2 * i + 1] + 4 * q * weightStride),
        }));
        const greatest = Math.max(...blocks.flatMap(({ weights }) => [...weights]));
        const inverse = greatest > 0 ? fround(MIX_LEVEL / greatest) : 0;
        const scale = fround(greatest / MIX_LEVEL);
        for (const { part, plane } of parts) {
          const levels = levelsAt(views, levelsPtr + 2 * PART_LEVELS * part);
          const lanes = [0, 0, 0, 0];
          for (const { planesPtr, weights } of blocks) {
            const nibbles = views.u8(planesPtr + PLANE_BYTES * plane, PLANE_BYTES);
            for (let t = 0; t < BLOCK_TOKENS; t++) {
              const weight = roundedSteps(fround(weights[t] * inverse));
              lanes[Math.floor(t / 2) % LANES] += weight * levels[nibbleOf(nibbles, t)];
            }
          }
          lanes.forEach((sum, lane) => {
            sums[(part * queryCount + q) * LANES + lane] += fround(fround(sum) * scale);
          });
        }
      }
    }
  },

  foldMix(latentsPtr, sumsPtr, scalesPtr, countsPtr, queryCount, latentStride) {
    const counts = readCounts(views, countsPtr);
    const latents = views.f32(latentsPtr, channelCount(counts) * latentStride).fill(0);
    const scales = views.f32(scalesPtr, partCount(counts));
    for (const { channel, part } of usedParts(counts)) {
      for (let q = 0; q < queryCount; q++) {
        const lanes = views.f32(sumsPtr + 4 * LANES * (part * queryCount + q), LANES);
        latents[channel * latentStride + q] += fround(scales[part] * sumOfLanes(lanes));
      }
    }
  },
});

/** 16 i16 levels of a part: low bytes, then high bytes. */
function levelsAt(views: Views, partPtr: number): Int16Array {
  const bytes = views.u8(partPtr, 2 * PART_LEVELS);
  return Int16Array.from({ length: PART_LEVELS }, (_, i) => bytes[i] | (bytes[PART_LEVELS + i] << 8));
}
