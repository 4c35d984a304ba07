/**
 * Watches attention on codes against exact attention: a fixed number of coded tokens, sampled evenly over all (reservoir
 * sampling, Vitter 1985), keep their exact keys for the purpose. The error is the divergence between the attention that
 * the samples get among themselves, exact against coded: errors of scores count where attention is.
 */
import type { Heap } from "../runtime/heap.ts";
import type { AttendCall, SegmentSlots, Slots } from "./attention.ts";
import type { ExactRows } from "./exact-rows.ts";

const SAMPLES = 64;
/** Part of a new measurement in the running error. */
const NEW_PART = 0.25;

export class Monitor {
  readonly #heap: Heap;
  readonly #rowBytes: number;
  /** Positions. */
  readonly #samples: number[] = [];
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

  /** Running divergence of attention among the samples: close to KL(exact || coded) in nats. */
  get error(): number {
    return this.#error;
  }

  /** Room for the samples, without which none can be offered. Throws CapacityError with nothing held. */
  makeRoom(): void {
    if (this.#ptr === 0) this.#ptr = this.#heap.reserve(SAMPLES * this.#rowBytes);
  }

  /** Offers one of `count` rows of `recent` from `first` on, which are coded; the first lies at `position`. */
  offer(recent: ExactRows, first: number, count: number, position: number): void {
    const random = hash(this.#seen);
    const row = (random >>> 8) % count;
    const slot = this.#seen < SAMPLES ? this.#seen : random % (this.#seen + 1);
    this.#seen++;
    if (slot >= SAMPLES) return;
    this.#samples[slot] = position + row;
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

  /** Starts again where a sample lies at `position` or behind, for its row and those behind it no longer match. */
  truncate(position: number): void {
    if (this.#samples.every((sample) => sample < position)) return;
    this.#samples.length = 0;
    this.#seen = 0;
  }

  dispose(): void {
    if (this.#ptr) this.#heap.release(this.#ptr);
    this.#ptr = 0;
    this.#samples.length = 0;
  }
}

/** Slot of a coded token, in slots of all of them. */
function slotOf({ parts }: Slots, position: number): number {
  const part = parts.findLast(({ segment }) => segment.position <= position) as SegmentSlots;
  return part.first + position - part.segment.position;
}

/** Mean divergence over queries; undefined for fewer than two samples. */
function errorOf(
  { runtime, layer, queriesPtr, shared }: AttendCall,
  slots: Slots,
  samplesPtr: number,
  rowDim: number,
  samples: number[],
): number | undefined {
  const count = samples.length;
  if (count < 2) return undefined;
  const { kernels, heap } = runtime;
  const { headDim } = layer;
  const scale = 1 / Math.sqrt(headDim);
  const slotsOf = samples.map((sample) => slotOf(slots, sample));
  let total = 0;
  heap.scratch((frame) => {
    const [exactPtr, codedPtr] = [frame.reserve(4 * shared * SAMPLES), frame.reserve(4 * SAMPLES)];
    for (let head = slots.heads.first; head < slots.heads.end; head++) {
      const keysPtr = samplesPtr + 4 * head * headDim;
      const queryPtr = queriesPtr + 4 * head * shared * headDim;
      kernels.scoreRows(exactPtr, keysPtr, queryPtr, count, headDim, shared, rowDim, SAMPLES);
      for (let q = 0; q < shared; q++) {
        const rowPtr = exactPtr + 4 * q * SAMPLES;
        const scores = heap.f32(slots.ptr + 4 * (head * shared + q) * slots.stride, slots.exactFirst);
        heap.f32(codedPtr, count).set(slotsOf.map((slot) => scores[slot]));
        kernels.softmax(rowPtr, rowPtr, count, scale);
        kernels.softmax(codedPtr, codedPtr, count, scale);
        total += divergence(heap.f32(rowPtr, count), heap.f32(codedPtr, count));
      }
    }
  });
  return total / (shared * (slots.heads.end - slots.heads.first));
}

/**
 * Triangular discrimination, sum of (p - q)^2 / (p + q): close to KL(p || q) where that is small, at most 2 (F. Topsoe,
 * IEEE Trans. Inf. Theory 46, 2000), and made of products only, so that every host decides alike.
 */
function divergence(exact: Float32Array, coded: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < exact.length; i++) {
    const both = exact[i] + coded[i];
    if (both > 0) sum += (exact[i] - coded[i]) ** 2 / both;
  }
  return sum;
}

/** 32 mixed bits of a counter (Murmur's finalizer). */
function hash(n: number): number {
  let x = Math.imul(n + 1, 0x9e3779b9);
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}
