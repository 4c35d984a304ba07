import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { frequenciesOf, putRotary, type Rotary, type RotaryLayout } from "../../src/codec/rotary.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { type Arena, noise, withArena } from "../support/arena.ts";
import { EDGES } from "../support/edges.ts";
import { sameBits } from "../support/exact.ts";
import { PLATFORMS } from "../support/platforms.ts";

const LAYOUTS: RotaryLayout[] = ["half-split", "interleaved"];

function rotated(
  runtime: Runtime,
  arena: Arena,
  rows: Float32Array,
  turns: Int32Array,
  rotary: Rotary,
  headDim: number,
  heads: number,
) {
  const [rowsPtr, turnsPtr, outPtr] = [arena.put(rows), arena.put(turns), arena.out(rows.byteLength)];
  runtime.heap.scratch((frame) => {
    const rotaryPtr = putRotary(runtime.heap, frame, rotary, headDim);
    runtime.kernels.rotate(outPtr, rowsPtr, turnsPtr, rotaryPtr, turns.length, heads);
  });
  return arena.f32(outPtr, rows.length);
}

/** RoPE by its definition, in f64 with the host's functions. */
function expected(
  rows: Float32Array,
  turns: Int32Array,
  { layout, frequencies }: Rotary,
  headDim: number,
  heads: number,
) {
  const out = Float64Array.from(rows);
  turns.forEach((turn, row) => {
    for (let head = 0; head < heads; head++) {
      frequencies.forEach((frequency, pair) => {
        const base = (row * heads + head) * headDim;
        const [i, j] = layout === "interleaved" ? [2 * pair, 2 * pair + 1] : [pair, pair + frequencies.length];
        const [c, s] = [Math.cos(turn * frequency), Math.sin(turn * frequency)];
        out[base + i] = rows[base + i] * c - rows[base + j] * s;
        out[base + j] = rows[base + j] * c + rows[base + i] * s;
      });
    }
  });
  return out;
}

describe.each(PLATFORMS)("rotate on $name", ({ create }) => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await create();
  });

  it.each(LAYOUTS)("is the textbook rotation to 1e-6, partial dimensions left alone: %s", (layout) => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 9 }),
        fc.integer({ min: 1, max: 3 }),
        fc.integer({ min: 0, max: 16 }),
        fc.integer({ min: -1_000_000, max: 1_000_000 }),
        (rowCount, heads, pairs, turn) => {
          const headDim = 32;
          const rotary = { layout, frequencies: frequenciesOf(1e5, pairs) };
          const rows = noise(rowCount * heads * headDim, 7);
          const turns = Int32Array.from({ length: rowCount }, (_, i) => turn + i);
          const got = withArena(runtime, (arena) => rotated(runtime, arena, rows, turns, rotary, headDim, heads));
          expected(rows, turns, rotary, headDim, heads).forEach((x, i) => {
            expect(Math.abs(got[i] - x)).toBeLessThan(1e-6);
          });
        },
      ),
      { numRuns: 30 },
    );
  });

  it.each(LAYOUTS)("scores the same by offset as by position: %s", (layout) => {
    const rotary = { layout, frequencies: frequenciesOf(1e5, 32) };
    const [query, key] = [noise(64, 3), noise(64, 4)];
    const turn = (rows: Float32Array, by: number) =>
      withArena(runtime, (arena) => rotated(runtime, arena, rows, Int32Array.of(by), rotary, 64, 1));
    const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, x, i) => sum + x * b[i], 0);
    const [position, anchor, m] = [1234, 1024, 2000];
    const byPosition = dot(turn(query, m), turn(key, position));
    const byOffset = dot(turn(query, m - anchor), turn(turn(key, position), -anchor));
    expect(Math.abs(byPosition - byOffset)).toBeLessThan(1e-5);
  });

  it("turns in place and back", () => {
    const rotary: Rotary = { layout: "half-split", frequencies: frequenciesOf(1e4, 16) };
    const rows = noise(5 * 2 * 32, 9);
    withArena(runtime, (arena) => {
      const rowsPtr = arena.put(rows);
      runtime.heap.scratch((frame) => {
        const rotaryPtr = putRotary(runtime.heap, frame, rotary, 32);
        for (const sign of [1, -1]) {
          const turnsPtr = arena.put(Int32Array.of(7, 700, 70000, 0, 3).map((x) => sign * x));
          runtime.kernels.rotate(rowsPtr, rowsPtr, turnsPtr, rotaryPtr, 5, 2);
        }
      });
      arena.f32(rowsPtr, rows.length).forEach((x, i) => {
        expect(Math.abs(x - rows[i])).toBeLessThan(3e-7);
      });
    });
  });
});

describe("rotate everywhere", () => {
  it("gives the same bits as its twin", async () => {
    const same = await sameBits();
    for (const layout of LAYOUTS) {
      for (const pairs of [1, 3, 4, 5, 16, 30, 32]) {
        const rotary = { layout, frequencies: frequenciesOf(1e5, pairs) };
        const turns = Int32Array.from({ length: 17 }, (_, i) => i * 997 - 4000);
        same((runtime, arena) => [rotated(runtime, arena, noise(17 * 3 * 64, pairs), turns, rotary, 64, 3)]);
      }
    }
  });

  it.each(EDGES)("same bits for %s", async (_, make) => {
    const same = await sameBits();
    const turns = Int32Array.from({ length: 7 }, (_, i) => i * 997 - 4000);
    for (const layout of LAYOUTS) {
      const rotary = { layout, frequencies: frequenciesOf(1e5, 14) };
      same((runtime, arena) => [rotated(runtime, arena, make(7, 32), turns, rotary, 32, 1)]);
    }
  });
});
