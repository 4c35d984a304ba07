/** Anchors: rules and parts of spans a rotary pair, and rows turned by them, against a plain rotation pair by pair. */
import { beforeAll, describe, expect, it } from "vitest";
import {
  anchorsOf,
  checkSpan,
  describeSpan,
  type PairSpan,
  type SpanRule,
  spanFor,
  spansByFrequency,
  turnByAnchors,
} from "../../src/codec/anchors.ts";
import { frequenciesOf, type Rotary, type RotaryLayout } from "../../src/codec/rotary.ts";
import { putF32 } from "../../src/codec/tensors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { sameBits } from "../support/exact.ts";
import { noise } from "../support/noise.ts";
import { pairSpans } from "../support/pair-spans.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { turn } from "../support/tiny-cache.ts";

const rotaryOf = (pairs: number, layout: RotaryLayout = "half-split"): Rotary => ({
  layout,
  frequencies: frequenciesOf(1e5, pairs),
});

describe("spans by frequency", () => {
  it("have none for fast pairs, then the power of two nearest to 0.7 radians, from 32 to 1,024", () => {
    const spans = spansByFrequency(rotaryOf(32));
    expect(spans.slice(0, 7)).toEqual(new Array(7).fill(null));
    expect(spans.slice(7, 14)).toEqual([32, 32, 32, 32, 32, 64, 64]);
    expect(spans.slice(-8)).toEqual(new Array(8).fill(1024));
    spans.forEach((span, i) => {
      const tokens = 0.7 / frequenciesOf(1e5, 32)[i];
      if (span === null || span === 32 || span === 1024) return;
      expect(Math.max(span / tokens, tokens / span)).toBeLessThanOrEqual(Math.SQRT2 * (1 + 1e-12));
    });
  });

  it("follow the rule that is given, whichever way a pair turns", () => {
    const frequencies = Float64Array.of(0.5, -0.02, 0.001, 0);
    expect(spansByFrequency({ frequencies }, { fastest: 1, turn: 1, least: 1, most: 64 })).toEqual([2, 64, 64, 64]);
    expect(spansByFrequency({ frequencies }, { fastest: 0.01 })).toEqual([null, null, 512, 1024]);
  });

  it.each<[Partial<SpanRule>, string]>([
    [{ fastest: 4 }, "fastest: expected a number from 0 to 3.14"],
    [{ turn: 0 }, "turn: expected a number from"],
    [{ least: 0 }, "least: expected an integer from 1 to 16777216, got 0"],
    [{ most: 48 }, "expected a power of two from 1 to 16777216 or null, got 48"],
  ])("refuse %o", (rule, message) => {
    expect(() => spansByFrequency(rotaryOf(4), rule)).toThrow(message);
  });
});

describe("a list of spans", () => {
  it("is one number where all are alike, and a copy where not", () => {
    expect(spanFor([64, 64, 64, 64], rotaryOf(4))).toBe(64);
    expect(spanFor([null, null], rotaryOf(2))).toBeNull();
    expect(spanFor([], rotaryOf(0))).toBeNull();
    const list = [null, 32];
    expect(spanFor(list, rotaryOf(2))).toEqual(list);
    expect(spanFor(list, rotaryOf(2))).not.toBe(list);
  });

  it("has one for each pair, a power of two or none", () => {
    expect(() => spanFor([32, 64], rotaryOf(16))).toThrow(
      "anchorSpan: expected 16 spans, one for each rotary pair, got 2",
    );
    expect(() => checkSpan([null, 32, 3])).toThrow("anchorSpan[2]: expected a power of two from 1 to 16777216 or null");
    expect(() => checkSpan([32, undefined as unknown as null])).toThrow("anchorSpan[1]: expected");
  });

  it.each<RotaryLayout>(["half-split", "interleaved"])("parts the dimensions of a head, %s", (layout) => {
    const { parts, order, least, longest } = anchorsOf(pairSpans(14), rotaryOf(14, layout), 36);
    expect(parts.map(({ span }) => span)).toEqual([null, 256, 128, 64, 32]);
    expect([least, longest]).toEqual([32, 256]);
    expect(order).toEqual(parts.flatMap(({ dims }) => dims));
    expect(order!.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 36 }, (_, d) => d));
    // Dimensions behind the pairs never turn.
    expect(parts[0].dims.slice(-8)).toEqual([28, 29, 30, 31, 32, 33, 34, 35]);
    expect(parts[1].dims).toEqual(layout === "interleaved" ? [6, 20, 7, 21] : [3, 10, 17, 24]);
  });

  it("is described by how many pairs have each", () => {
    expect([32, null, [null, null, 32, 64, 32]].map((span) => describeSpan(span))).toEqual([
      "32",
      "none",
      "none for 2, 32 for 2, 64 for 1",
    ]);
  });
});

const [COUNT, HEADS, DIM, POSITION] = [70, 2, 36, 11];
const ROWS = noise(COUNT * HEADS * DIM, 5);
const tokenOf = (row: number): number => 100 + 3 * row;

function turned(runtime: Runtime, rotary: Rotary, spans: PairSpan[], signs: (1 | -1)[]): Float32Array {
  return runtime.heap.scratch((frame) => {
    const ptr = putF32(runtime.heap, frame, ROWS);
    const rows = { ptr, count: COUNT, headCount: HEADS, position: POSITION, tokenOf };
    for (const sign of signs) turnByAnchors(runtime, anchorsOf(spanFor(spans, rotary), rotary, DIM), rows, sign);
    return runtime.heap.f32(ptr, ROWS.length).slice();
  });
}

describe("rows turned by the anchors of each pair", () => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await PLATFORMS[2].create({ poison: true });
  });

  it.each<RotaryLayout>(["half-split", "interleaved"])("are as each pair turned alone, %s", (layout) => {
    const rotary = rotaryOf(14, layout);
    const spans = pairSpans(14);
    const expected = ROWS.slice();
    for (let at = 0; at < ROWS.length; at += DIM) {
      const token = tokenOf(Math.floor(at / DIM / HEADS));
      spans.forEach((span, pair) => {
        if (span === null) return;
        const alone = rotary.frequencies.map((f, i) => (i === pair ? f : 0));
        turn(expected, at, POSITION + token - (token % span), { layout, frequencies: alone });
      });
    }
    const got = turned(runtime, rotary, spans, [1]);
    expect(Math.max(...got.map((x, i) => Math.abs(x - expected[i])))).toBeLessThan(1e-6);
    const back = turned(runtime, rotary, spans, [1, -1]);
    expect(Math.max(...back.map((x, i) => Math.abs(x - ROWS[i])))).toBeLessThan(1e-6);
    expect(runtime.heap.bytesInUse).toBe(0);
  });

  it("come out the same from equal spans in a list as from one span", () => {
    const rotary = rotaryOf(14);
    const one = runtime.heap.scratch((frame) => {
      const ptr = putF32(runtime.heap, frame, ROWS);
      const rows = { ptr, count: COUNT, headCount: HEADS, position: POSITION, tokenOf };
      turnByAnchors(runtime, anchorsOf(64, rotary, DIM), rows, -1);
      return runtime.heap.f32(ptr, ROWS.length).slice();
    });
    expect(turned(runtime, rotary, new Array(14).fill(64), [-1])).toEqual(one);
  });

  it("are the same on every platform, bit for bit", async () => {
    const run = await sameBits();
    run((on) => [
      turned(on, rotaryOf(14), pairSpans(14), [-1]),
      turned(on, rotaryOf(14, "interleaved"), pairSpans(14), [1]),
    ]);
  });
});
