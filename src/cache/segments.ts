/** The coded tokens of a layer: segments one after the other, the last of which grows, and what watches them. */
import type { CodedGroup } from "../codec/coded.ts";
import { rowDim } from "../codec/geometry.ts";
import { BLOCK_TOKENS } from "../codec/layout.ts";
import { CapacityError } from "../errors.ts";
import type { LayerTokens, Segment } from "./attention.ts";
import { giveBlocks, groupsOf, overflowOf, reserveBlocks, rowsOf } from "./coding.ts";
import { DriftWatch } from "./drift.ts";
import type { ExactRows } from "./exact-rows.ts";
import { GroupTokens } from "./group-tokens.ts";
import { Landmarks } from "./landmarks.ts";
import type { LayerPlace } from "./layer-cache.ts";
import { Monitor } from "./monitor.ts";
import { lowerSegment } from "./precision.ts";
import { isScoredOnPlanes } from "./score.ts";
import { choosesTokens } from "./selection.ts";
import { ValueMeans } from "./value-means.ts";

/** Tokens that leave `recent`, part by part, and the blocks reserved for them: one a group and part. */
export interface Overflow {
  parts: number[];
  blocks: number[][];
}

export class Segments {
  readonly monitor: Monitor;
  readonly #place: LayerPlace;
  #list: Segment[] = [];
  /** Of the last segment. */
  #drift: DriftWatch | undefined;

  constructor(place: LayerPlace) {
    this.#place = place;
    this.monitor = new Monitor(place.runtime.heap, rowDim(place.geometry));
  }

  /** Oldest first. */
  get list(): readonly Segment[] {
    return this.#list;
  }

  get last(): Segment | undefined {
    return this.#list[this.#list.length - 1];
  }

  /** Coded tokens. */
  get count(): number {
    return this.#list.reduce((sum, segment) => sum + segment.keys[0].count, 0);
  }

  /** How far new tokens have left the last basis. */
  get drift(): DriftWatch | undefined {
    return this.#drift;
  }

  /** A segment of `count` tokens at `position`; after a CapacityError there is none. */
  begin(keys: CodedGroup[], values: CodedGroup[], count: number, position: number): void {
    for (const _ of this.beginSteps(keys, values, count, () => position));
  }

  /** The same in steps, a group each; the segment is there after the last. Groups loaded go where it is not reached. */
  *beginSteps(
    keys: CodedGroup[],
    values: CodedGroup[],
    count: number,
    positionAtEnd: () => number,
  ): Generator<undefined, void> {
    const { runtime, anchors } = this.#place;
    let loaded: GroupTokens[] = [];
    try {
      for (const group of [...keys, ...values]) {
        loaded.push(GroupTokens.load(runtime, group, anchors, count));
        yield;
      }
      this.#list.push({
        keys: loaded.slice(0, keys.length),
        values: loaded.slice(keys.length),
        landmarks: [],
        position: positionAtEnd(),
      });
      loaded = [];
      this.#watchLast();
    } finally {
      for (const group of loaded) group.dispose();
    }
  }

  /** What leaves `recent` when it holds `count` tokens and keeps `kept`. Throws CapacityError with nothing reserved. */
  reserve(count: number, kept: number): Overflow {
    const { last } = this;
    const parts = last ? overflowOf(last, count, kept) : [];
    return { parts, blocks: last ? reserveBlocks(last, parts) : [] };
  }

  /**
   * Codes an overflow from the first rows of `recent` on and returns how many tokens. Where memory does not last, the
   * rest stays exact and its blocks are given back.
   */
  code(recent: ExactRows, { parts, blocks }: Overflow): number {
    const segment = this.last as Segment;
    let first = 0;
    for (const [part, count] of parts.entries()) {
      if (!this.#codePart(segment, recent, first, count, blocks[part])) {
        for (const unused of blocks.slice(part + 1)) giveBlocks(segment, unused);
        break;
      }
      first += count;
    }
    return first;
  }

  /** Keeps the first `count` tokens. Segments that lose all of theirs go, but for the first, whose basis is kept. */
  truncate(count: number): void {
    if (count >= this.count) return;
    let left = count;
    for (const segment of this.#list) {
      const kept = Math.min(left, segment.keys[0].count);
      for (const group of groupsOf(segment)) group.truncate(kept);
      for (const landmarks of segment.landmarks) landmarks?.truncate(Math.ceil(kept / BLOCK_TOKENS));
      segment.means?.truncate(Math.floor(kept / BLOCK_TOKENS));
      left -= kept;
    }
    while (this.#list.length > 1 && this.#list[this.#list.length - 1].keys[0].count === 0) {
      disposeSegment(this.#list.pop() as Segment);
    }
    this.#watchLast();
  }

  /** Shares the blocks and models of another layer's segments. */
  forkFrom(other: Segments): void {
    this.#list = other.#list.map((segment) => ({
      keys: segment.keys.map((group) => group.fork()),
      values: segment.values.map((group) => group.fork()),
      landmarks: [],
      position: segment.position,
    }));
    this.#watchLast();
  }

  /** Returns false where nothing is left to lower, or memory does not last for it; see precision.ts. */
  lowerPrecision(): boolean {
    try {
      return lowerSegment(this.#place.runtime, this.#list, this.#place.anchors);
    } catch (error) {
      if (!(error instanceof CapacityError)) throw error;
      return false;
    }
  }

  /** Brings what selection goes by up to the tokens. */
  prepareSelection(layer: LayerTokens): void {
    const { options, runtime, anchors } = this.#place;
    for (const segment of layer.segments) {
      if (choosesTokens(options, anchors, segment)) {
        segment.means ??= new ValueMeans();
        segment.means.update(runtime, layer, segment);
      }
      segment.keys.forEach((group, i) => {
        if (options.selection !== "landmarks" && isScoredOnPlanes(anchors, group)) return;
        segment.landmarks[i] ??= new Landmarks(runtime, group.model.dim);
        segment.landmarks[i].update(layer, segment, group);
      });
    }
  }

  /** Bytes held from the heap, by what they hold; what the monitor holds is exact keys. */
  bytes(): { codes: number; model: number; exact: number } {
    const groups = this.#list.flatMap(groupsOf);
    const codes = groups.reduce((sum, { model }) => sum + model.pool.bytesHeld, 0);
    const all = groups.reduce((sum, { model }) => sum + model.bytes, 0);
    const landmarks = this.#list.flatMap((segment) => segment.landmarks);
    const landmarkBytes = landmarks.reduce((sum, one) => sum + (one?.bytes ?? 0), 0);
    return { codes, model: all - codes + landmarkBytes, exact: this.monitor.bytes };
  }

  dispose(): void {
    for (const segment of this.#list) disposeSegment(segment);
    this.#list = [];
    this.monitor.dispose();
  }

  #watchLast(): void {
    this.#drift = this.last && new DriftWatch(this.#place.runtime, this.last);
  }

  /** One part in every group, or, at the memory limit, in none. */
  #codePart(segment: Segment, recent: ExactRows, first: number, count: number, blocks: number[]): boolean {
    const token = segment.keys[0].count;
    const groups = groupsOf(segment);
    const watched = this.#place.options.monitorEvery > 0;
    try {
      if (watched) this.monitor.makeRoom();
      for (const [i, group] of groups.entries()) this.#codeRows(segment, i, group, recent, first, count, blocks[i]);
    } catch (error) {
      if (!(error instanceof CapacityError)) throw error;
      for (const [i, group] of groups.entries()) {
        if (group.count > token) group.truncate(token);
        else group.model.giveBlock(blocks[i]);
      }
      return false;
    }
    if (watched) this.monitor.offer(recent, first, count, segment.position + token);
    return true;
  }

  /** Codes `count` rows of `recent` from `first` on; index: of the group in the segment. */
  #codeRows(
    segment: Segment,
    index: number,
    group: GroupTokens,
    recent: ExactRows,
    first: number,
    count: number,
    block: number,
  ): void {
    const { role, shape } = group.model;
    this.#place.runtime.heap.scratch((frame) => {
      const rowsPtr = rowsOf(
        this.#place, frame, segment.position, shape, role, recent, first, count, group.count,
      ); // biome-ignore format: one call
      group.append(rowsPtr, count, block);
      if (this.#place.options.driftLimit !== null) this.#drift?.add(index, group, rowsPtr, count);
    });
  }
}

function disposeSegment(segment: Segment): void {
  for (const group of groupsOf(segment)) group.dispose();
  for (const landmarks of segment.landmarks) landmarks?.dispose();
}
