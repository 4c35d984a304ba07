/**
 * Lower precision for old tokens: trailing planes of their blocks are dropped, weakest channels first, and nothing is
 * coded again. A dropped channel then reads as its mean, which is zero.
 */
import type { Anchors } from "../codec/anchors.ts";
import { BLOCK_TOKENS, PLANE_BYTES, planeCount, roundUp } from "../codec/layout.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Segment } from "./attention.ts";
import { groupsOf } from "./coding.ts";
import { blockBytesOf, GroupModel, type GroupShape, slabBytes } from "./group-model.ts";
import { GroupTokens } from "./group-tokens.ts";

/** Widths that a step drops: first channels of 1 bit, then of 2, then of 4. */
const STEPS = [1, 2, 4] as const;

/** Parts of the last segment that a step lowers: it goes on growing at full precision, so younger tokens stay as they are. */
const PARTS = [1 / 2, 3 / 4];

/** Lowers the oldest segment that can be, or the older part of it. Returns false where none can. */
export function lowerSegment(runtime: Runtime, segments: Segment[], anchors: Anchors): boolean {
  for (const [i, segment] of segments.entries()) {
    const isLast = i === segments.length - 1;
    const step = stepFor(segment, isLast, anchors);
    if (!step) continue;
    const { blocks, width } = step;
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
    segment.means = undefined;
    return true;
  }
  return false;
}

/** What the next step takes: so many blocks, channels of up to that width; undefined where none would pay. */
function stepFor(segment: Segment, isLast: boolean, { longest }: Anchors) {
  const { blocks: all, count } = segment.keys[0];
  const whole = Math.floor(count / BLOCK_TOKENS);
  // The rest counts its spans from its own first token.
  const spanBlocks = Math.max(1, (longest ?? 1) / BLOCK_TOKENS);
  const sizes = isLast ? PARTS.map((part) => roundUp(part * whole, spanBlocks)) : [all.length];
  for (const width of STEPS) {
    if (!lowers(segment, width)) continue;
    for (const blocks of sizes) {
      const isThere = blocks > 0 && blocks <= (isLast ? whole : all.length);
      if (isThere && pays(segment, blocks, width, isLast)) return { blocks, width };
    }
  }
  return undefined;
}

/** True where a group has channels of that width, and wider ones to keep. */
const lowers = (segment: Segment, width: number): boolean =>
  groupsOf(segment).some(({ model: { shape } }) => {
    const has = shape.books.some((book) => book.width === width);
    return has && shape.books.some((book) => book.width > width);
  });

/** True where less is held afterwards: memory goes back in whole slabs, and only where no fork shares it. */
function pays(segment: Segment, blocks: number, width: number, isLast: boolean): boolean {
  let saved = 0;
  for (const group of groupsOf(segment)) {
    const { model } = group;
    saved += isLast ? model.bytesFreedBy(group.blocks.slice(0, blocks)) : model.bytesFreedByRelease;
    // The narrower model needs no more than the one that it is made from.
    saved -=
      model.bytes - model.pool.bytesHeld + slabBytes(blockBytesOf(model.role, planesAbove(model, width)), blocks);
  }
  return saved > 0;
}

/** Planes that a block keeps. */
function planesAbove({ counts, planes }: GroupModel, width: number): number {
  const { count8, count4, count2 } = counts;
  return planeCount({ count8, count4: width < 4 ? count4 : 0, count2: width < 2 ? count2 : 0, count1: 0 }) || planes;
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
  const narrow = new GroupModel(runtime, withoutUpTo(model.shape, width, model.dim), model);
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
