/**
 * What key errors cost: on average e'Me, with M block diagonal over kv heads and in the frame of anchored keys. Of
 * queries a key error e costs (q·e)^2 in the score, so M = E[q q'] over queries rotated back by the anchors: the prompt's
 * own, or those that the model is known for (query-moments.ts). Where the model's Fisher information is known
 * (fisher.ts), M is that of the keys, and errors are in nats of the next token.
 */
import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { type AnchorSpan, type Anchors, anchorOf, anchorsOf } from "./anchors.ts";
import { leastEigenvalue } from "./fisher.ts";
import type { HeadGroup } from "./groups.ts";
import { momentScratchBytes } from "./layout.ts";
import { type MetricRoot, squareRoot } from "./metric-root.ts";
import { putRotary, type Rotary } from "./rotary.ts";
import type { QueryData } from "./source.ts";

const ANCHOR_STRIDE = 128;
const MOST_ANCHORS = 64;
/** Odd, so that it meets all of MOST_ANCHORS places. */
const PLACE_STRIDE = 37;
/** Of the golden ratio: its multiples lie evenly, whatever a context and its spans are multiples of. */
const GOLDEN_PART = 0.6180339887498949;

/** Queries of a layer in linear memory: (queryHeads, count, headDim) f32. */
export interface LayerQueries extends Omit<QueryData, "bytes" | "type"> {
  ptr: number;
}

/** Second moments of a layer's queries before RoPE, in linear memory: (kvHeads, headDim, headDim) f32. */
interface LayerMoments {
  momentsPtr: number;
  /** Where the queries will stand: the first position behind the cache. */
  nextToken: number;
}

/** Fisher information of a layer's keys before RoPE, in linear memory: (kvHeads, headDim, headDim) f32. */
interface LayerFisher {
  fisherPtr: number;
  /** That the keys are of. */
  tokens: number;
}

/** What there is of a layer to make the keys' metric of. */
export type KeyMetric = LayerQueries | LayerMoments | LayerFisher;

/** A root a kv head of the group. */
export function metricRoots(
  runtime: Runtime,
  known: KeyMetric,
  group: HeadGroup,
  kvHeads: number,
  headDim: number,
  rotary: Rotary,
  anchorSpan: AnchorSpan,
): MetricRoot[] {
  const anchors = anchorsOf(anchorSpan, rotary, headDim);
  const least =
    "fisherPtr" in known
      ? leastEigenvalue(runtime.heap.f32(known.fisherPtr, kvHeads * headDim ** 2), group, headDim)
      : undefined;
  return Array.from({ length: group.headCount }, (_, i) =>
    runtime.heap.scratch((frame) => {
      const head = group.firstHead + i;
      const momentPtr = frame.reserve(8 * headDim * headDim);
      if ("queryHeads" in known) {
        const rows = (known.queryHeads / kvHeads) * known.count;
        const scratchPtr = frame.reserve(momentScratchBytes(headDim));
        runtime.kernels.secondMoment(momentPtr, known.ptr + 4 * head * rows * headDim, 0, 0, scratchPtr, rows, headDim);
        const meetings = keysUpTo(known.firstToken, anchors).map((key) => ({ turned: 0, key }));
        if (anchors.least !== null) averageOverMeetings(runtime, frame, momentPtr, meetings, anchors);
      } else {
        const [ptr, meetings] =
          "fisherPtr" in known
            ? [known.fisherPtr, keysThemselves(known.tokens)]
            : [known.momentsPtr, meetingsBehind(known.nextToken, anchors)];
        const moment = runtime.heap.f32(ptr + 4 * head * headDim * headDim, headDim * headDim);
        runtime.heap.f64(momentPtr, headDim * headDim).set(moment);
        averageOverMeetings(runtime, frame, momentPtr, meetings, anchors);
      }
      return squareRoot(runtime, frame, momentPtr, headDim, least);
    }),
  );
}

/** What meets a key is rotated on by `turned` positions and back by the key's anchors. */
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

/** What is known of keys before RoPE turns with them, evenly over all places in a span. */
function keysThemselves(tokens: number): Meeting[] {
  return Array.from({ length: MOST_ANCHORS }, (_, i) => {
    const key = Math.floor(tokens * ((i * GOLDEN_PART) % 1));
    return { turned: key, key };
  });
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
