/** Twin of assembly/rotary.ts. */
import { ROTARY } from "../codec/layout.ts";
import type { Views } from "../runtime/heap.ts";
import type { Kernels } from "../runtime/kernels.ts";

const { fround } = Math;

export const rotaryTwins = (views: Views): Pick<Kernels, "rotate"> => ({
  rotate(outPtr, rowsPtr, turnsPtr, rotaryPtr, rowCount, headCount) {
    const [headDim, pairCount, interleaved] = views.u32(rotaryPtr, 3);
    const frequencies = views.f64(rotaryPtr + ROTARY.frequencies, pairCount);
    const turns = views.i32(turnsPtr, rowCount);
    const count = rowCount * headCount * headDim;
    const out = views.f32(outPtr, count);
    out.set(views.f32(rowsPtr, count));
    for (let row = 0; row < rowCount; row++) {
      for (let pair = 0; pair < pairCount; pair++) {
        const [cos, sin] = cosSin(turns[row] * frequencies[pair]);
        const first = interleaved ? 2 * pair : pair;
        const gap = interleaved ? 1 : pairCount;
        for (let head = 0; head < headCount; head++) {
          const at = (row * headCount + head) * headDim + first;
          const a = out[at];
          const b = out[at + gap];
          out[at] = fround(a * cos) - fround(b * sin);
          out[at + gap] = fround(b * cos) + fround(a * sin);
        }
      }
    }
  },
});

/** cos and sin in f32, by the polynomials of the kernel. */
function cosSin(angle: number): [number, number] {
  const quarter = nearestEven(angle * 0.63661977236758134308);
  const r =
    angle -
    quarter * 1.57079632673412561417 -
    quarter * 6.0771005063039659766e-11 -
    quarter * 2.02226624879595063154e-21;
  const z = r * r;
  const sin = fround(sinPolynomial(r, z));
  const cos = fround(cosPolynomial(z));
  switch (quarter & 3) {
    case 0:
      return [cos, sin];
    case 1:
      return [-sin, cos];
    case 2:
      return [-cos, -sin];
    default:
      return [sin, -cos];
  }
}

function nearestEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

function sinPolynomial(r: number, z: number): number {
  const tail =
    8.33333333332248946124e-3 +
    z *
      (-1.98412698298579493134e-4 +
        z * (2.75573137070700676789e-6 + z * (-2.50507602534068634195e-8 + z * 1.58969099521155010221e-10)));
  return r + z * r * (-1.66666666666666324348e-1 + z * tail);
}

function cosPolynomial(z: number): number {
  const tail =
    4.16666666666666019037e-2 +
    z *
      (-1.38888888888741095749e-3 +
        z *
          (2.48015872894767294178e-5 +
            z * (-2.75573143513906633035e-7 + z * (2.0875723212981748279e-9 + z * -1.13596475577881948265e-11))));
  return 1 - 0.5 * z + z * z * tail;
}
