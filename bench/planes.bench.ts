/** Codes to planes and back against the twin, for one width at a time and for a mix that the codec chooses. */
import { blockCount, PLANE_BYTES, planeCount, type WidthCounts } from "../src/codec/layout.ts";
import type { Runtime } from "../src/runtime/runtime.ts";
import { type BenchRow, measure, row } from "./harness.ts";

const [CHANNELS, TOKENS] = [128, 2048];

const MIXES: Record<string, WidthCounts> = {
  "width 8": { count8: CHANNELS, count4: 0, count2: 0, count1: 0 },
  "width 4": { count8: 0, count4: CHANNELS, count2: 0, count1: 0 },
  "width 2": { count8: 0, count4: 0, count2: CHANNELS, count1: 0 },
  "width 1": { count8: 0, count4: 0, count2: 0, count1: CHANNELS },
  "mixed widths": { count8: 3, count4: 35, count2: 51, count1: 39 },
};

export default async function (runtime: Runtime, reference: Runtime): Promise<BenchRow[]> {
  return Object.entries(MIXES).flatMap(([name, counts]) => {
    const [ours, twin] = [times(runtime, counts), times(reference, counts)];
    const work = `${name}, ${CHANNELS} x ${TOKENS}`;
    return [
      row("planes", `packPlanes ${work}`, ours.pack, "TypeScript twin", twin.pack),
      row("planes", `unpackPlanes ${work}`, ours.unpack, "TypeScript twin", twin.unpack),
    ];
  });
}

function times({ kernels, heap }: Runtime, counts: WidthCounts): { pack: number; unpack: number } {
  const { count8, count4, count2, count1 } = counts;
  const blocks = blockCount(TOKENS);
  return heap.scratch((frame) => {
    const [codesPtr, blocksPtr] = [CHANNELS * TOKENS, blocks * planeCount(counts) * PLANE_BYTES].map((bytes) =>
      frame.reserve(bytes),
    );
    // Codes of 0 and 1 are in range for every width, and no branch of a kernel looks at a code.
    heap.u8(codesPtr, CHANNELS * TOKENS).forEach((_, i, codes) => {
      codes[i] = (i * 7919) & 1;
    });
    return {
      pack: measure(() => kernels.packPlanes(blocksPtr, codesPtr, count8, count4, count2, count1, blocks, TOKENS)),
      unpack: measure(() => kernels.unpackPlanes(codesPtr, blocksPtr, count8, count4, count2, count1, blocks, TOKENS)),
    };
  });
}
