/** The peers: every one with real bytes. The SVDq paper's own schedules come from the codec itself. */
import type { Baseline } from "./baseline.ts";
import { ggml } from "./ggml.ts";
import { kivi } from "./kivi.ts";
import { turboquant } from "./turboquant.ts";

export type { Baseline, TensorShape } from "./baseline.ts";
export { bitsPerElement } from "./baseline.ts";

const KINDS = ["key", "value"] as const;

export const BASELINES: readonly Baseline[] = KINDS.flatMap((kind) => [
  kivi(kind, 2),
  kivi(kind, 4),
  turboquant(kind, 2),
  turboquant(kind, 3),
  turboquant(kind, 4),
  ggml(kind, "q4_0"),
  ggml(kind, "q8_0"),
]);
