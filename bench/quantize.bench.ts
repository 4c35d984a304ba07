/** Latents to codes and back, and the step that the codebook search repeats, against the twin. */
import { BOOK } from "../src/codec/layout.ts";
import type { Runtime } from "../src/runtime/runtime.ts";
import { noise } from "../test/support/noise.ts";
import { type BenchRow, measure, row } from "./harness.ts";

const [CHANNELS, TOKENS] = [128, 2048];
const COUNT = CHANNELS * TOKENS;
const WIDTHS = [1, 2, 4, 8];

export default async function (runtime: Runtime, reference: Runtime): Promise<BenchRow[]> {
  const [ours, twin] = [times(runtime), times(reference)];
  return Object.keys(ours).map((name) =>
    row("quantize", `${name} ${CHANNELS} x ${TOKENS}`, ours[name], "TypeScript twin", twin[name]),
  );
}

/** One call a channel, as the codec calls them. */
function times({ kernels, heap }: Runtime): Record<string, number> {
  return heap.scratch((frame) => {
    const [bookPtr, unitPtr, extremesPtr, sumsPtr] = [BOOK.bytes, 4 * 256, 8, 16].map((bytes) => frame.reserve(bytes));
    const [valuesPtr, decodedPtr, codesPtr] = [4 * COUNT, 4 * COUNT, COUNT].map((bytes) => frame.reserve(bytes));
    heap.f32(valuesPtr, COUNT).set(noise(COUNT));
    const channels = Array.from({ length: CHANNELS }, (_, c) => c * TOKENS);
    const each = (work: (first: number) => void): number => measure(() => channels.forEach(work));

    const found: Record<string, number> = {};
    for (const bits of WIDTHS) {
      const last = 2 ** bits - 1;
      heap.f32(unitPtr, last + 1).set(Float32Array.from({ length: last + 1 }, (_, i) => (2 * i - last) / last));
      kernels.prepareBook(bookPtr, unitPtr, bits, 0.9, 0);
      found[`bookError, ${bits} bits`] = each((first) =>
        kernels.bookError(bookPtr, valuesPtr + 4 * first, TOKENS, 1, bits),
      );
      found[`encode, ${bits} bits`] = each((first) =>
        kernels.encode(codesPtr + first, bookPtr, valuesPtr + 4 * first, TOKENS, bits),
      );
      found[`decode, ${bits} bits`] = each((first) =>
        kernels.decode(decodedPtr + 4 * first, bookPtr, codesPtr + first, TOKENS, bits),
      );
    }
    found.encodeSteps = each((first) =>
      kernels.encodeSteps(codesPtr + first, sumsPtr, valuesPtr + 4 * first, TOKENS, 0.3, 0.4, 7, 15),
    );
    found.channelStatistics = each((first) => kernels.channelStatistics(extremesPtr, valuesPtr + 4 * first, TOKENS));
    return found;
  });
}
