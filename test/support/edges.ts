/** Inputs that break careless arithmetic, (rowCount, dim) f32. Sizes may be anything; the outlier lies in the middle. */
import { noise } from "./noise.ts";

export const EDGES: [name: string, make: (rowCount: number, dim: number) => Float32Array][] = [
  ["zeros of both signs", (rowCount, dim) => Float32Array.from({ length: rowCount * dim }, (_, i) => (i % 3 ? 0 : -0))],
  ["a constant channel", (rowCount, dim) => noise(rowCount * dim, 2).map((x, i) => (i % dim === dim >> 1 ? -1.7 : x))],
  [
    "one huge outlier",
    (rowCount, dim) => noise(rowCount * dim, 3).map((x, i) => (i === (rowCount * dim) >> 1 ? 1e18 : x)),
  ],
  ["denormals", (rowCount, dim) => noise(rowCount * dim, 4).map((x) => x * 1e-40)],
  [
    "rank 1",
    (rowCount, dim) =>
      Float32Array.from({ length: rowCount * dim }, (_, i) => (1 + (i % dim)) * (1 + Math.floor(i / dim))),
  ],
];
