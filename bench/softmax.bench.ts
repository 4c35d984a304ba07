/** Softmax of a long row of scores against plain typed-array JavaScript with Math.exp. */
import type { Runtime } from "../src/runtime/runtime.ts";
import { noise } from "../test/support/noise.ts";
import { type BenchRow, measure, row } from "./harness.ts";

const COUNT = 8192;

export default async function ({ kernels, heap }: Runtime): Promise<BenchRow[]> {
  const scores = noise(COUNT).map((x) => 10 * x);
  const ours = heap.scratch((frame) => {
    const [scoresPtr, weightsPtr] = [frame.reserve(4 * COUNT), frame.reserve(4 * COUNT)];
    heap.f32(scoresPtr, COUNT).set(scores);
    return measure(() => kernels.softmax(weightsPtr, scoresPtr, COUNT, 0.125));
  });
  const weights = new Float32Array(COUNT);
  const plain = measure(() => {
    let greatest = -Infinity;
    for (const x of scores) greatest = Math.max(greatest, x);
    let sum = 0;
    for (let i = 0; i < COUNT; i++) sum += weights[i] = Math.exp(0.125 * (scores[i] - greatest));
    for (let i = 0; i < COUNT; i++) weights[i] /= sum;
  });
  return [row("softmax", `softmax of ${COUNT} scores`, ours, "typed-array JavaScript, Math.exp", plain)];
}
