/** Compressed caches that no codec made: every field anywhere in what archive v1 allows. */
import fc from "fast-check";
import type { ChannelBook, CodedBasis, CodedCache, CodedGroup } from "../../src/codec/coded.ts";
import { blockCount, countWidths, PLANE_BYTES, planeCount } from "../../src/codec/layout.ts";
import { ELEMENT_BYTES, type ElementType } from "../../src/codec/source.ts";

/** Uniform numbers from a seed. */
export class Dice {
  #state: number;
  constructor(seed: number) {
    this.#state = seed >>> 0;
  }
  /** Integer from low to high. */
  integer(low: number, high: number): number {
    this.#state = (Math.imul(this.#state, 1664525) + 1013904223) >>> 0;
    return low + Math.floor((this.#state / 2 ** 32) * (high - low + 1));
  }
  pick<T>(items: readonly T[]): T {
    return items[this.integer(0, items.length - 1)];
  }
  /** f32 of either sign and many sizes, -0 among them. */
  f32(): number {
    if (this.integer(0, 15) === 0) return -0;
    return Math.fround(this.integer(-(2 ** 24), 2 ** 24) * 2 ** this.integer(-40, 10));
  }
  bytes(count: number): Uint8Array {
    return Uint8Array.from({ length: count }, () => this.integer(0, 255));
  }
}

/** Shrinks towards few layers, heads and tokens; what fills them follows from one seed. */
export const anyCache = (): fc.Arbitrary<CodedCache> =>
  fc
    .record({
      seed: fc.integer(),
      layerCount: fc.integer({ min: 1, max: 2 }),
      kvHeads: fc.integer({ min: 1, max: 3 }),
      headDim: fc.constantFrom(32, 36, 48),
      coded: fc.integer({ min: 0, max: 70 }),
      sinks: fc.integer({ min: 0, max: 3 }),
      recent: fc.integer({ min: 0, max: 3 }),
      model: fc.string({ unit: "binary", maxLength: 12 }),
      exactType: fc.constantFrom<ElementType>("f32", "f16", "bf16"),
      anchorSpan: fc.constantFrom(null, 1, 2, 32, 1 << 24),
      hasPairSpans: fc.boolean(),
      hasTokens: fc.boolean(),
    })
    .filter(({ coded, sinks, recent }) => coded + sinks + recent > 0)
    .map(({ seed, layerCount, kvHeads, headDim, coded, hasTokens, hasPairSpans, ...rest }) => {
      const dice = new Dice(seed);
      const tokenCount = rest.sinks + coded + rest.recent;
      const groups = (role: "keys" | "values"): CodedGroup[] => groupsOf(dice, role, kvHeads, headDim, coded);
      const exact = (): Uint8Array =>
        finiteElements(dice, rest.exactType, kvHeads * (rest.sinks + rest.recent) * headDim);
      const frequencies = Float64Array.from({ length: dice.integer(0, headDim / 2) }, () => dice.f32() / 2 ** 34);
      // A list has spans that differ.
      const pairSpans = Array.from(frequencies, (_, i) => (i === 0 ? 64 : dice.pick([null, 1, 32])));
      return {
        geometry: { layerCount, kvHeads, headDim },
        rotary: {
          layout: dice.pick(["half-split", "interleaved"] as const),
          frequencies,
        },
        layerNumbers: Array.from({ length: layerCount }, (_, i) => 2 * i + dice.integer(0, 1)),
        tokenCount,
        ...rest,
        ...(hasPairSpans && frequencies.length > 1 && { anchorSpan: pairSpans }),
        layers: Array.from({ length: layerCount }, () => ({
          keys: groups("keys"),
          values: groups("values"),
          exactKeys: exact(),
          exactValues: exact(),
        })),
        ...(hasTokens && {
          tokens: Int32Array.from({ length: tokenCount }, () => dice.integer(-(2 ** 31), 2 ** 31 - 1)),
        }),
      };
    });

function groupsOf(dice: Dice, role: "keys" | "values", kvHeads: number, headDim: number, coded: number): CodedGroup[] {
  const groups: CodedGroup[] = [];
  for (let firstHead = 0; firstHead < kvHeads; ) {
    const headCount = dice.integer(1, kvHeads - firstHead);
    groups.push(groupOf(dice, role, firstHead, headCount, headCount * headDim, coded));
    firstHead += headCount;
  }
  return groups;
}

function groupOf(
  dice: Dice,
  role: "keys" | "values",
  firstHead: number,
  headCount: number,
  dim: number,
  coded: number,
): CodedGroup {
  const widths = Array.from({ length: dice.pick([0, 1, 3, 9]) }, () => dice.pick([1, 2, 4, 8] as const));
  widths.sort((a, b) => b - a);
  const hasOffsets = dice.integer(0, 1) === 1;
  const books = widths.map(
    (width): ChannelBook => ({
      width,
      kind: width === 8 ? "uniform" : dice.pick(["normal", "uniform"] as const),
      scale: Math.abs(dice.f32()),
      offset: hasOffsets ? dice.f32() : 0,
    }),
  );
  const half = (): number => dice.integer(0, 0x7bff) | (dice.integer(0, 1) << 15);
  const side =
    role === "keys"
      ? { centre: Uint16Array.from({ length: dim }, half) }
      : {
          norms: {
            codes: dice.bytes(coded),
            least: Math.abs(dice.f32()),
            step: Math.fround(1 + dice.integer(0, 40) / 1000),
          },
        };
  return {
    firstHead,
    headCount,
    books,
    basis: basisOf(dice, widths.length, dim),
    ...side,
    planes: planesOf(dice, widths, coded),
  };
}

function basisOf(dice: Dice, channels: number, dim: number): CodedBasis {
  const widths = Uint8Array.from({ length: channels }, () => dice.integer(2, 12));
  return {
    widths,
    scales: Float32Array.from({ length: channels }, () => dice.f32()),
    codes: Int16Array.from({ length: channels * dim }, (_, i) => {
      const end = 2 ** (widths[Math.floor(i / dim)] - 1);
      return dice.integer(-end, end - 1);
    }),
    ...(dice.integer(0, 1) && { columnScales: Uint16Array.from({ length: dim }, () => dice.integer(1, 0x7bff)) }),
  };
}

/** Random codes token by token, so that free places stay zero; written from the words of layout.ts, not by a kernel. */
function planesOf(dice: Dice, widths: number[], coded: number): Uint8Array {
  const counts = countWidths(widths);
  const blockPlanes = planeCount(counts);
  const planes = new Uint8Array(blockCount(coded) * blockPlanes * PLANE_BYTES);
  for (let token = 0; token < coded; token++) {
    const put = (plane: number, nibble: number): void => {
      const at = (Math.floor(token / 32) * blockPlanes + plane) * PLANE_BYTES + (token % 16);
      planes[at] |= nibble << (token % 32 < 16 ? 0 : 4);
    };
    let plane = 0;
    for (const full = 2 * counts.count8 + counts.count4; plane < full; plane++) put(plane, dice.integer(0, 15));
    for (let left = counts.count2; left > 0; left -= 2) put(plane++, dice.integer(0, left > 1 ? 15 : 3));
    for (let left = counts.count1; left > 0; left -= 4) put(plane++, dice.integer(0, 2 ** Math.min(4, left) - 1));
  }
  return planes;
}

/** Bits of any finite numbers, -0 and subnormals too. */
function finiteElements(dice: Dice, type: ElementType, count: number): Uint8Array {
  const bytes = dice.bytes(count * ELEMENT_BYTES[type]);
  const size = ELEMENT_BYTES[type];
  // Clears the lowest bit of the exponent, so that it is never all ones.
  const [back, bit] = type === "f16" ? [1, 0x04] : [2, 0x80];
  for (let at = size; at <= bytes.length; at += size) bytes[at - back] &= ~bit;
  return bytes;
}
