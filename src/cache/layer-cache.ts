/**
 * One layer's tokens: sinks and recent ones exact, the rest coded in segments, one basis each. Tokens come in exact;
 * once `recent` has overflowed by a block, the oldest are coded on the frozen basis of the last segment (SVDq, arXiv
 * 2502.15304, section 3.4). A layer without a basis holds all its tokens exact until there are enough to fit one.
 */
import type { CodedCache, CodedGroup, CodedLayer } from "../codec/coded.ts";
import { type Geometry, rowDim } from "../codec/geometry.ts";
import { BLOCK_TOKENS } from "../codec/layout.ts";
import { putRotary, type Rotary } from "../codec/rotary.ts";
import { CapacityError, UnsupportedError } from "../errors.ts";
import type { Runtime } from "../runtime/runtime.ts";
import {
  type AttendCall,
  type AttendReport,
  attendLayer,
  type LayerTokens,
  noReport,
  type Segment,
  scoresByPosition,
} from "./attention.ts";
import { giveBlocks, groupsOf, overflowOf, reserveBlocks, rowsOf } from "./coding.ts";
import { DriftWatch } from "./drift.ts";
import type { CacheEvent } from "./events.ts";
import { exactBytes, gatherExact } from "./exact-archive.ts";
import { ExactRows } from "./exact-rows.ts";
import { fitSteps } from "./fit.ts";
import { GroupTokens } from "./group-tokens.ts";
import { Landmarks } from "./landmarks.ts";
import { Monitor } from "./monitor.ts";
import { type CacheOptions, codecOptionsOf } from "./options.ts";
import { lowerSegment } from "./precision.ts";
import { QueryLog } from "./query-log.ts";
import { type Refitted, refitSteps } from "./refit.ts";
import { isScoredOnPlanes } from "./score.ts";

export interface LayerPlace {
  runtime: Runtime;
  geometry: Geometry;
  rotary: Rotary;
  options: CacheOptions;
}

export class LayerCache {
  readonly #place: LayerPlace;
  readonly #number: number;
  readonly #sinks: ExactRows;
  readonly #recent: ExactRows;
  readonly #queries = new QueryLog();
  readonly #monitor: Monitor;
  #segments: Segment[] = [];
  #drift: DriftWatch | undefined;
  /** A fit or refit under way, a step a token. */
  #work: Generator<undefined, void> | undefined;
  /** No work begins before the layer has so many tokens. */
  #restTo = 0;
  #attends = 0;
  /** Set once scores were too far off: new tokens stay exact. */
  #codesNoMore = false;

  /** Layers code their blocks at different tokens, so that none waits for all of them; `catchUp` makes them alike. */
  readonly #stagger: number;

  constructor(place: LayerPlace, number: number) {
    const dim = rowDim(place.geometry);
    this.#place = place;
    this.#number = number;
    this.#stagger = Math.floor((number * BLOCK_TOKENS) / place.geometry.layerCount);
    this.#sinks = new ExactRows(place.runtime.heap, dim);
    this.#recent = new ExactRows(place.runtime.heap, dim);
    this.#monitor = new Monitor(place.runtime.heap, dim);
  }

  get length(): number {
    return this.#sinks.count + this.codedCount + this.#recent.count;
  }

  get codedCount(): number {
    return this.#segments.reduce((sum, segment) => sum + segment.keys[0].count, 0);
  }

  get exactCount(): number {
    return this.#sinks.count + this.#recent.count;
  }

  /** True once there is a basis to code tokens on. */
  get isFitted(): boolean {
    return this.#segments.length > 0;
  }

  /** True once the monitor has stopped coding. */
  get isExactFromNow(): boolean {
    return this.#codesNoMore;
  }

  /** Running KL of attention on codes among sampled tokens, in nats; 0 before it was measured. */
  get attentionError(): number {
    return this.#monitor.error;
  }

  /** Loads a layer of an archive; nothing is decompressed. `keepTokens` false takes the bases alone, as of a profile. */
  load(cache: CodedCache, layer: CodedLayer, keepTokens = true): void {
    const coded = keepTokens ? cache.tokenCount - cache.sinks - cache.recent : 0;
    const position = keepTokens ? cache.sinks : this.#place.options.sinks;
    expectAlike(layer, this.#number);
    this.#beginSegment(layer.keys, layer.values, coded, position);
    if (!keepTokens) return;
    gatherExact(this.#place.runtime, cache, layer, this.#sinks, this.#recent);
  }

  /** As an archive holds it; `sinks` and `recent` are how many exact tokens there are. */
  toCoded(): { layer: CodedLayer; sinks: number; recent: number } {
    if (this.#segments.length > 1) {
      throw new UnsupportedError(
        `layer ${this.#number}: expected codes on one basis to save, got ${this.#segments.length} (after a refit or a change of precision)`,
      );
    }
    const { runtime, geometry, options } = this.#place;
    const exact = (ptrOf: (rows: ExactRows) => number): Uint8Array =>
      exactBytes(runtime, geometry, options.exactType, [this.#sinks, this.#recent], ptrOf);
    const layer = {
      keys: this.#segments.flatMap((segment) => segment.keys.map((group) => group.toCoded())),
      values: this.#segments.flatMap((segment) => segment.values.map((group) => group.toCoded())),
      exactKeys: exact((rows) => rows.keyPtr(0)),
      exactValues: exact((rows) => rows.valuePtr(0)),
    };
    if (layer.keys.length === 0) {
      throw new UnsupportedError(
        `layer ${this.#number}: expected coded tokens to save, got none (no basis was fitted yet)`,
      );
    }
    return { layer, sinks: this.#sinks.count, recent: this.#recent.count };
  }

  /**
   * Takes in `count` tokens, (count, rowDim) f32 each: keys after RoPE, rounded to the exact type. Throws CapacityError
   * with nothing changed.
   */
  append(keysPtr: number, valuesPtr: number, count: number): void {
    const { options, geometry } = this.#place;
    const last = this.#segments[this.#segments.length - 1];
    const toSinks = this.codedCount > 0 ? 0 : Math.max(0, Math.min(count, options.sinks - this.#sinks.count));
    const recent = this.#recent.count + count - toSinks;
    this.#sinks.makeRoom(toSinks);
    this.#recent.makeRoom(count - toSinks);
    const parts = last ? this.#overflow(last, recent, options.recent + this.#stagger) : [];
    const reserved = last ? reserveBlocks(last, parts) : [];
    const rowBytes = 4 * rowDim(geometry);
    this.#sinks.push(keysPtr, valuesPtr, toSinks);
    this.#recent.push(keysPtr + toSinks * rowBytes, valuesPtr + toSinks * rowBytes, count - toSinks);
    if (last) this.#codeOverflow(last, parts, reserved);
    else if (!this.#work && recent >= options.fitTokens + options.recent && this.length >= this.#restTo)
      this.#beginFit();
  }

  /** True while a fit or refit is under way. */
  get isWorking(): boolean {
    return this.#work !== undefined;
  }

  /** A step of a fit or refit under way. Where memory does not last, the work starts again some tokens later. */
  work(): void {
    try {
      this.#step();
    } catch (error) {
      if (!(error instanceof CapacityError)) throw error;
      this.#restTo = this.length + BLOCK_TOKENS;
    }
  }

  /** Finishes a fit or refit under way. Throws CapacityError where memory does not last for it; no token is lost then. */
  settle(): void {
    while (this.#work) this.#step();
  }

  /** Codes whole blocks that have left `recent`, as far as memory lasts. */
  catchUp(): void {
    const last = this.#segments[this.#segments.length - 1];
    if (!last) return;
    const parts = this.#overflow(last, this.#recent.count, this.#place.options.recent);
    this.#codeOverflow(last, parts, reserveBlocks(last, parts));
  }

  attend(call: Omit<AttendCall, "runtime" | "layer" | "report" | "inspect">, outPtr: number): AttendReport {
    const { runtime, geometry, options } = this.#place;
    const { queriesPtr, shared } = call;
    const count = geometry.kvHeads * shared * geometry.headDim;
    this.#queries.add(runtime.heap.f32(queriesPtr, count), this.length - 1);
    const report = noReport();
    const measures = options.monitorEvery > 0 && ++this.#attends % options.monitorEvery === 0;
    this.#withTokens((layer) => {
      if (call.settings.budgetTokens !== undefined) this.#updateLandmarks(layer);
      const whole: AttendCall = { ...call, runtime, layer, report };
      if (measures) whole.inspect = (slots) => this.#alarm(this.#monitor.measure(whole, slots));
      attendLayer(whole, outPtr);
    });
    return report;
  }

  /** Scores as `attend` would weigh them, by position; nothing is counted or noted. */
  scores(call: Omit<AttendCall, "runtime" | "layer" | "report" | "inspect">, out: Float32Array): void {
    this.#withTokens((layer) => {
      if (call.settings.budgetTokens !== undefined) this.#updateLandmarks(layer);
      const whole = { ...call, runtime: this.#place.runtime, layer, report: noReport() };
      scoresByPosition(whole, this.length, out);
    });
  }

  /** Queries (queryHeads, count, headDim) f32 after RoPE of the last tokens, for the metric of a fit to come. */
  noteQueries(queries: Float32Array, queryHeads: number, count: number, firstToken: number): void {
    this.#queries.addMany(queries, queryHeads, count, firstToken);
  }

  /** Forgets tokens from `length` on. */
  truncate(length: number): void {
    this.#cancelWork();
    const coded = length - this.#sinks.count;
    let left = Math.max(0, Math.min(coded, this.codedCount));
    if (left < this.codedCount) {
      this.#monitor.truncate(length);
      for (const segment of this.#segments) {
        const kept = Math.min(left, segment.keys[0].count);
        for (const group of groupsOf(segment)) group.truncate(kept);
        for (const landmarks of segment.landmarks) landmarks?.truncate(Math.ceil(kept / BLOCK_TOKENS));
        left -= kept;
      }
      this.#dropEmptySegments();
    }
    this.#recent.truncate(Math.max(0, length - this.#sinks.count - this.codedCount));
    this.#sinks.truncate(length);
    this.#queries.truncate(length);
  }

  fork(): LayerCache {
    const copy = new LayerCache(this.#place, this.#number);
    try {
      copy.#sinks.copyFrom(this.#sinks);
      copy.#recent.copyFrom(this.#recent);
    } catch (error) {
      copy.dispose();
      throw error;
    }
    copy.#segments = this.#segments.map((segment) => ({
      keys: segment.keys.map((group) => group.fork()),
      values: segment.values.map((group) => group.fork()),
      landmarks: [],
      position: segment.position,
    }));
    const last = copy.#segments[copy.#segments.length - 1];
    if (last) copy.#drift = new DriftWatch(this.#place.runtime, last);
    copy.#queries.copyFrom(this.#queries);
    copy.#codesNoMore = this.#codesNoMore;
    return copy;
  }

  /**
   * Lowers the precision of the oldest coded tokens by a step: trailing planes of their blocks are dropped, nothing is
   * coded again. Returns false where nothing is left to lower, or memory does not last for it.
   */
  lowerPrecision(): boolean {
    try {
      return lowerSegment(this.#place.runtime, this.#segments, this.#place.options.anchorSpan);
    } catch (error) {
      if (!(error instanceof CapacityError)) throw error;
      return false;
    }
  }

  /** Bytes held from the heap; shared blocks and models count in every fork. */
  bytes(): { codes: number; model: number; exact: number } {
    const groups = this.#segments.flatMap(groupsOf);
    const codes = groups.reduce((sum, { model }) => sum + model.pool.bytesHeld, 0);
    const all = groups.reduce((sum, { model }) => sum + model.bytes, 0);
    const landmarks = this.#segments
      .flatMap((segment) => segment.landmarks)
      .reduce((sum, one) => sum + (one?.bytes ?? 0), 0);
    const exact = this.#sinks.bytes + this.#recent.bytes + this.#monitor.bytes;
    return { codes, model: all - codes + landmarks, exact };
  }

  dispose(): void {
    this.#cancelWork();
    for (const segment of this.#segments) disposeSegment(segment);
    this.#segments = [];
    this.#sinks.dispose();
    this.#recent.dispose();
    this.#monitor.dispose();
  }

  #withTokens<T>(work: (tokens: LayerTokens) => T): T {
    const { runtime, geometry, rotary, options } = this.#place;
    return runtime.heap.scratch((frame) =>
      work({
        kvHeads: geometry.kvHeads,
        headDim: geometry.headDim,
        segments: this.#segments.filter((segment) => segment.keys[0].count > 0),
        sinks: this.#sinks,
        recent: this.#recent,
        anchorSpan: options.anchorSpan,
        rotaryPtr: putRotary(runtime.heap, frame, rotary, geometry.headDim),
      }),
    );
  }

  /** A segment of `count` tokens at `position`; after a CapacityError there is none. */
  #beginSegment(keys: CodedGroup[], values: CodedGroup[], count: number, position: number): void {
    for (const _ of this.#segmentSteps(keys, values, count, () => position));
  }

  /** The same in steps, a group each; the segment is there after the last. Groups loaded go where it is not reached. */
  *#segmentSteps(
    keys: CodedGroup[],
    values: CodedGroup[],
    count: number,
    positionAtEnd: () => number,
  ): Generator<undefined, void> {
    const { runtime, geometry } = this.#place;
    let loaded: GroupTokens[] = [];
    try {
      for (const group of [...keys, ...values]) {
        loaded.push(GroupTokens.load(runtime, group, geometry.headDim, count));
        yield;
      }
      const segment: Segment = {
        keys: loaded.slice(0, keys.length),
        values: loaded.slice(keys.length),
        landmarks: [],
        position: positionAtEnd(),
      };
      loaded = [];
      this.#segments.push(segment);
      this.#drift = new DriftWatch(runtime, segment);
    } finally {
      for (const group of loaded) group.dispose();
    }
  }

  #overflow(segment: Segment, count: number, kept: number): number[] {
    return this.#codesNoMore ? [] : overflowOf(segment, count, kept);
  }

  /**
   * Codes what has left `recent`. Where memory does not last, the tokens stay exact and the next append tries again.
   */
  #codeOverflow(segment: Segment, parts: number[], reserved: number[][]): void {
    let first = 0;
    for (const [part, count] of parts.entries()) {
      if (!this.#codePart(segment, first, count, reserved[part])) {
        for (const blocks of reserved.slice(part + 1)) giveBlocks(segment, blocks);
        break;
      }
      first += count;
    }
    if (first === 0) return;
    this.#recent.dropFirst(first);
    this.#watchDrift(segment);
  }

  /** One part in every group, or, at the memory limit, in none. */
  #codePart(segment: Segment, first: number, count: number, blocks: number[]): boolean {
    const token = segment.keys[0].count;
    const groups = groupsOf(segment);
    const watched = this.#place.options.monitorEvery > 0;
    try {
      if (watched) this.#monitor.makeRoom();
      for (const [i, group] of groups.entries()) this.#codeRows(segment, i, group, first, count, blocks[i]);
    } catch (error) {
      if (!(error instanceof CapacityError)) throw error;
      for (const [i, group] of groups.entries()) {
        if (group.count > token) group.truncate(token);
        else group.model.giveBlock(blocks[i]);
      }
      return false;
    }
    if (watched) this.#monitor.offer(this.#recent, first, count, segment.position + token);
    return true;
  }

  /** Codes `count` rows of `recent` from `first` on; index: of the group in the segment. */
  #codeRows(segment: Segment, index: number, group: GroupTokens, first: number, count: number, block: number): void {
    const { role, shape } = group.model;
    this.#place.runtime.heap.scratch((frame) => {
      const rowsPtr = rowsOf(
        this.#place, frame, segment.position, shape, role, this.#recent, first, count, group.count,
      ); // biome-ignore format: one call
      group.append(rowsPtr, count, block);
      if (this.#place.options.driftLimit !== null) this.#drift?.add(index, group, rowsPtr, count);
    });
  }

  #beginFit(): void {
    const { runtime, geometry, rotary, options } = this.#place;
    const coded = this.#recent.count - options.recent;
    const count = coded - (coded % BLOCK_TOKENS);
    const place = { runtime, geometry, rotary, options: codecOptionsOf(options), target: options.targetKl };
    this.#work = this.#workSteps(fitSteps(place, this.#sinks, this.#recent, count, this.#queries), count);
  }

  /** Starts a refit where the basis misses too much of what comes in. */
  #watchDrift(segment: Segment): void {
    const { driftLimit, fitTokens } = this.#place.options;
    const drift = this.#drift;
    if (driftLimit === null || !drift || this.#work || drift.tokens < fitTokens || !drift.isBeyond(driftLimit)) return;
    // Books are chosen for the recent tokens.
    if (this.#recent.count < BLOCK_TOKENS || this.length < this.#restTo) return;
    this.#tell({ type: "drift", missed: drift.missed, usual: drift.usual });
    this.#work = this.#workSteps(refitSteps(this.#place, segment, drift.moments, this.#recent, this.#queries), 0);
  }

  /** A new segment from the given steps, its first `count` tokens those of `recent`. */
  *#workSteps(steps: Generator<undefined, Refitted>, count: number): Generator<undefined, void> {
    const { keys, values } = yield* steps;
    const isRefit = this.isFitted;
    yield* this.#segmentSteps(keys, values, count, () => this.#sinks.count + this.codedCount);
    if (count > 0) this.#recent.dropFirst(count);
    if (isRefit) this.#tell({ type: "refit" });
  }

  #step(): void {
    const work = this.#work;
    this.#work = undefined;
    if (!work?.next().done) this.#work = work;
  }

  #cancelWork(): void {
    this.#work?.return();
    this.#work = undefined;
  }

  #updateLandmarks(layer: LayerTokens): void {
    const { options, runtime } = this.#place;
    for (const segment of layer.segments) {
      segment.keys.forEach((group, i) => {
        if (options.selection !== "landmarks" && isScoredOnPlanes(options.anchorSpan, group)) return;
        segment.landmarks[i] ??= new Landmarks(runtime, group.model.dim);
        segment.landmarks[i].update(layer, segment, group);
      });
    }
  }

  #alarm(error: number | undefined): void {
    const { monitorLimit } = this.#place.options;
    if (error === undefined || error <= monitorLimit || this.#codesNoMore) return;
    this.#codesNoMore = true;
    this.#tell({ type: "error", error, limit: monitorLimit });
  }

  #tell(
    event:
      | { type: "refit" }
      | { type: "drift"; missed: number; usual: number }
      | { type: "error"; error: number; limit: number },
  ): void {
    this.#place.options.onEvent?.({ ...event, layer: this.#number, position: this.length } as CacheEvent);
  }

  /** Segments that lost all their tokens go, but for the first, whose basis is kept. */
  #dropEmptySegments(): void {
    while (this.#segments.length > 1 && this.#segments[this.#segments.length - 1].keys[0].count === 0) {
      disposeSegment(this.#segments.pop() as Segment);
    }
    this.#drift = new DriftWatch(this.#place.runtime, this.#segments[this.#segments.length - 1]);
  }
}

function disposeSegment(segment: Segment): void {
  for (const group of groupsOf(segment)) group.dispose();
  for (const landmarks of segment.landmarks) landmarks?.dispose();
}

function expectAlike({ keys, values }: CodedLayer, number: number): void {
  const headsOf = (groups: CodedGroup[]): string => groups.map(({ headCount }) => headCount).join(" + ");
  if (headsOf(keys) === headsOf(values)) return;
  throw new UnsupportedError(
    `layer ${number}: expected value groups of ${headsOf(keys)} heads as keys have, got ${headsOf(values)}`,
  );
}
