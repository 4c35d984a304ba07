/**
 * How far new tokens have left a segment's basis: streaming second moments of what is coded, and the part of its energy
 * that the basis misses, against what it missed when it was new.
 */
import { momentScratchBytes } from "../codec/layout.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Segment } from "./attention.ts";
import { groupsOf } from "./coding.ts";
import type { GroupTokens } from "./group-tokens.ts";

/** The first tokens of a segment say what its basis usually misses. */
const USUAL_TOKENS = 128;
/** Part of a new measurement in the running one. */
const NEW_PART = 0.1;
/** A basis that misses next to nothing may miss this much before that counts as drift. */
const LEAST_MISSED = 0.01;

/** Streaming moments of one group: of rows less the frozen centre. */
export interface GroupMoments {
  /** Tokens. */
  count: number;
  /** (dim) sums. */
  sum: Float64Array;
  /** (dim, dim) sums of products. */
  products: Float64Array;
}

export class DriftWatch {
  readonly moments: GroupMoments[];
  readonly #runtime: Runtime;
  readonly #keyGroups: number;
  #tokens = 0;
  #usual = 0;
  #missed = 0;
  /** Of the rows being added: the sum over key groups. */
  #part = { missed: 0, energy: 0 };

  constructor(runtime: Runtime, segment: Segment) {
    this.#runtime = runtime;
    this.#keyGroups = segment.keys.length;
    this.moments = groupsOf(segment).map(({ model: { dim } }) => ({
      count: 0,
      sum: new Float64Array(dim),
      products: new Float64Array(dim * dim),
    }));
  }

  /** Tokens coded since the basis was made or loaded. */
  get tokens(): number {
    return this.#tokens;
  }

  /** Part of the keys' energy that the basis missed at first, and misses now. */
  get usual(): number {
    return this.#usual;
  }

  get missed(): number {
    return this.#missed;
  }

  /** True where the basis misses `limit` times what it missed at first. */
  isBeyond(limit: number): boolean {
    return this.#tokens > USUAL_TOKENS && this.#missed > limit * Math.max(this.#usual, LEAST_MISSED);
  }

  /**
   * Rows (count, dim) f32 as they were coded: anchored keys, directions of values. index: of the group in its segment;
   * the groups come in turn.
   */
  add(index: number, group: GroupTokens, rowsPtr: number, count: number): void {
    this.#accumulate(this.moments[index], group, rowsPtr, count);
    if (index >= this.#keyGroups) return;
    const part = missedEnergy(this.#runtime, group, rowsPtr, count);
    if (index > 0) {
      part.missed += this.#part.missed;
      part.energy += this.#part.energy;
    }
    this.#part = part;
    if (index === this.#keyGroups - 1) this.#measure(part.energy > 0 ? part.missed / part.energy : 0, count);
  }

  #measure(missed: number, count: number): void {
    this.#tokens += count;
    if (this.#tokens <= USUAL_TOKENS) this.#usual += ((missed - this.#usual) * count) / this.#tokens;
    this.#missed = this.#tokens === count ? missed : this.#missed + NEW_PART * (missed - this.#missed);
  }

  #accumulate(moments: GroupMoments, { model }: GroupTokens, rowsPtr: number, count: number): void {
    const { kernels, heap } = this.#runtime;
    const { dim, centrePtr } = model;
    heap.scratch((frame) => {
      const momentPtr = frame.reserve(8 * dim * dim);
      const meanPtr = frame.reserve(8 * dim);
      kernels.secondMoment(momentPtr, rowsPtr, centrePtr, 0, frame.reserve(momentScratchBytes(dim)), count, dim);
      kernels.mean(meanPtr, rowsPtr, 0, count, dim);
      const [products, mean] = [heap.f64(momentPtr, dim * dim), heap.f64(meanPtr, dim)];
      const centre = centrePtr ? heap.f32(centrePtr, dim) : undefined;
      for (let i = 0; i < products.length; i++) moments.products[i] += count * products[i];
      for (let d = 0; d < dim; d++) moments.sum[d] += count * (mean[d] - (centre ? centre[d] : 0));
    });
    moments.count += count;
  }
}

/** The rows' energy about the centre, and what of it lies outside the basis. */
function missedEnergy({ kernels, heap }: Runtime, { model }: GroupTokens, rowsPtr: number, count: number) {
  const { dim, channels } = model;
  return heap.scratch((frame) => {
    const latentsPtr = frame.reserve(4 * Math.max(1, channels) * count);
    const backPtr = frame.reserve(4 * count * dim);
    kernels.project(latentsPtr, rowsPtr, model.centrePtr, model.putAnalysis(frame), count, dim, channels, count);
    kernels.synthesize(backPtr, latentsPtr, model.centrePtr, model.putSynthesis(frame), count, dim, channels, count);
    const [rows, back] = [heap.f32(rowsPtr, count * dim), heap.f32(backPtr, count * dim)];
    const centre = model.centrePtr ? heap.f32(model.centrePtr, dim) : new Float32Array(dim);
    let [missed, energy] = [0, 0];
    for (let i = 0; i < rows.length; i++) {
      missed += (rows[i] - back[i]) ** 2;
      energy += (rows[i] - centre[i % dim]) ** 2;
    }
    return { missed, energy };
  });
}
