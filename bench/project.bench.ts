/** Rows to latents and back against the twin and a numpy f32 product. */
import type { Runtime } from "../src/runtime/runtime.ts";
import { noise } from "../test/support/noise.ts";
import { type BenchRow, measure, row } from "./harness.ts";
import { numpyTime } from "./numpy.ts";

const [ROWS, DIM, CHANNELS] = [2048, 192, 104];

export default async function (runtime: Runtime, reference: Runtime): Promise<BenchRow[]> {
  const [ours, twin] = [times(runtime), times(reference)];
  const work = `${ROWS} x ${DIM}, ${CHANNELS} channels`;
  const rows = [
    row("project", `project ${work}`, ours.project, "TypeScript twin", twin.project),
    row("project", `synthesize ${work}`, ours.synthesize, "TypeScript twin", twin.synthesize),
  ];
  const numpy = numpyTime(
    `x = np.ones((${ROWS}, ${DIM}), np.float32); a = np.ones((${DIM}, ${CHANNELS}), np.float32)\nprint(best(lambda: x @ a))`,
  );
  if (numpy) rows.push(row("project", `project ${work}`, ours.project, `${numpy.peer}, float32`, numpy.milliseconds));
  return rows;
}

function times({ kernels, heap }: Runtime): { project: number; synthesize: number } {
  return heap.scratch((frame) => {
    const [rowsPtr, basisPtr, latentsPtr] = [ROWS * DIM, DIM * CHANNELS, ROWS * CHANNELS].map((n) =>
      frame.reserve(4 * n),
    );
    heap.f32(rowsPtr, ROWS * DIM).set(noise(ROWS * DIM));
    heap.f32(basisPtr, DIM * CHANNELS).set(noise(DIM * CHANNELS));
    return {
      project: measure(() => kernels.project(latentsPtr, rowsPtr, 0, basisPtr, ROWS, DIM, CHANNELS, ROWS)),
      synthesize: measure(() => kernels.synthesize(rowsPtr, latentsPtr, 0, basisPtr, ROWS, DIM, CHANNELS, ROWS)),
    };
  });
}
