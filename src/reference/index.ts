/** The twins: every kernel in plain TypeScript over the same memory, bit for bit where its test says "exact". */
import { Views } from "../runtime/heap.ts";
import type { Kernels } from "../runtime/kernels.ts";
import { chooseTwins } from "./choose.ts";
import { denseTwins } from "./dense.ts";
import { eigenTwins } from "./eigen.ts";
import { matrixTwins } from "./matrix.ts";
import { mixTwins } from "./mix.ts";
import { momentTwins } from "./moments.ts";
import { planeTwins } from "./planes.ts";
import { projectTwins } from "./project.ts";
import { quantizeTwins } from "./quantize.ts";
import { rangeTwins } from "./range.ts";
import { rotaryTwins } from "./rotary.ts";
import { rowTwins } from "./rows.ts";
import { scoreTwins } from "./score.ts";
import { softmaxTwins } from "./softmax.ts";
import { subspaceTwins } from "./subspace.ts";

export function createReferenceKernels(memory: WebAssembly.Memory): Kernels {
  const views = new Views(memory);
  return {
    ...rowTwins(views),
    ...rotaryTwins(views),
    ...momentTwins(views),
    ...matrixTwins(views),
    ...eigenTwins(views),
    ...subspaceTwins(views),
    ...projectTwins(views),
    ...softmaxTwins(views),
    ...denseTwins(views),
    ...scoreTwins(views),
    ...chooseTwins(views),
    ...mixTwins(views),
    ...quantizeTwins(views),
    ...planeTwins(views),
    ...rangeTwins(views),
  };
}
