/** Twins of assembly/mix.ts. */
import {
  BLOCK_TOKENS,
  channelCount,
  levelParts,
  MIX_BLOCKS,
  MIX_LEVEL,
  MIX_TOTAL,
  mixScaleCount,
  mixSumBytes,
  PART_LEVELS,
  PLANE_BYTES,
  roundUp,
  STRIP_ROWS,
  stripCount,
} from "../codec/layout.ts";
import type { Views } from "../runtime/heap.ts";
import type { Kernels } from "../runtime/kernels.ts";
import { nibbleOf, readCounts, readGroup } from "./parts.ts";
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
    const parts = levelParts(counts);
    const rows = STRIP_ROWS * stripCount(counts);
    const sums = views.f32(sumsPtr, mixSumBytes(counts, queryCount) / 4);
    const rowsFrom = parts * queryCount * LANES;

    /** weight * norm of the 32 tokens of a block. */
    const weighted = (planesPtr: number, weightsPtr: number): Float32Array => {
      const codes = views.u8(planesPtr + PLANE_BYTES * planes, BLOCK_TOKENS);
      return views.f32(weightsPtr, BLOCK_TOKENS).map((weight, t) => weight * norms[codes[t]]);
    };
    const nibblesOf = (planesPtr: number, plane: number) => views.u8(planesPtr + PLANE_BYTES * plane, PLANE_BYTES);

    for (let first = 0; first < blockCount; first += MIX_BLOCKS) {
      const few = Math.min(MIX_BLOCKS, blockCount - first);
      const addresses = views.u32(blocksPtr + 8 * first, 2 * few);
      for (let q = 0; q < queryCount; q++) {
        const blocks = Array.from({ length: few }, (_, i) => ({
          planesPtr: addresses[2 * i],
          weights: weighted(addresses[2 * i], addresses[2 * i + 1] + 4 * q * weightStride),
        }));
        const greatest = Math.max(...blocks.flatMap(({ weights }) => [...weights]));
        const steps = stepsOf(greatest, MIX_LEVEL);
        for (let part = 0; part < parts; part++) {
          const levels = levelsAt(views, levelsPtr + 2 * PART_LEVELS * part);
          const lanes = [0, 0, 0, 0];
          for (const { planesPtr, weights } of blocks) {
            const nibbles = nibblesOf(planesPtr, part);
            for (let t = 0; t < BLOCK_TOKENS; t++) {
              lanes[Math.floor(t / 2) % LANES] += steps.of(weights[t]) * levels[nibbleOf(nibbles, t)];
            }
          }
          lanes.forEach((sum, lane) => {
            sums[(part * queryCount + q) * LANES + lane] += fround(fround(sum) * steps.size);
          });
        }
        const lanes = new Float32Array(LANES);
        for (const { weights } of blocks) {
          weights.forEach((weight, t) => {
            lanes[t % LANES] += weight;
          });
        }
        const whole = stepsOf(sumOfLanes(lanes), MIX_TOTAL);
        let total = 0;
        const set = new Array<number>(rows).fill(0);
        for (const { planesPtr, weights } of blocks) {
          for (let t = 0; t < BLOCK_TOKENS; t++) {
            const weight = whole.of(weights[t]);
            total += weight;
            for (let row = 0; row < 4 * (planes - parts); row++) {
              const nibble = nibbleOf(nibblesOf(planesPtr, parts + (row >> 2)), t);
              if ((nibble >> (row & 3)) & 1) set[row] += weight;
            }
          }
        }
        set.forEach((sum, row) => {
          const strip = Math.floor(row / STRIP_ROWS);
          const at = rowsFrom + (strip * queryCount + q) * STRIP_ROWS + (row % STRIP_ROWS);
          sums[at] += fround(sum * whole.size);
        });
        sums[rowsFrom + rows * queryCount + q] += fround(total * whole.size);
      }
    }
  },

  foldMix(latentsPtr, sumsPtr, scalesPtr, countsPtr, queryCount, latentStride) {
    const counts = readCounts(views, countsPtr);
    const { count8, count4, count2 } = counts;
    const channels = channelCount(counts);
    const latents = views.f32(latentsPtr, channels * latentStride).fill(0);
    const factors = views.f32(scalesPtr, mixScaleCount(counts));
    const sums = views.f32(sumsPtr, mixSumBytes(counts, queryCount) / 4);
    const parts = levelParts(counts);
    const rows = STRIP_ROWS * stripCount(counts);
    const rowsFrom = parts * queryCount * LANES;
    const rowSum = (row: number, q: number): number => {
      const strip = Math.floor(row / STRIP_ROWS);
      return sums[rowsFrom + (strip * queryCount + q) * STRIP_ROWS + (row % STRIP_ROWS)];
    };
    for (let q = 0; q < queryCount; q++) {
      for (let part = 0; part < parts; part++) {
        const lanes = sums.subarray((part * queryCount + q) * LANES, (part * queryCount + q + 1) * LANES);
        const channel = part < 2 * count8 ? part >> 1 : part - count8;
        latents[channel * latentStride + q] += fround(factors[part] * sumOfLanes(lanes));
      }
      const total = sums[rowsFrom + rows * queryCount + q];
      for (let channel = count8 + count4; channel < channels; channel++) {
        const c = channel - count8 - count4;
        const own = c < count2 ? [2 * c, 2 * c + 1] : [roundUp(2 * count2, 4) + c - count2];
        const at = channel * latentStride + q;
        latents[at] = fround(factors[parts + rows + c] * total);
        for (const row of own) latents[at] += fround(factors[parts + row] * rowSum(row, q));
      }
    }
  },
});

/** Whole steps of a number, where `steps` of them are the greatest, and what a step is. */
function stepsOf(greatest: number, steps: number): { of: (x: number) => number; size: number } {
  const inverse = greatest > 0 ? fround(steps / greatest) : 0;
  return { of: (x) => roundedSteps(fround(x * inverse)), size: fround(greatest / steps) };
}

/** 16 i16 levels of a part: low bytes, then high bytes. */
function levelsAt(views: Views, partPtr: number): Int16Array {
  const bytes = views.u8(partPtr, 2 * PART_LEVELS);
  return Int16Array.from({ length: PART_LEVELS }, (_, i) => bytes[i] | (bytes[PART_LEVELS + i] << 8));
}
