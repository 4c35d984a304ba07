/** Twins of assembly/score.ts. */
import { BLOCK_TOKENS, PART_LEVELS, PLANE_BYTES, roundUp, SCORE_SET, scoreSetBytes } from "../codec/layout.ts";
import type { Views } from "../runtime/heap.ts";
import type { Kernels } from "../runtime/kernels.ts";
import { nibbleOf, readGroup, usedParts } from "./parts.ts";
import { roundedSteps } from "./rounding.ts";

const { fround } = Math;

/** Entries of a plane. */
const MOST_STEPS = 65280;
/** Instructions a query: of a plane, of its high bytes, of a run; of a plane and its high bytes without runs. */
const PLANE_COST = 10;
const WIDE_COST = 10;
const RUN_COST = 20;
const DIRECT_COST = 16;
const DIRECT_WIDE_COST = 13;

export const scoreTwins = (views: Views): Pick<Kernels, "scoreTables" | "scorePlanes" | "blockMaxima"> => ({
  scoreTables(setsPtr, latentsPtr, groupPtr, _scratchPtr, setCount, latentStride, leastStep) {
    const { counts, channels, planes, levelsPtr, queryCount } = readGroup(views, groupPtr);
    const latents = views.f32(latentsPtr, (channels + 1) * latentStride);
    const parts = usedParts(counts);

    /** Planes of 16 f32: what each nibble adds to the score of the query in a column of latents. */
    const levelsOf = (column: number): Float32Array[] => {
      const sums = Array.from({ length: planes }, () => new Float32Array(PART_LEVELS));
      for (const { channel, part, plane } of parts) {
        const y = latents[channel * latentStride + column];
        views.f32(levelsPtr + 4 * PART_LEVELS * part, PART_LEVELS).forEach((level, nibble) => {
          sums[plane][nibble] += fround(y * level);
        });
      }
      return sums;
    };

    for (let s = 0; s < setCount; s++) {
      const set = setAt(views, setsPtr + s * scoreSetBytes(planes, queryCount), planes, queryCount);
      set.steps.fill(0);
      set.biases.fill(0);
      /** Of the greatest entry of each plane, over all queries. */
      const mosts = new Array<number>(planes).fill(0);
      const entries = Array.from({ length: queryCount }, (_, q) => {
        const column = s * queryCount + q;
        const levels = levelsOf(column);
        let bias = latents[channels * latentStride + column];
        let range = 0;
        for (const plane of levels) {
          const least = Math.min(...plane);
          bias = fround(bias + least);
          range = Math.max(range, fround(Math.max(...plane) - least));
        }
        set.steps[q] = Math.max(fround(leastStep), fround(range / MOST_STEPS));
        set.biases[q] = bias;
        const inverse = fround(1 / set.steps[q]);
        return levels.map((plane, p) => {
          const least = Math.min(...plane);
          const rounded = Array.from(plane, (level) => roundedSteps(fround(fround(level - least) * inverse)));
          mosts[p] = Math.max(mosts[p], ...rounded);
          return rounded;
        });
      });

      const { lowBits, runs, wide } = cheapestSplit(mosts);
      set.counts.set([runs.length, wide, planes, queryCount, lowBits]);
      set.runs.fill(0);
      set.runs.set(runs);
      for (let p = 0; p < planes; p++) {
        for (let q = 0; q < queryCount; q++) {
          entries[q][p].forEach((entry, nibble) => {
            const at = (p * queryCount + q) * PLANE_BYTES + nibble;
            set.lows[at] = entry & (2 ** lowBits - 1);
            set.highs[at] = entry >> lowBits;
          });
        }
      }
    }
  },

  scorePlanes(scoresPtr, blocksPtr, setsPtr, blockCount, setStrideBytes, blocksPerSet, skippedBlocks, scoreStride) {
    const blocks = views.u32(blocksPtr, blockCount);
    for (let i = 0; i < blockCount; i++) {
      const setPtr = setsPtr + setStrideBytes * Math.floor((skippedBlocks + i) / blocksPerSet);
      const [planes, queryCount] = setCounts(views, setPtr).subarray(2);
      const set = setAt(views, setPtr, planes, queryCount);
      const lowBits = set.counts[4];
      const nibbles = Array.from({ length: planes }, (_, p) => views.u8(blocks[i] + p * PLANE_BYTES, PLANE_BYTES));
      for (let q = 0; q < queryCount; q++) {
        const scores = views.f32(scoresPtr + 4 * (q * scoreStride + i * BLOCK_TOKENS), BLOCK_TOKENS);
        for (let t = 0; t < BLOCK_TOKENS; t++) {
          let sum = 0;
          for (let p = 0; p < planes; p++) {
            const at = (p * queryCount + q) * PLANE_BYTES + nibbleOf(nibbles[p], t);
            sum += set.lows[at] + (set.highs[at] << lowBits);
          }
          scores[t] = fround(set.biases[q] + fround(set.steps[q] * fround(sum)));
        }
      }
    }
  },

  blockMaxima(maximaPtr, scoresPtr, blockCount) {
    const maxima = views.f32(maximaPtr, blockCount);
    for (let i = 0; i < blockCount; i++) {
      maxima[i] = Math.max(maxima[i], ...views.f32(scoresPtr + 4 * BLOCK_TOKENS * i, BLOCK_TOKENS));
    }
  },
});

/** runCount, wideCount, planes, queries, lowBits. */
const setCounts = (views: Views, setPtr: number): Uint32Array => views.u32(setPtr + SCORE_SET.runCount, 5);

/** The fields of SCORE_SET. */
function setAt(views: Views, setPtr: number, planes: number, queries: number) {
  const runsPtr = setPtr + SCORE_SET.runs;
  const lowsPtr = runsPtr + roundUp(planes, 16);
  const entryBytes = PLANE_BYTES * planes * queries;
  return {
    steps: views.f32(setPtr + SCORE_SET.steps, 4),
    biases: views.f32(setPtr + SCORE_SET.biases, 4),
    counts: setCounts(views, setPtr),
    runs: views.u8(runsPtr, roundUp(planes, 16)),
    lows: views.u8(lowsPtr, entryBytes),
    highs: views.u8(lowsPtr + entryBytes, entryBytes),
  };
}

interface Split {
  lowBits: number;
  /** Planes of each run. */
  runs: number[];
  /** Planes up to the last with high bytes. */
  wide: number;
}

/** The split that costs least, of equals that with most low bits; no runs where none pays. */
function cheapestSplit(mosts: number[]): Split {
  const total = mosts.reduce((a, b) => a + b, 0);
  const wide = lastAbove(mosts, 255);
  let best: Split = { lowBits: 8, runs: [], wide };
  let bestCost = DIRECT_COST * mosts.length + DIRECT_WIDE_COST * wide;
  for (let bits = 8; bits >= 0 && total >> bits < 256; bits--) {
    const split = splitAt(mosts, bits);
    const cost = PLANE_COST * mosts.length + WIDE_COST * split.wide + RUN_COST * split.runs.length;
    if (cost < bestCost) [best, bestCost] = [split, cost];
  }
  return best;
}

/** Runs as long as the greatest low bytes of their planes sum below 256. */
function splitAt(mosts: number[], lowBits: number): Split {
  const mask = 2 ** lowBits - 1;
  const runs: number[] = [];
  let sum = Infinity;
  for (const most of mosts) {
    const low = Math.min(most, mask);
    sum += low;
    if (sum > 255) {
      runs.push(0);
      sum = low;
    }
    runs[runs.length - 1]++;
  }
  return { lowBits, runs, wide: lastAbove(mosts, mask) };
}

/** How many there are up to the last above the limit. */
const lastAbove = (mosts: number[], limit: number): number => mosts.findLastIndex((most) => most > limit) + 1;
