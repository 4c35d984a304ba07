/**
 * What a model's queries are like, for engines that hand out none: their second moments before RoPE. They are a
 * property of the model and carry over between texts; from them the metric of any cache follows (metric.ts).
 */
import { expectInteger } from "../errors.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Geometry } from "./geometry.ts";
import { momentScratchBytes } from "./layout.ts";
import { putRotary, type Rotary, type RotaryLayout } from "./rotary.ts";
import type { QueryData } from "./source.ts";
import { loadTensor } from "./tensors.ts";

/** E[q q'] over queries (queryHeads, count, headDim), the query heads of a kv head together: (kvHeads, headDim, headDim). */
export function momentsOf(
  runtime: Runtime,
  query: QueryData,
  { kvHeads, headDim }: Pick<Geometry, "kvHeads" | "headDim">,
  /** Undefined for queries before RoPE; those after it are turned back. */
  rotary?: Rotary,
): Float32Array {
  const { kernels, heap } = runtime;
  const { queryHeads, count, firstToken } = query;
  expectInteger("query heads a kv head", queryHeads / kvHeads, 1, 1024);
  return heap.scratch((frame) => {
    const rows = queryHeads * count;
    const rowsPtr = loadTensor(runtime, frame, "query", query, rows * headDim);
    if (rotary) {
      const turnsPtr = frame.reserve(4 * rows);
      const rotaryPtr = putRotary(heap, frame, rotary, headDim);
      heap.i32(turnsPtr, rows).forEach((_, i, turns) => {
        turns[i] = -(firstToken + (i % count));
      });
      kernels.rotate(rowsPtr, rowsPtr, turnsPtr, rotaryPtr, rows, 1);
    }
    const square = headDim * headDim;
    const [momentPtr, scratchPtr] = [frame.reserve(8 * square), frame.reserve(momentScratchBytes(headDim))];
    const moments = new Float32Array(kvHeads * square);
    const rowsAHead = rows / kvHeads;
    for (let head = 0; head < kvHeads; head++) {
      const from = rowsPtr + 4 * head * rowsAHead * headDim;
      kernels.secondMoment(momentPtr, from, 0, 0, scratchPtr, rowsAHead, headDim);
      moments.set(heap.f64(momentPtr, square), head * square);
    }
    return moments;
  });
}

/** Moments (kvHeads, headDim, headDim) with dimensions in the order of another layout of `pairs` rotary pairs. */
export function momentsInLayout(
  moments: Float32Array,
  { kvHeads, headDim }: Pick<Geometry, "kvHeads" | "headDim">,
  pairs: number,
  from: RotaryLayout,
  to: RotaryLayout,
): Float32Array {
  if (from === to) return moments;
  const order = Int32Array.from({ length: headDim }, (_, d) => placeOf(d, pairs, to, from));
  const out = new Float32Array(moments.length);
  for (let head = 0, i = 0; head < kvHeads; head++) {
    const first = head * headDim * headDim;
    for (let a = 0; a < headDim; a++) {
      for (let b = 0; b < headDim; b++) out[i++] = moments[first + order[a] * headDim + order[b]];
    }
  }
  return out;
}

/** Where dimension d of layout `from` stands in layout `to`: interleaved 2i and 2i + 1 are half-split i and i + pairs. */
function placeOf(d: number, pairs: number, from: RotaryLayout, to: RotaryLayout): number {
  if (from === to || d >= 2 * pairs) return d;
  return from === "interleaved" ? (d >> 1) + (d & 1) * pairs : d < pairs ? 2 * d : 2 * (d - pairs) + 1;
}
