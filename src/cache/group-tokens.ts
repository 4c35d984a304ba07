/**
 * The coded tokens of one head group in one cache: blocks of 32 on the group's frozen basis. Full blocks never change
 * and are shared with forks; the last one, where it is not full, is copied before it is written. Its free places hold
 * anything, as what was forgotten leaves them: attention gives them no weight, and an archive gets zeros.
 */

import type { Anchors } from "../codec/anchors.ts";
import { BookShelf } from "../codec/codebook.ts";
import type { CodedGroup } from "../codec/coded.ts";
import { BLOCK_TOKENS, PLANE_BYTES, usedNibbles } from "../codec/layout.ts";
import { nearestNorm, normLevels } from "../codec/norms.ts";
import { inPlanes, inStream } from "../codec/streams.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { GroupModel } from "./group-model.ts";

export class GroupTokens {
  readonly model: GroupModel;
  /** Addresses, oldest first. */
  readonly blocks: number[] = [];
  readonly #runtime: Runtime;
  #count = 0;
  /** An archive gets the codes as streams, as it had them. */
  #isStream = false;

  private constructor(runtime: Runtime, model: GroupModel) {
    this.#runtime = runtime;
    this.model = model;
  }

  /** Loads `tokens` coded tokens. Throws CapacityError with nothing held. */
  static load(
    runtime: Runtime,
    group: CodedGroup,
    anchors: Pick<Anchors, "headDim" | "order">,
    tokens: number,
  ): GroupTokens {
    const { planes, norms, stream: _stream, ...shape } = inPlanes(runtime, group, tokens);
    const model = new GroupModel(runtime, norms ? { ...shape, norms: rangeOf(norms) } : shape, anchors);
    const planeBytes = PLANE_BYTES * model.planes;
    const made = GroupTokens.ofBlocks(runtime, model, tokens, (block, ptr) => {
      runtime.heap.u8(ptr, planeBytes).set(planes.subarray(block * planeBytes, (block + 1) * planeBytes));
      if (!norms) return;
      const codes = runtime.heap.u8(ptr + planeBytes, BLOCK_TOKENS).fill(0);
      codes.set(norms.codes.subarray(block * BLOCK_TOKENS, Math.min(tokens, (block + 1) * BLOCK_TOKENS)));
    });
    made.#isStream = group.stream !== undefined;
    return made;
  }

  /** `tokens` tokens in blocks that `fill` writes; the model is taken over, also on a CapacityError. */
  static ofBlocks(
    runtime: Runtime,
    model: GroupModel,
    tokens: number,
    fill: (block: number, ptr: number) => void,
  ): GroupTokens {
    const made = new GroupTokens(runtime, model);
    try {
      for (let block = 0; block * BLOCK_TOKENS < tokens; block++) {
        const ptr = model.takeBlock();
        made.blocks.push(ptr);
        fill(block, ptr);
      }
    } catch (error) {
      made.dispose();
      throw error;
    }
    made.#count = tokens;
    return made;
  }

  /** Coded tokens. */
  get count(): number {
    return this.#count;
  }

  /** Tokens until the last block is full; a whole block where it is. */
  get room(): number {
    return BLOCK_TOKENS - (this.#count % BLOCK_TOKENS);
  }

  /** What `append` may take from the heap, taken before anything changes: 1 block. */
  reserveBlock(): number {
    return this.model.takeBlock();
  }

  /**
   * Codes `count` <= `room` rows (count, dim) f32: anchored keys, or values. `block` comes from `reserveBlock` and is
   * used or given back. Throws CapacityError with nothing changed but the rows.
   */
  append(rowsPtr: number, count: number, block: number): void {
    const { model } = this;
    const { kernels, heap } = this.#runtime;
    const offset = this.#count % BLOCK_TOKENS;
    const { count8, count4, count2, count1 } = model.counts;
    heap.scratch((frame) => {
      const codesPtr = frame.reserve(BLOCK_TOKENS * Math.max(1, model.channels));
      const last = this.blocks[this.blocks.length - 1];
      if (offset > 0) kernels.unpackPlanes(codesPtr, last, count8, count4, count2, count1, 1, BLOCK_TOKENS);
      else heap.u8(codesPtr, BLOCK_TOKENS * model.channels).fill(0);
      const norms = model.role === "values" ? this.#codeNorms(rowsPtr, count) : undefined;
      const latentsPtr = frame.reserve(4 * BLOCK_TOKENS * Math.max(1, model.channels));
      const analysisPtr = model.putAnalysis(frame);
      kernels.project(
        latentsPtr, rowsPtr, model.centrePtr, analysisPtr, count, model.dim, model.channels, BLOCK_TOKENS,
      ); // biome-ignore format: in the order of the kernel
      const shelf = new BookShelf(this.#runtime, frame);
      model.shape.books.forEach((book, c) => {
        const at = c * BLOCK_TOKENS;
        kernels.encode(codesPtr + at + offset, shelf.open(book), latentsPtr + 4 * at, count, book.width);
      });
      // All memory is there: from here on nothing throws.
      const target = this.#lastBlock(offset, block);
      kernels.packPlanes(target, codesPtr, count8, count4, count2, count1, 1, BLOCK_TOKENS);
      if (norms) heap.u8(target + PLANE_BYTES * model.planes + offset, count).set(norms);
    });
    this.#count += count;
  }

  /** Forgets tokens from `count` on; their places in the last block become free. */
  truncate(count: number): void {
    for (const ptr of this.blocks.splice(Math.ceil(count / BLOCK_TOKENS))) this.model.giveBlock(ptr);
    this.#count = Math.min(this.#count, count);
  }

  /** Gives the first `blocks` blocks back, whole ones. */
  dropFirst(blocks: number): void {
    for (const ptr of this.blocks.splice(0, blocks)) this.model.giveBlock(ptr);
    this.#count = Math.max(0, this.#count - blocks * BLOCK_TOKENS);
  }

  /** The same tokens for another cache, blocks shared. */
  fork(): GroupTokens {
    const copy = new GroupTokens(this.#runtime, this.model.share());
    for (const ptr of this.blocks) this.model.shareBlock(ptr);
    copy.blocks.push(...this.blocks);
    copy.#count = this.#count;
    copy.#isStream = this.#isStream;
    return copy;
  }

  /** As an archive holds it. */
  toCoded(): CodedGroup {
    const { model } = this;
    const { heap } = this.#runtime;
    const planeBytes = PLANE_BYTES * model.planes;
    const planes = new Uint8Array(planeBytes * this.blocks.length);
    const codes = new Uint8Array(this.#count);
    this.blocks.forEach((ptr, block) => {
      planes.set(heap.u8(ptr, planeBytes), block * planeBytes);
      if (model.role === "keys") return;
      const first = block * BLOCK_TOKENS;
      codes.set(heap.u8(ptr + planeBytes, Math.min(BLOCK_TOKENS, this.#count - first)), first);
    });
    clearFreePlaces(planes, planeBytes, this.#count);
    const { norms, ...shape } = model.shape;
    const group = { ...shape, planes, ...(norms && { norms: { codes, ...norms } }) };
    return this.#isStream ? inStream(this.#runtime, group, this.#count) : group;
  }

  dispose(): void {
    for (const ptr of this.blocks) this.model.giveBlock(ptr);
    this.blocks.length = 0;
    this.#count = 0;
    this.model.release();
  }

  /** The block to write: the given one, or the last where it has room, copied to the given one if shared. */
  #lastBlock(offset: number, block: number): number {
    const { model, blocks } = this;
    if (offset === 0) {
      blocks.push(block);
      return block;
    }
    const last = blocks[blocks.length - 1];
    if (!model.isShared(last)) {
      model.giveBlock(block);
      return last;
    }
    this.#runtime.heap.u8(block, model.blockBytes).set(this.#runtime.heap.u8(last, model.blockBytes));
    model.giveBlock(last);
    blocks[blocks.length - 1] = block;
    return block;
  }

  /** Norm codes of rows, which are divided by the levels that the codes stand for. */
  #codeNorms(rowsPtr: number, count: number): Uint8Array {
    const { kernels, heap } = this.#runtime;
    const { model } = this;
    return heap.scratch((frame) => {
      const factorsPtr = frame.reserve(4 * count);
      kernels.rowNorms(factorsPtr, rowsPtr, count, model.dim);
      const levels = normLevels(model.shape.norms as { least: number; step: number });
      const codes = new Uint8Array(count);
      heap.f32(factorsPtr, count).forEach((norm, i, factors) => {
        codes[i] = norm > 0 ? nearestNorm(levels, norm) : 0;
        factors[i] = norm > 0 ? 1 / levels[codes[i]] : 0;
      });
      kernels.scaleRows(rowsPtr, rowsPtr, factorsPtr, count, model.dim);
      return codes;
    });
  }
}

/** Number of the group that a kv head belongs to. */
export const keyGroupOf = (groups: GroupTokens[], head: number): number =>
  groups.findIndex(({ model: { shape } }) => head < shape.firstHead + shape.headCount);

/** Zero codes behind the last of `tokens` tokens in planes of `blockBytes` a block. */
function clearFreePlaces(planes: Uint8Array, blockBytes: number, tokens: number): void {
  const used = tokens % BLOCK_TOKENS;
  if (used === 0) return;
  for (let i = planes.length - blockBytes; i < planes.length; i++) planes[i] &= usedNibbles(i % PLANE_BYTES, used);
}

const rangeOf = ({ least, step }: { least: number; step: number }) => ({ least, step });
