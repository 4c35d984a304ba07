/**
 * A new basis from streaming moments, in steps: each `next()` does one piece of work (an eigenproblem of a group, or the
 * books of one; some milliseconds for 192 elements), so that no token waits for all of it (docs/adr/0014).
 */
import { type Basis, basisOfMoment, rankFor } from "../codec/basis.ts";
import type { CodedGroup } from "../codec/coded.ts";
import { allocateKeys } from "../codec/compress.ts";
import { encodeGroup } from "../codec/group-codec.ts";
import { fromHalf, toHalf } from "../codec/half.ts";
import { metricRoots } from "../codec/metric.ts";
import { putF32 } from "../codec/tensors.ts";
import { allocateValues, toDirections } from "../codec/value-codec.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Segment } from "./attention.ts";
import { type CodingPlace, rowsOf } from "./coding.ts";
import type { GroupMoments } from "./drift.ts";
import type { ExactRows } from "./exact-rows.ts";
import type { GroupTokens } from "./group-tokens.ts";
import { type CacheOptions, codecOptionsOf } from "./options.ts";
import type { QueryLog } from "./query-log.ts";

/** Tokens that a basis is expected to serve: how finely its rows are coded. */
const SERVED_TOKENS = 4096;

export interface Refitted {
  keys: CodedGroup[];
  values: CodedGroup[];
}

type Place = CodingPlace & { options: CacheOptions };

/** Groups without tokens, on bases of the moments; `recent` says how latents are spread now. */
export function* refitSteps(
  place: Place,
  segment: Segment,
  moments: GroupMoments[],
  recent: ExactRows,
  log: QueryLog,
): Generator<undefined, Refitted> {
  const options = codecOptionsOf(place.options);
  const bases: { basis: Basis; centre: Uint16Array }[] = [];
  for (const [i, group] of segment.keys.entries()) {
    bases.push(keyBasis(place, group, moments[i], log));
    yield;
  }
  const keyWidths = allocateKeys(
    [bases.map(({ basis, centre }, i) => ({ ...headsOf(segment.keys[i]), basis, centre }))],
    options,
  )[0];
  const keys: CodedGroup[] = [];
  for (const [i, group] of segment.keys.entries()) {
    keys.push(codeKeys(place, segment, group, bases[i], keyWidths[i], recent));
    yield;
  }
  const values: CodedGroup[] = [];
  for (const [i, group] of segment.values.entries()) {
    const basis = valueBasis(place, group, moments[segment.keys.length + i]);
    yield;
    values.push(codeValues(place, segment, group, basis, recent));
    yield;
  }
  return { keys, values };
}

const headsOf = ({ model: { shape } }: GroupTokens) => ({ firstHead: shape.firstHead, headCount: shape.headCount });

/** Centre and basis of what was coded since the segment began. */
function keyBasis(place: Place, { model }: GroupTokens, moments: GroupMoments, log: QueryLog) {
  const { runtime, geometry, rotary, options } = place;
  const { heap } = runtime;
  const { dim } = model;
  return heap.scratch((frame) => {
    const old = heap.f32(model.centrePtr, dim).slice();
    const centre = Uint16Array.from(old, (x, d) => toHalf(x + moments.sum[d] / moments.count));
    const shift = Float64Array.from(centre, (bits, d) => fromHalf(bits) - old[d]);
    const momentPtr = putMoment(runtime, frame.reserve(8 * dim * dim), moments, shift);
    const { queries, queryHeads } = log.tensor(geometry.headDim);
    const metric =
      log.count > 0
        ? metricRoots(
            runtime,
            { ptr: putF32(heap, frame, queries), queryHeads, count: log.count, firstToken: log.firstToken },
            model.shape,
            geometry.kvHeads,
            geometry.headDim,
            rotary,
            options.anchorSpan,
          )
        : undefined;
    return { basis: basisOfMoment(runtime, momentPtr, dim, rankFor(dim, options.keyBits), metric), centre };
  });
}

function valueBasis({ runtime, options }: Place, { model }: GroupTokens, moments: GroupMoments): Basis {
  const { dim } = model;
  return runtime.heap.scratch((frame) => {
    const momentPtr = putMoment(runtime, frame.reserve(8 * dim * dim), moments, new Float64Array(dim));
    return basisOfMoment(runtime, momentPtr, dim, rankFor(dim, options.valueBits));
  });
}

/** Second moment about the old centre plus `shift`. */
function putMoment(
  { heap }: Runtime,
  ptr: number,
  { count, sum, products }: GroupMoments,
  shift: Float64Array,
): number {
  const dim = sum.length;
  const moment = heap.f64(ptr, dim * dim);
  for (let i = 0, at = 0; i < dim; i++) {
    for (let j = 0; j < dim; j++, at++) {
      moment[at] = products[at] / count - (sum[i] * shift[j] + shift[i] * sum[j]) / count + shift[i] * shift[j];
    }
  }
  return ptr;
}

function codeKeys(
  place: Place,
  segment: Segment,
  group: GroupTokens,
  { basis, centre }: { basis: Basis; centre: Uint16Array },
  widths: Uint8Array,
  recent: ExactRows,
): CodedGroup {
  const { runtime, options } = place;
  return runtime.heap.scratch((frame) => {
    const heads = headsOf(group);
    const position = segment.position + group.count;
    const rowsPtr = rowsOf(place, frame, position, heads, "keys", recent, 0, recent.count, 0);
    const centrePtr = putF32(runtime.heap, frame, Float32Array.from(centre, fromHalf));
    const coded = encodeGroup(runtime, {
      rowsPtr,
      rowCount: recent.count,
      basisTokens: SERVED_TOKENS,
      centrePtr,
      basis,
      widths,
      minMax: false,
      basisBits: options.basisBits,
    });
    return { ...heads, ...coded, planes: new Uint8Array(0), centre };
  });
}

function codeValues(place: Place, segment: Segment, group: GroupTokens, basis: Basis, recent: ExactRows): CodedGroup {
  const { runtime, options } = place;
  return runtime.heap.scratch((frame) => {
    const heads = headsOf(group);
    const rowsPtr = rowsOf(place, frame, segment.position, heads, "values", recent, 0, recent.count, 0);
    const norms = toDirections(runtime, rowsPtr, recent.count, basis.dim);
    const widths = allocateValues(basis, options.valueBits);
    const coded = encodeGroup(runtime, {
      rowsPtr,
      rowCount: recent.count,
      basisTokens: SERVED_TOKENS,
      centrePtr: 0,
      basis,
      widths,
      minMax: false,
      basisBits: options.basisBits,
    });
    return { ...heads, ...coded, planes: new Uint8Array(0), norms: { ...norms, codes: new Uint8Array(0) } };
  });
}
