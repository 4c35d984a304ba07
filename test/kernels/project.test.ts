import { beforeAll, describe, expect, it } from "vitest";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { type Arena, noise, withArena } from "../support/arena.ts";
import { EDGES } from "../support/edges.ts";
import { sameBits } from "../support/exact.ts";
import { PLATFORMS } from "../support/platforms.ts";

const SHAPES: [rows: number, dim: number, channels: number][] = [
  [0, 4, 4],
  [1, 1, 1],
  [3, 8, 8],
  [4, 8, 8],
  [5, 12, 9],
  [33, 64, 20],
  [64, 192, 101],
  [17, 6, 0],
  [7, 63, 33],
];

function both(
  runtime: Runtime,
  arena: Arena,
  rowCount: number,
  dim: number,
  channels: number,
  centred: boolean,
  rows = noise(rowCount * dim, 2),
) {
  const stride = rowCount + 5;
  const rowsPtr = arena.put(rows);
  const centrePtr = centred ? arena.put(noise(dim, 3)) : 0;
  const matrixPtr = arena.put(noise(dim * channels, 4));
  const latentsPtr = arena.put(new Float32Array(channels * stride).fill(7));
  const backPtr = arena.out(4 * rowCount * dim);
  runtime.kernels.project(latentsPtr, rowsPtr, centrePtr, matrixPtr, rowCount, dim, channels, stride);
  runtime.kernels.synthesize(backPtr, latentsPtr, centrePtr, matrixPtr, rowCount, dim, channels, stride);
  return { latents: arena.f32(latentsPtr, channels * stride), back: arena.f32(backPtr, rowCount * dim), stride };
}

describe.each(PLATFORMS)("project and synthesize on $name", ({ create }) => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await create();
  });

  it.each(SHAPES)(
    "%i rows of %i to %i channels as defined, nothing between strides touched",
    (rowCount, dim, channels) => {
      const rows = noise(rowCount * dim, 2);
      const [centre, analysis] = [noise(dim, 3), noise(dim * channels, 4)];
      const { latents, stride } = withArena(runtime, (arena) => both(runtime, arena, rowCount, dim, channels, true));
      for (let c = 0; c < channels; c++) {
        for (let t = 0; t < stride; t++) {
          let sum = 0;
          for (let d = 0; d < dim; d++) sum += (rows[t * dim + d] - centre[d]) * analysis[d * channels + c];
          if (t < rowCount) expect(Math.abs(latents[c * stride + t] - sum)).toBeLessThan(1e-5 * (1 + dim / 10));
          else expect(latents[c * stride + t]).toBe(7);
        }
      }
    },
  );

  it("an orthonormal basis gives the rows back", () => {
    // Rows of a Hadamard matrix over 4 are orthonormal.
    const dim = 16;
    const basis = Float32Array.from({ length: dim * dim }, (_, i) => {
      let bits = Math.floor(i / dim) & (i % dim);
      let sign = 1;
      for (; bits; bits &= bits - 1) sign = -sign;
      return sign / 4;
    });
    const rows = noise(9 * dim, 8);
    withArena(runtime, (arena) => {
      const [rowsPtr, basisPtr, centrePtr] = [arena.put(rows), arena.put(basis), arena.put(noise(dim, 1))];
      const [latentsPtr, backPtr] = [arena.out(4 * dim * 9), arena.out(rows.byteLength)];
      runtime.kernels.project(latentsPtr, rowsPtr, centrePtr, basisPtr, 9, dim, dim, 9);
      runtime.kernels.synthesize(backPtr, latentsPtr, centrePtr, basisPtr, 9, dim, dim, 9);
      arena.f32(backPtr, rows.length).forEach((x, i) => {
        expect(Math.abs(x - rows[i])).toBeLessThan(1e-6);
      });
    });
  });
});

describe("project and synthesize everywhere", () => {
  it.each(SHAPES)("same bits as the twins: %i rows of %i to %i channels", async (rowCount, dim, channels) => {
    const same = await sameBits();
    for (const centred of [true, false]) {
      same((runtime, arena) => {
        const { latents, back } = both(runtime, arena, rowCount, dim, channels, centred);
        return [latents, back];
      });
    }
  });

  it.each(EDGES)("same bits for %s", async (_, make) => {
    const same = await sameBits();
    same((runtime, arena) => {
      const { latents, back } = both(runtime, arena, 18, 13, 7, false, make(18, 13));
      return [latents, back];
    });
  });
});
