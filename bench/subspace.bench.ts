/** The leading channels of a wide layer against all of them by `eigen`, and against the twin. */
import { leadingScratchBytes, momentScratchBytes } from "../src/codec/layout.ts";
import type { Runtime } from "../src/runtime/runtime.ts";
import { noise } from "../test/support/noise.ts";
import { eigen, fallingMoment } from "./eigen.bench.ts";
import { type BenchRow, measure, row } from "./harness.ts";

interface Shape {
  tokens: number;
  dim: number;
  rank: number;
  oversample: number;
}

const WIDE: Shape = { tokens: 4096, dim: 1024, rank: 384, oversample: 32 };
const SMALL: Shape = { tokens: 512, dim: 128, rank: 32, oversample: 8 };
const FALL = 0.995;

export default async function (runtime: Runtime, reference: Runtime): Promise<BenchRow[]> {
  const [wide, small, twin] = [leading(runtime, WIDE), leading(runtime, SMALL), leading(reference, SMALL)];
  const all = eigen(runtime, fallingMoment(runtime, WIDE.tokens, WIDE.dim, FALL), WIDE.dim, 0);
  const captured = energy(wide.values) / energy(all.values.subarray(0, WIDE.rank));
  const note = `second moment included; captures ${(100 * captured).toFixed(3)} % of the energy of the exact leading channels`;
  return [
    row("subspace", nameOf(WIDE), wide.milliseconds, `eigen ${WIDE.dim} x ${WIDE.dim}`, all.milliseconds, note),
    row("subspace", nameOf(SMALL), small.milliseconds, "TypeScript twin", twin.milliseconds),
  ];
}

const nameOf = ({ tokens, dim, rank }: Shape): string => `leading ${rank} of ${tokens} x ${dim}`;

/** Rows to leading channels, second moment included. */
function leading({ kernels, heap }: Runtime, { tokens, dim, rank, oversample }: Shape) {
  return heap.scratch((frame) => {
    const k = rank + oversample;
    const [rowsPtr, momentScratch] = [frame.reserve(4 * tokens * dim), frame.reserve(momentScratchBytes(dim))];
    heap.f32(rowsPtr, tokens * dim).set(noise(tokens * dim).map((x, i) => x * FALL ** (i % dim)));
    const [momentPtr, vectorsPtr, valuesPtr] = [8 * dim * dim, 8 * k * dim, 8 * k].map((n) => frame.reserve(n));
    const scratchPtr = frame.reserve(leadingScratchBytes(dim, rank, oversample));
    const milliseconds = measure(() => {
      kernels.secondMoment(momentPtr, rowsPtr, 0, 0, momentScratch, tokens, dim);
      kernels.leadingEigen(valuesPtr, vectorsPtr, momentPtr, scratchPtr, dim, rank, oversample, 2);
    }, 0);
    return { milliseconds, values: heap.f64(valuesPtr, rank).slice() };
  });
}

const energy = (values: Float64Array): number => values.reduce((a, b) => a + b, 0);
