/** The range coder against its twin, and the ratio of f16 bytes to time: what a cache of such channels would take. */
import { MODEL, modelCount, rangeBytes, rangeScratchBytes } from "../src/codec/layout.ts";
import type { Runtime } from "../src/runtime/runtime.ts";
import { type BenchRow, measure, row } from "./harness.ts";

/** As keys of a layer of SmolLM2 come out at 1.25 bits: 192 elements a token. */
const [WIDE, NARROW, TOKENS, ELEMENTS] = [15, 65, 1024, 192];

export default async function (runtime: Runtime, reference: Runtime): Promise<BenchRow[]> {
  const [ours, twin] = [times(runtime, TOKENS), times(reference, TOKENS / 16)];
  const work = `${WIDE} channels of 8 bits and ${NARROW} of 4, ${TOKENS} tokens`;
  const note = (ms: number): string => `${((2 * ELEMENTS * TOKENS) / 1e3 / ms).toFixed(0)} MB of f16 a second`;
  return [
    row("range", `encodeRange ${work}`, ours.encode, "TypeScript twin", 16 * twin.encode, note(ours.encode)),
    row("range", `decodeRange ${work}`, ours.decode, "TypeScript twin", 16 * twin.decode, note(ours.decode)),
  ];
}

function times({ kernels, heap }: Runtime, tokens: number): { encode: number; decode: number } {
  return heap.scratch((frame) => {
    const most = rangeBytes(WIDE, NARROW, tokens);
    const models = modelCount(WIDE, NARROW);
    const [codesPtr, outPtr, scratchPtr, modelsPtr] = [
      (WIDE + NARROW) * tokens,
      most,
      rangeScratchBytes(WIDE, NARROW, tokens),
      MODEL.bytes * models,
    ].map((bytes) => frame.reserve(bytes));
    heap.u8(codesPtr, (WIDE + NARROW) * tokens).forEach((_, i, codes) => {
      // A sum of three even draws, about as bell-shaped as latents are.
      const draw = ((i * 7919) % 101) / 101 + ((i * 104729) % 211) / 211 + ((i * 1299709) % 307) / 307 - 1.5;
      codes[i] = i < WIDE * tokens ? 128 + Math.round(40 * draw) : 7 + Math.round(2 * draw);
    });
    let count = 0;
    const encode = measure(() => {
      kernels.resetModels(modelsPtr, models);
      count = kernels.encodeRange(outPtr, scratchPtr, modelsPtr, codesPtr, WIDE, NARROW, tokens, tokens);
    });
    const decode = measure(() => {
      kernels.resetModels(modelsPtr, models);
      const bytesPtr = outPtr + most - count;
      const status = kernels.decodeRange(codesPtr, modelsPtr, bytesPtr, count, WIDE, NARROW, tokens, tokens);
      if (status !== 0) throw new Error(`decodeRange: expected 0, got ${status}`);
    });
    return { encode, decode };
  });
}
