/** Rotary position embedding: frequencies from any theta and scaling, and the descriptor that the kernel reads. */
import { expectInteger, expectNumber } from "../errors.ts";
import type { Frame, Heap } from "../runtime/heap.ts";
import { ROTARY, rotaryBytes } from "./layout.ts";

export type RotaryLayout = "half-split" | "interleaved";

/**
 * Pair i turns by `frequencies[i]` radians a position. half-split pairs dimension i with i + pairs (transformers,
 * onnxruntime); interleaved pairs 2i with 2i + 1 (llama.cpp, llama family). Dimensions past 2 * pairs do not turn
 * (partial rotary). Scalings (linear, llama3, yarn) are given as the frequencies that they lead to.
 */
export interface Rotary {
  layout: RotaryLayout;
  frequencies: Float64Array;
}

export function checkRotary(rotary: Rotary, headDim: number): Rotary {
  if (rotary.layout !== "half-split" && rotary.layout !== "interleaved") {
    throw new RangeError(`rotary.layout: expected "half-split" or "interleaved", got ${String(rotary.layout)}`);
  }
  expectInteger("rotary.frequencies.length", rotary.frequencies.length, 0, headDim / 2);
  for (const [i, f] of rotary.frequencies.entries()) expectNumber(`rotary.frequencies[${i}]`, f, -Math.PI, Math.PI);
  return rotary;
}

/**
 * theta^(-i / pairs) for each pair: the frequencies of plain RoPE. Made from a Newton root and products only, so
 * that every host computes the same bits (Math.pow differs between engines).
 */
export function frequenciesOf(theta: number, pairs: number): Float64Array {
  expectNumber("theta", theta, 1, 1e12);
  const ratio = pairs > 0 ? 1 / integerRoot(theta, pairs) : 1;
  const frequencies = new Float64Array(pairs);
  for (let i = 0; i < pairs; i++) frequencies[i] = integerPower(ratio, i);
  return frequencies;
}

/** x^(1/n) for x and n from 1, by Newton's method from above: steps go down until rounding turns one up. */
export function integerRoot(x: number, n: number): number {
  // A power of two less than twice the root: far above it a step takes off one part in n only.
  let root = 1;
  while (integerPower(root, n) < x) root *= 2;
  for (;;) {
    const next = root + (x / integerPower(root, n - 1) - root) / n;
    if (next >= root) return root;
    root = next;
  }
}

function integerPower(x: number, n: number): number {
  let power = 1;
  for (let square = x, rest = n; rest > 0; square *= square, rest >>= 1) if (rest & 1) power *= square;
  return power;
}

/** Address of the kernel's descriptor, in the given frame. */
export function putRotary(heap: Heap, frame: Frame, rotary: Rotary, headDim: number): number {
  const pairs = rotary.frequencies.length;
  const ptr = frame.reserve(rotaryBytes(pairs));
  heap.u32(ptr, 4).set([headDim, pairs, rotary.layout === "interleaved" ? 1 : 0, 0]);
  heap.f64(ptr + ROTARY.frequencies, pairs).set(rotary.frequencies);
  return ptr;
}
