/**
 * Lower precision for old tokens: trailing planes of their blocks are dropped, weakest channels first, and nothing is
 * coded again. A dropped channel then reads as its mean, which is zero.
 */
import { BLOCK_TOKENS, PLANE_BYTES, planeCount } from "../codec/layout.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Segment } from "./attention.ts";
import { groupsOf } from "./coding.ts";
import { GroupModel, type GroupShape } from "./group-model.ts";
import { GroupTokens } from "./group-tokens.ts";

/** Widths that a step drops: first channels of 1 bit, then of 2, then of 4. */
const STEPS = [1, 2, 4] as const;

/** Lowers the oldest segment that can be, or the older half of it. Returns false where none can. */
export function lowerSegment(runtime: Runtime, segments: Segment[], anchorSpan: number | null): boolean {
  for (const [i, segment] of segments.entries()) {
    const width = STEPS.find((step) =>
      groupsOf(segment).some(({ model }) => has(model.shape, step) && !all(model.shape, step)),
    );
    if (width === undefined) continue;
    const whole = Math.floor(segment.keys[0].count / BLOCK_TOKENS);
    const spanBlocks = Math.max(1, (anchorSpan ?? 1) / BLOCK_TOKENS);
    const half = Math.ceil(whole / 2 / spanBlocks) * spanBlocks;
    const isLast = i === segments.length - 1;
    // The last segment goes on growing at full precision, so its younger half stays as it is.
    const blocks = isLast ? half : segment.keys[0].blocks.length;
    if (blocks === 0 || (isLast && blocks > whole) || !pays(segment, blocks, width, isLast)) continue;
    const lowered = lowerBlocks(runtime, segment, blocks, width);
    if (isLast) {
      segments.splice(i, 0, lowered);
      segment.position += blocks * BLOCK_TOKENS;
    } else {
      segments[i] = lowered;
      for (const group of groupsOf(segment)) group.dispose();
    }
    for (const landmarks of segment.landmarks) landmarks?.dispose();
    segment.landmarks.length = 0;
    return true;
  }
  return false;
}

const has = (shape: GroupShape, width: number): boolean => shape.books.some((book) => book.width === width);
const all = (shape: GroupShape, width: number): boolean => shape.books.every((book) => book.width <= width);

/** True where dropped planes weigh more than the models that the lowered blocks need. */
function pays(segment: Segment, blocks: number, width: number, keepsModel: boolean): boolean {
  let saved = 0;
  for (const { model } of groupsOf(segment)) {
    const { count8, count4, count2 } = model.counts;
    const kept = planeCount({ count8, count4: width < 4 ? count4 : 0, count2: width < 2 ? count2 : 0, count1: 0 });
    saved += blocks * PLANE_BYTES * (model.planes - kept);
    if (keepsModel) saved -= model.bytes - model.pool.bytesHeld;
  }
  return saved > 0;
}

/** The first `blocks` blocks without channels of up to `width` bits; they are taken out of the segment. */
function lowerBlocks(runtime: Runtime, segment: Segment, blocks: number, width: number): Segment {
  const made: GroupTokens[] = [];
  try {
    for (const group of groupsOf(segment)) made.push(lowered(runtime, group, blocks, width));
  } catch (error) {
    for (const group of made) group.dispose();
    throw error;
  }
  for (const group of groupsOf(segment)) group.dropFirst(blocks);
  const keys = made.slice(0, segment.keys.length);
  return { keys, values: made.slice(keys.length), landmarks: [], position: segment.position };
}

function lowered(runtime: Runtime, group: GroupTokens, blocks: number, width: number): GroupTokens {
  const { model } = group;
  const narrow = new GroupModel(runtime, withoutUpTo(model.shape, width, model.dim), model.headDim);
  const planeBytes = PLANE_BYTES * narrow.planes;
  const { heap } = runtime;
  return GroupTokens.ofBlocks(runtime, narrow, Math.min(group.count, blocks * BLOCK_TOKENS), (block, ptr) => {
    const from = group.blocks[block];
    heap.u8(ptr, planeBytes).set(heap.u8(from, planeBytes));
    if (model.role === "keys") return;
    heap.u8(ptr + planeBytes, BLOCK_TOKENS).set(heap.u8(from + PLANE_BYTES * model.planes, BLOCK_TOKENS));
  });
}

/** The leading channels, those of more than `width` bits; all where none has more. */
function withoutUpTo(shape: GroupShape, width: number, dim: number): GroupShape {
  const kept = shape.books.filter((book) => book.width > width).length;
  if (kept === 0) return shape;
  const { widths, scales, codes, ...rest } = shape.basis;
  return {
    ...shape,
    books: shape.books.slice(0, kept),
    basis: { ...rest, widths: widths.slice(0, kept), scales: scales.slice(0, kept), codes: codes.slice(0, kept * dim) },
  };
}
