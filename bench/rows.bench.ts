/** Engine tensors to rows: f16 to f32 and back, and gathering heads, against the twin. */
import type { Runtime } from "../src/runtime/runtime.ts";
import { type BenchRow, measure, row } from "./harness.ts";

const [TOKENS, HEADS, HEAD_DIM] = [2048, 3, 64];
const COUNT = TOKENS * HEADS * HEAD_DIM;

export default async function (runtime: Runtime, reference: Runtime): Promise<BenchRow[]> {
  const [ours, twin] = [times(runtime), times(reference)];
  return (Object.keys(ours) as (keyof typeof ours)[]).map((name) =>
    row("rows", `${name} ${TOKENS} x ${HEADS} x ${HEAD_DIM}`, ours[name], "TypeScript twin", twin[name]),
  );
}

function times({ kernels, heap }: Runtime) {
  return heap.scratch((frame) => {
    const [bitsPtr, valuesPtr, rowsPtr] = [2 * COUNT, 4 * COUNT, 4 * COUNT].map((bytes) => frame.reserve(bytes));
    heap.u16(bitsPtr, COUNT).fill(0x3c01);
    const stride = TOKENS * HEAD_DIM;
    return {
      widenF16: measure(() => kernels.widenF16(valuesPtr, bitsPtr, COUNT)),
      narrowF16: measure(() => kernels.narrowF16(bitsPtr, valuesPtr, COUNT)),
      gatherRows: measure(() => kernels.gatherRows(rowsPtr, valuesPtr, TOKENS, HEADS, HEAD_DIM, stride, HEAD_DIM)),
    };
  });
}
