/**
 * Watches attention on codes against exact attention: a fixed number of coded tokens, sampled evenly over all (reservoir
 * sampling, Vitter 1985), keep their exact keys for the purpose. The error is the divergence between the attention that
 * the samples get among themselves, exact against coded: errors of scores count where attention is.
 */
import { BLOCK_TOKENS } from "../codec/layout.ts";
import type { Heap } from "../runtime/heap.ts";
import type { AttendCall, Segment, Slots } from "./attention.ts";
import type { ExactRows } from "./exact-rows.ts";

const SAMPLES = 64;
/** Part of a new measurement in the running error. */
const NEW_PART = 0.25;

interface Sample {
  segment: Segment;
  /** Number in its segment. */
  token: number;
}

export class Monitor {
  readonly #heap: Heap;
  readonly #rowBytes: number;
  readonly #samples: Sample[] = [];
  #ptr = 0;
  #seen = 0;
  #error = 0;
  #measured = false;

  constructor(heap: Heap, rowDim: number) {
    this.#heap = heap;
    this.#rowBytes = 4 * rowDim;
  }

  get bytes(): number {
    return this.#ptr ? SAMPLES * this.#rowBytes : 0;
  }

  /** Running KL(exact || coded) of attention among the samples, in nats. */
  get error(): number {
    return this.#error;
  }

  /** Offers one of `count` rows of `recent` from `first` on, which become tokens from `token` on of the segment. */
  offer(recent: ExactRows, first: number, count: number, segment: Segment, token: number): void {
    if (this.#ptr === 0) this.#ptr = this.#heap.reserve(SAMPLES * this.#rowBytes);
    const random = hash(this.#seen);
    const row = (random >>> 8) % count;
    const slot = this.#seen < SAMPLES ? this.#seen : random % (this.#seen + 1);
    this.#seen++;
    if (slot >= SAMPLES) return;
    this.#samples[slot] = { segment, token: token + row };
    const to = this.#heap.u8(this.#ptr + slot * this.#rowBytes, this.#rowBytes);
    to.set(this.#heap.u8(recent.keyPtr(first + row), this.#rowBytes));
  }

  /** Compares scores in the slots with exact ones; returns the running error, or undefined without samples there. */
  measure(call: AttendCall, slots: Slots): number | undefined {
    const error = errorOf(call, slots, this.#ptr, this.#rowBytes / 4, this.#samples);
    if (error === undefined) return undefined;
    this.#error = this.#measured ? this.#error + NEW_PART * (error - this.#error) : error;
    this.#measured = true;
    return this.#error;
  }

  /** Forgets samples of tokens from `position` on. */
  truncate(position: number): void {
    const kept = this.#samples.filter(({ segment, token }) => segment.position + token < position);
    if (kept.length < this.#samples.length) {
      // Rows no longer match their samples: start again.
      this.#samples.length = 0;
      this.#seen = 0;
    }
  }

  dispose(): void {
    if (this.#ptr) this.#heap.release(this.#ptr);
    this.#ptr = 0;
    this.#samples.length = 0;
  }
}

/** Slot of a sampled token in the scores of a kv head, or -1 where its block is not attended to. */
function slotOf(slots: Slots, { segment, token }: Sample, head: number): number {
  const part = slots.parts.find((one) => one.segment === segment);
  if (!part) return -1;
  const group = segment.keys.findIndex(({ model: { shape } }) => head < shape.firstHead + shape.headCount);
  const chosen = part.chosen[group];
  const block = Math.floor(token / BLOCK_TOKENS);
  const place = chosen ? chosen.indexOf(block) : block;
  return place < 0 ? -1 : part.first + place * BLOCK_TOKENS + (token % BLOCK_TOKENS);
}

/** Mean divergence over queries, among the samples that have slots. */
function errorOf(
  { runtime, layer, queriesPtr, shared }: AttendCall,
  slots: Slots,
  samplesPtr: number,
  rowDim: number,
  samples: Sample[],
): number | undefined {
  if (samples.length === 0) return undefined;
  const { kernels, heap } = runtime;
  const { kvHeads, headDim } = layer;
  const scale = 1 / Math.sqrt(headDim);
  let [total, queries] = [0, 0];
  heap.scratch((frame) => {
    const [exactPtr, codedPtr] = [frame.reserve(4 * shared * SAMPLES), frame.reserve(4 * SAMPLES)];
    for (let head = 0; head < kvHeads; head++) {
      const slotsOf = samples.map((sample) => slotOf(slots, sample, head));
      const used = slotsOf.flatMap((slot, i) => (slot >= 0 ? [{ slot, i }] : []));
      if (used.length < 2) continue;
      const keysPtr = samplesPtr + 4 * head * headDim;
      const queryPtr = queriesPtr + 4 * head * shared * headDim;
      kernels.scoreRows(exactPtr, keysPtr, queryPtr, samples.length, headDim, shared, rowDim, SAMPLES);
      for (let q = 0; q < shared; q++) {
        const rowPtr = exactPtr + 4 * q * SAMPLES;
        const scores = heap.f32(slots.ptr + 4 * (head * shared + q) * slots.stride, slots.exactFirst);
        const coded = Float32Array.from(used, ({ slot }) => scores[slot]);
        const exact = heap.f32(rowPtr, SAMPLES);
        exact.set(Float32Array.from(used, ({ i }) => exact[i]));
        heap.f32(codedPtr, used.length).set(coded);
        kernels.softmax(rowPtr, rowPtr, used.length, scale);
        kernels.softmax(codedPtr, codedPtr, used.length, scale);
        total += divergence(heap.f32(rowPtr, used.length), heap.f32(codedPtr, used.length));
        queries++;
      }
    }
  });
  return queries > 0 ? total / queries : undefined;
}

/** Weights below this count as this: a softmax in f32 can underflow. */
const LEAST_WEIGHT = 1e-12;

function divergence(exact: Float32Array, coded: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < exact.length; i++) {
    if (exact[i] > LEAST_WEIGHT) sum += exact[i] * Math.log(exact[i] / Math.max(coded[i], LEAST_WEIGHT));
  }
  return Math.max(0, sum);
}

/** 32 mixed bits of a counter (Murmur's finalizer). */
function hash(n: number): number {
  let x = Math.imul(n + 1, 0x9e3779b9);
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}
