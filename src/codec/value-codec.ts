/**
 * Values of one layer: a norm and a direction a token, so that errors stay relative to each token's own size; a basis of
 * the directions, not centred, under the model's Fisher information where that is known; the same allocation, books and
 * planes as keys.
 */
import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { allocate } from "./allocation.ts";
import { type Basis, findBasis, rankFor } from "./basis.ts";
import type { CodedGroup } from "./coded.ts";
import { directionRoots } from "./fisher.ts";
import type { Geometry } from "./geometry.ts";
import { decodeGroup } from "./group-codec.ts";
import { type HeadGroup, headGroups } from "./groups.ts";
import { type ChannelPlan, type CodedRange, encodeByPlan, gatherGroup } from "./key-codec.ts";
import { type CodedNorms, codeNorms, normLevels } from "./norms.ts";
import type { CodecOptions } from "./options.ts";
import { putF32 } from "./tensors.ts";

/** Smaller norms count as this one: the reciprocal of a subnormal number would be infinite. */
const LEAST_NORM = 2 ** -120;

export interface ValueBasis extends HeadGroup {
  basis: Basis;
}

/** Bases of the directions of all head groups of a layer. valuesPtr: (kvHeads, tokens, headDim) f32. */
export function analyseValues(
  runtime: Runtime,
  geometry: Geometry,
  options: CodecOptions,
  range: CodedRange,
  valuesPtr: number,
  fisher?: Float32Array,
): ValueBasis[] {
  return headGroups(geometry, options.grouping).map((group) =>
    runtime.heap.scratch((frame) => {
      const { rowsPtr, dim, norms } = directionsOf(runtime, frame, geometry, range, valuesPtr, group);
      const metric = fisher && directionRoots(runtime, frame, fisher, group, geometry.headDim, norms);
      const rows = { rowsPtr, rowCount: range.count, dim, centrePtr: 0, weightsPtr: 0 };
      const basis = findBasis(runtime, {
        ...rows,
        metric,
        rank: rankFor(dim, options.valueBits, fisher !== undefined),
      });
      return { ...group, basis };
    }),
  );
}

/** Codes of all head groups of a layer on its bases; a plan for each group, or bits as `valueBits` allows. */
export function encodeValues(
  runtime: Runtime,
  geometry: Geometry,
  options: CodecOptions,
  range: CodedRange,
  valuesPtr: number,
  bases: ValueBasis[],
  plans?: ChannelPlan[],
): CodedGroup[] {
  return bases.map(({ basis, ...group }, i) =>
    runtime.heap.scratch((frame) => {
      const { rowsPtr, norms } = directionsOf(runtime, frame, geometry, range, valuesPtr, group);
      const plan = plans?.[i] ?? { widths: allocateValues(basis, options.valueBits) };
      const input = { rowsPtr, rowCount: range.count, centrePtr: 0, basis, basisBits: options.basisBits };
      return { ...group, ...encodeByPlan(runtime, input, plan), norms };
    }),
  );
}

/** Rows (count, dim) f32 of the coded tokens divided by their coded norms. */
export function directionsOf(
  runtime: Runtime,
  frame: Frame,
  geometry: Geometry,
  range: CodedRange,
  valuesPtr: number,
  group: HeadGroup,
): { rowsPtr: number; dim: number; norms: CodedNorms } {
  const dim = group.headCount * geometry.headDim;
  const rowsPtr = gatherGroup(runtime, frame, geometry, range, valuesPtr, group);
  return { rowsPtr, dim, norms: toDirections(runtime, rowsPtr, range.count, dim) };
}

/** From these on, 1-bit channels of values bring no accuracy (docs/adr/0011) and cost time wherever values are mixed. */
const DIM_WITHOUT_ONES = 128;
const BITS_WITHOUT_ONES = 1.75;

/** The least bits that a channel has, where it has any. */
const leastValueWidth = ({ dim }: Basis, valueBits: number): 1 | 2 =>
  dim >= DIM_WITHOUT_ONES && valueBits >= BITS_WITHOUT_ONES ? 2 : 1;

/** Bits of the channels of a value basis. */
export function allocateValues(basis: Basis, valueBits: number): Uint8Array {
  const { dim, variance } = basis;
  return allocate([variance], Math.floor(valueBits * dim), leastValueWidth(basis, valueBits))[0];
}

/**
 * Bits of the channels of all layers' value bases: shared by what errors cost where that is known, else as many in each
 * layer, since errors of directions say nothing of it.
 */
export function allocateAllValues(bases: Basis[][], valueBits: number): Uint8Array[][] {
  const all = bases.flat();
  if (!all.every(({ roots }) => roots)) {
    return bases.map((layer) => layer.map((basis) => allocateValues(basis, valueBits)));
  }
  const spectra = all.map(({ variance }) => variance);
  const elements = all.reduce((sum, { dim }) => sum + dim, 0);
  const flat = allocate(spectra, Math.floor(valueBits * elements), leastValueWidth(all[0], valueBits));
  let next = 0;
  return bases.map((layer) => layer.map(() => flat[next++]));
}

/** Codes the norms of rows (count, dim) f32 and divides the rows by the levels that the codes stand for. */
export function toDirections(runtime: Runtime, rowsPtr: number, count: number, dim: number): CodedNorms {
  const { kernels, heap } = runtime;
  return heap.scratch((frame) => {
    const factorsPtr = frame.reserve(4 * count);
    kernels.rowNorms(factorsPtr, rowsPtr, count, dim);
    const norms = codeNorms(heap.f32(factorsPtr, count).map((norm) => (norm > 0 ? Math.max(norm, LEAST_NORM) : 0)));
    const levels = normLevels(norms);
    heap.f32(factorsPtr, count).forEach((_, i, factors) => {
      factors[i] = norms.codes[i] ? 1 / levels[norms.codes[i]] : 0;
    });
    kernels.scaleRows(rowsPtr, rowsPtr, factorsPtr, count, dim);
    return norms;
  });
}

/** Writes the coded tokens of a group into valuesPtr: (kvHeads, tokens, headDim) f32. */
export function decodeValues(
  runtime: Runtime,
  geometry: Geometry,
  range: CodedRange,
  valuesPtr: number,
  group: CodedGroup,
): void {
  const { kernels, heap } = runtime;
  const { headDim } = geometry;
  const norms = group.norms as NonNullable<CodedGroup["norms"]>;
  heap.scratch((frame) => {
    const dim = group.headCount * headDim;
    const rowsPtr = decodeGroup(runtime, frame, group, dim, range.count, 0);
    const levels = normLevels(norms);
    const factorsPtr = putF32(
      heap,
      frame,
      Float32Array.from(norms.codes, (code) => levels[code]),
    );
    kernels.scaleRows(rowsPtr, rowsPtr, factorsPtr, range.count, dim);
    const to = valuesPtr + 4 * (group.firstHead * range.tokens + range.first) * headDim;
    kernels.scatterRows(to, rowsPtr, range.count, group.headCount, headDim, range.tokens * headDim, headDim);
  });
}
