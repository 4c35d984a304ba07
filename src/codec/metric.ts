/**
 * What queries make of key errors: a key error e costs (q·e)^2 in the score, on average e'Me with M = E[q q'] over the
 * queries as anchored keys meet them, rotated back by the anchors. Block diagonal over kv heads. The queries are the
 * prompt's own, or those that the model is known for: their second moments before RoPE (query-moments.ts).
 */
import { ConvergenceError } from "../errors.ts";
import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { type AnchorSpan, type Anchors, anchorOf, anchorsOf } from "./anchors.ts";
import type { HeadGroup } from "./groups.ts";
import { eigenScratchBytes, momentScratchBytes } from "./layout.ts";
import { putRotary, type Rotary } from "./rotary.ts";
import type { QueryData } from "./source.ts";

/** Eigenvalues of M below this part of their mean are raised to it. */
const EIGENVALUE_FLOOR = 1e-3;
const ANCHOR_STRIDE = 128;
const MOST_ANCHORS = 64;
/** Odd, so that it meets all of MOST_ANCHORS places. */
const PLACE_STRIDE = 37;

/** M^½ and M^-½ of one kv head: (headDim, headDim) f64, symmetric. */
export interface MetricRoot {
  root: Float64Array;
  inverse: Float64Array;
}

/** Queries of a layer in linear memory: (queryHeads, count, headDim) f32. */
export interface LayerQueries extends Omit<QueryData, "bytes" | "type"> {
  ptr: number;
}

/** Second moments of a layer's queries before RoPE, in linear memory: (kvHeads, headDim, headDim) f32. */
export interface LayerMoments {
  momentsPtr: number;
  /** Where the queries will stand: the first position behind the cache. */
  nextToken: number;
}

/** A root a kv head of the group. */
export function metricRoots(
  runtime: Runtime,
  queries: LayerQueries | LayerMoments,
  group: HeadGroup,
  kvHeads: number,
  headDim: number,
  rotary: Rotary,
  anchorSpan: AnchorSpan,
): MetricRoot[] {
  const anchors = anchorsOf(anchorSpan, rotary, headDim);
  return Array.from({ length: group.headCount }, (_, i) =>
    runtime.heap.scratch((frame) => {
      const head = group.firstHead + i;
      const momentPtr = frame.reserve(8 * headDim * headDim);
      if ("momentsPtr" in queries) {
        const moment = runtime.heap.f32(queries.momentsPtr + 4 * head * headDim * headDim, headDim * headDim);
        runtime.heap.f64(momentPtr, headDim * headDim).set(moment);
        averageOverMeetings(runtime, frame, momentPtr, meetingsBehind(queries.nextToken, anchors), anchors);
      } else {
        const rows = (queries.queryHeads / kvHeads) * queries.count;
        const scratchPtr = frame.reserve(momentScratchBytes(headDim));
        const rowsPtr = queries.ptr + 4 * head * rows * headDim;
        runtime.kernels.secondMoment(momentPtr, rowsPtr, 0, 0, scratchPtr, rows, headDim);
        const meetings = keysUpTo(queries.firstToken, anchors).map((key) => ({ turned: 0, key }));
        if (anchors.least !== null) averageOverMeetings(runtime, frame, momentPtr, meetings, anchors);
      }
      return squareRoot(runtime, frame, momentPtr, headDim);
    }),
  );
}

/** A key that a query meets: the query is rotated on by `turned` positions and back by the key's anchors. */
interface Meeting {
  turned: number;
  key: number;
}

/** Keys that queries meet: an even sample of those before the first query. */
function keysUpTo(firstToken: number, { least }: Anchors): number[] {
  if (least === null) return [0];
  const stride = Math.max(least, ANCHOR_STRIDE, Math.ceil(firstToken / MOST_ANCHORS));
  return Array.from({ length: Math.max(1, Math.ceil(firstToken / stride)) }, (_, i) => i * stride);
}

/** Queries before RoPE that will stand at the next positions, each at another place in its turn. */
function meetingsBehind(nextToken: number, anchors: Anchors): Meeting[] {
  const keys = keysUpTo(nextToken, anchors);
  return Array.from({ length: MOST_ANCHORS }, (_, i) => ({
    turned: nextToken + ((i * PLACE_STRIDE) % MOST_ANCHORS),
    key: keys[i % keys.length],
  }));
}

/** Replaces M by the mean of R M R' over the meetings: rows are rotated by R, then, transposed, rotated again. */
function averageOverMeetings(
  { kernels, heap }: Runtime,
  frame: Frame,
  momentPtr: number,
  meetings: Meeting[],
  { parts, headDim }: Anchors,
): void {
  const turnsPtr = frame.reserve(4);
  const rowsPtr = frame.reserve(4 * headDim * headDim);
  const rotaryPtrs = parts.map(({ rotary }) => putRotary(heap, frame, rotary, headDim));
  const moment = heap.f64(momentPtr, headDim * headDim);
  const original = moment.slice();
  moment.fill(0);
  for (const { turned, key } of meetings) {
    const rows = heap.f32(rowsPtr, headDim * headDim);
    rows.set(original);
    for (let side = 0; side < 2; side++) {
      for (const [i, { span }] of parts.entries()) {
        heap.i32(turnsPtr, 1)[0] = turned - anchorOf(key, span);
        // All rows turn alike: as the heads of one.
        kernels.rotate(rowsPtr, rowsPtr, turnsPtr, rotaryPtrs[i], 1, headDim);
      }
      transposeInPlace(rows, headDim);
    }
    for (let i = 0; i < moment.length; i++) moment[i] += rows[i] / meetings.length;
  }
}

function transposeInPlace(matrix: Float32Array, n: number): void {
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < i; j++) [matrix[i * n + j], matrix[j * n + i]] = [matrix[j * n + i], matrix[i * n + j]];
  }
}

function squareRoot(runtime: Runtime, frame: Frame, momentPtr: number, n: number): MetricRoot {
  const { kernels, heap } = runtime;
  const [valuesPtr, scratchPtr] = [frame.reserve(8 * n), frame.reserve(eigenScratchBytes(n))];
  const [vectorsPtr, transposedPtr, scaledPtr, outPtr] = [0, 0, 0, 0].map(() => frame.reserve(8 * n * n));
  const sweeps = kernels.eigen(valuesPtr, vectorsPtr, momentPtr, scratchPtr, n);
  if (sweeps < 0) throw new ConvergenceError(`eigenvectors of the queries' second moment: status ${sweeps}`);
  kernels.transpose(transposedPtr, vectorsPtr, n, n);
  const values = heap.f64(valuesPtr, n).slice();
  const floor = Math.max((EIGENVALUE_FLOOR * values.reduce((a, b) => a + b, 0)) / n, Number.MIN_VALUE);
  const power = (scaleOf: (value: number) => number): Float64Array => {
    const vectors = heap.f64(vectorsPtr, n * n);
    const scaled = heap.f64(scaledPtr, n * n);
    for (let row = 0, i = 0; row < n; row++) {
      const scale = scaleOf(Math.max(values[row], floor));
      for (const end = i + n; i < end; i++) scaled[i] = vectors[i] * scale;
    }
    kernels.multiply(outPtr, transposedPtr, scaledPtr, n, n, n);
    return heap.f64(outPtr, n * n).slice();
  };
  return { root: power(Math.sqrt), inverse: power((value) => 1 / Math.sqrt(value)) };
}
