/** Rotation of all heads of a layer against the twin. */
import { frequenciesOf, putRotary } from "../src/codec/rotary.ts";
import type { Runtime } from "../src/runtime/runtime.ts";
import { noise } from "../test/support/noise.ts";
import { type BenchRow, measure, row } from "./harness.ts";

const [ROWS, HEADS, HEAD_DIM] = [2048, 3, 64];

export default async function (runtime: Runtime, reference: Runtime): Promise<BenchRow[]> {
  return (["half-split", "interleaved"] as const).map((layout) =>
    row(
      "rotary",
      `rotate ${ROWS} x ${HEADS} x ${HEAD_DIM}, ${layout}`,
      time(runtime, layout),
      "TypeScript twin",
      time(reference, layout),
    ),
  );
}

function time({ kernels, heap }: Runtime, layout: "half-split" | "interleaved"): number {
  return heap.scratch((frame) => {
    const rotaryPtr = putRotary(heap, frame, { layout, frequencies: frequenciesOf(1e5, HEAD_DIM / 2) }, HEAD_DIM);
    const [rowsPtr, turnsPtr] = [frame.reserve(4 * ROWS * HEADS * HEAD_DIM), frame.reserve(4 * ROWS)];
    heap.f32(rowsPtr, ROWS * HEADS * HEAD_DIM).set(noise(ROWS * HEADS * HEAD_DIM));
    heap.i32(turnsPtr, ROWS).forEach((_, i, turns) => {
      turns[i] = i;
    });
    return measure(() => kernels.rotate(rowsPtr, rowsPtr, turnsPtr, rotaryPtr, ROWS, HEADS));
  });
}
