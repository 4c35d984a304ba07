/**
 * One layer's tokens: sinks and recent ones exact, the rest coded in segments, one basis each. Tokens come in exact;
 * once `recent` has overflowed by a block, the oldest are coded on the frozen basis of the last segment (SVDq, arXiv
 * 2502.15304, section 3.4). A layer without a basis holds all its tokens exact until there are enough to fit one.
 */

import { type Anchors, putOwnRotaries } from "../codec/anchors.ts";
import {
  type CodedCache,
  type CodedGroup,
  type CodedLayer,
  codedTokens,
  layerOfSegments,
  segmentsOf,
} from "../codec/coded.ts";
import { type Geometry, rowDim } from "../codec/geometry.ts";
import { BLOCK_TOKENS } from "../codec/layout.ts";
import type { Rotary } from "../codec/rotary.ts";
import { CapacityError, UnsupportedError } from "../errors.ts";
import type { Runtime } from "../runtime/runtime.ts";
import {
  type AttendCall,
  type AttendReport,
  attendLayer,
  inspectScores,
  type LayerTokens,
  noReport,
  scoresByPosition,
} from "./attention.ts";
import type { CacheEvent } from "./events.ts";
import { exactBytes, gatherExact } from "./exact-archive.ts";
import { ExactRows } from "./exact-rows.ts";
import { fitSteps } from "./fit.ts";
import { type CacheOptions, codecOptionsOf } from "./options.ts";
import { QueryLog } from "./query-log.ts";
import { type Refitted, refitSteps } from "./refit.ts";
import { type Overflow, Segments } from "./segments.ts";

export interface LayerPlace {
  runtime: Runtime;
  geometry: Geometry;
  rotary: Rotary;
  anchors: Anchors;
  options: CacheOptions;
}

export class LayerCache {
  readonly #place: LayerPlace;
  readonly #number: number;
  readonly #sinks: ExactRows;
  readonly #recent: ExactRows;
  readonly #queries = new QueryLog();
  readonly #segments: Segments;
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
    this.#segments = new Segments(place);
  }

  get length(): number {
    return this.#sinks.count + this.codedCount + this.#recent.count;
  }

  get codedCount(): number {
    return this.#segments.count;
  }

  get exactCount(): number {
    return this.#sinks.count + this.#recent.count;
  }

  /** True once there is a basis to code tokens on. */
  get isFitted(): boolean {
    return this.#segments.last !== undefined;
  }

  /** True once the monitor has stopped coding. */
  get isExactFromNow(): boolean {
    return this.#codesNoMore;
  }

  /** Running KL of attention on codes among sampled tokens, in nats; 0 before it was measured. */
  get attentionError(): number {
    return this.#segments.monitor.error;
  }

  /** Loads a layer of an archive; nothing is decompressed. `keepTokens` false takes the bases alone, as of a profile. */
  load(cache: CodedCache, layer: CodedLayer, keepTokens = true): void {
    // Without tokens the newest bases are the ones to code on.
    const { keys, values } = layer;
    const segments = keepTokens ? segmentsOf(layer, codedTokens(cache)) : [{ tokens: 0, keys, values }];
    for (const segment of segments) expectAlike(segment, this.#number);
    let position = keepTokens ? cache.sinks : this.#place.options.sinks;
    for (const segment of segments) {
      this.#segments.begin(segment.keys, segment.values, segment.tokens, position);
      position += segment.tokens;
    }
    if (!keepTokens) return;
    gatherExact(this.#place.runtime, cache, layer, this.#sinks, this.#recent);
  }

  /** As an archive holds it; `sinks` and `recent` are how many exact tokens there are. */
  toCoded(): { layer: CodedLayer; sinks: number; recent: number } {
    const { list } = this.#segments;
    if (list.length === 0) {
      throw new UnsupportedError(
        `layer ${this.#number}: expected coded tokens to save, got none (no basis was fitted yet)`,
      );
    }
    const { runtime, geometry, options } = this.#place;
    const exact = (ptrOf: (rows: ExactRows) => number): Uint8Array =>
      exactBytes(runtime, geometry, options.exactType, [this.#sinks, this.#recent], ptrOf);
    const layer = {
      ...layerOfSegments(
        list.map(({ keys, values }) => ({
          tokens: keys[0].count,
          keys: keys.map((group) => group.toCoded()),
          values: values.map((group) => group.toCoded()),
        })),
      ),
      exactKeys: exact((rows) => rows.keyPtr(0)),
      exactValues: exact((rows) => rows.valuePtr(0)),
    };
    return { layer, sinks: this.#sinks.count, recent: this.#recent.count };
  }

  /**
   * Takes in `count` tokens, (count, rowDim) f32 each: keys after RoPE, rounded to the exact type. Throws CapacityError
   * with nothing changed.
   */
  append(keysPtr: number, valuesPtr: number, count: number): void {
    const { options, geometry } = this.#place;
    const toSinks = this.codedCount > 0 ? 0 : Math.max(0, Math.min(count, options.sinks - this.#sinks.count));
    const recent = this.#recent.count + count - toSinks;
    this.#sinks.makeRoom(toSinks);
    this.#recent.makeRoom(count - toSinks);
    const overflow = this.#reserve(recent, options.recent + this.#stagger);
    const rowBytes = 4 * rowDim(geometry);
    this.#sinks.push(keysPtr, valuesPtr, toSinks);
    this.#recent.push(keysPtr + toSinks * rowBytes, valuesPtr + toSinks * rowBytes, count - toSinks);
    if (this.isFitted) this.#code(overflow);
    else if (!this.#work && recent >= options.fitTokens + options.recent && this.length >= this.#restTo) {
      this.#beginFit();
    }
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
    if (this.isFitted) this.#code(this.#reserve(this.#recent.count, this.#place.options.recent));
  }

  attend(call: Omit<AttendCall, "runtime" | "layer" | "report">, outPtr: number): AttendReport {
    const { runtime, geometry, options } = this.#place;
    const { queriesPtr, shared } = call;
    const count = geometry.kvHeads * shared * geometry.headDim;
    this.#queries.add(runtime.heap.f32(queriesPtr, count), this.length - 1);
    const report = noReport();
    const measures = options.monitorEvery > 0 && ++this.#attends % options.monitorEvery === 0;
    this.#withTokens((layer) => {
      if (call.settings.budgetTokens !== undefined) this.#segments.prepareSelection(layer);
      const whole: AttendCall = { ...call, runtime, layer, report };
      if (measures) inspectScores(whole, (slots) => this.#alarm(this.#segments.monitor.measure(whole, slots)));
      attendLayer(whole, outPtr);
    });
    return report;
  }

  /** Scores as `attend` would weigh them, by position; nothing is counted or noted. */
  scores(call: Omit<AttendCall, "runtime" | "layer" | "report">, out: Float32Array): void {
    this.#withTokens((layer) => {
      if (call.settings.budgetTokens !== undefined) this.#segments.prepareSelection(layer);
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
    if (coded < this.codedCount) {
      this.#segments.monitor.truncate(length);
      this.#segments.truncate(Math.max(0, coded));
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
    copy.#segments.forkFrom(this.#segments);
    copy.#queries.copyFrom(this.#queries);
    copy.#codesNoMore = this.#codesNoMore;
    return copy;
  }

  /**
   * Lowers the precision of the oldest coded tokens by a step: trailing planes of their blocks are dropped, nothing is
   * coded again. Returns false where nothing is left to lower, or memory does not last for it.
   */
  lowerPrecision(): boolean {
    return this.#segments.lowerPrecision();
  }

  /** Bytes held from the heap; shared blocks and models count in every fork. */
  bytes(): { codes: number; model: number; exact: number } {
    const { codes, model, exact } = this.#segments.bytes();
    return { codes, model, exact: exact + this.#sinks.bytes + this.#recent.bytes };
  }

  dispose(): void {
    this.#cancelWork();
    this.#segments.dispose();
    this.#sinks.dispose();
    this.#recent.dispose();
  }

  #withTokens<T>(work: (tokens: LayerTokens) => T): T {
    const { runtime, geometry, anchors } = this.#place;
    return runtime.heap.scratch((frame) =>
      work({
        kvHeads: geometry.kvHeads,
        headDim: geometry.headDim,
        segments: this.#segments.list.filter((segment) => segment.keys[0].count > 0),
        sinks: this.#sinks,
        recent: this.#recent,
        anchors,
        rotaryPtrs: putOwnRotaries(runtime.heap, frame, anchors),
      }),
    );
  }

  #reserve(recent: number, kept: number): Overflow {
    return this.#codesNoMore ? { parts: [], blocks: [] } : this.#segments.reserve(recent, kept);
  }

  /** Codes what has left `recent`; where memory does not last, the next append tries again. */
  #code(overflow: Overflow): void {
    const coded = this.#segments.code(this.#recent, overflow);
    if (coded === 0) return;
    this.#recent.dropFirst(coded);
    this.#watchDrift();
  }

  #beginFit(): void {
    const { runtime, geometry, rotary, options } = this.#place;
    const coded = this.#recent.count - options.recent;
    const count = coded - (coded % BLOCK_TOKENS);
    const place = { runtime, geometry, rotary, options: codecOptionsOf(options), target: options.targetKl };
    this.#work = this.#workSteps(fitSteps(place, this.#sinks, this.#recent, count, this.#queries), count);
  }

  /** Starts a refit where the basis misses too much of what comes in. */
  #watchDrift(): void {
    const { driftLimit, fitTokens } = this.#place.options;
    const { drift, last } = this.#segments;
    if (driftLimit === null || !drift || !last || this.#work || drift.tokens < fitTokens || !drift.isBeyond(driftLimit))
      return;
    // Books are chosen for the recent tokens.
    if (this.#recent.count < BLOCK_TOKENS || this.length < this.#restTo) return;
    this.#tell({ type: "drift", missed: drift.missed, usual: drift.usual });
    this.#work = this.#workSteps(refitSteps(this.#place, last, drift.moments, this.#recent, this.#queries), 0);
  }

  /** A new segment from the given steps, its first `count` tokens those of `recent`. */
  *#workSteps(steps: Generator<undefined, Refitted>, count: number): Generator<undefined, void> {
    const { keys, values } = yield* steps;
    const isRefit = this.isFitted;
    yield* this.#segments.beginSteps(keys, values, count, () => this.#sinks.count + this.codedCount);
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
}

function expectAlike({ keys, values }: Pick<CodedLayer, "keys" | "values">, number: number): void {
  const headsOf = (groups: CodedGroup[]): string => groups.map(({ headCount }) => headCount).join(" + ");
  if (headsOf(keys) === headsOf(values)) return;
  throw new UnsupportedError(
    `layer ${number}: expected value groups of ${headsOf(keys)} heads as keys have, got ${headsOf(values)}`,
  );
}
