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
  const quarter = nearestEven(angle * 0.6366197723675814);
  const r = angle - quarter * 1.5707963267341256 - quarter * 6.077100506303966e-11 - quarter * 2.0222662487959506e-21;
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
    0.00833333333332249 +
    z *
      (-0.0001984126982985795 + z * (2.7557313707070068e-6 + z * (-2.5050760253406863e-8 + z * 1.58969099521155e-10)));
  return r + z * r * (-0.16666666666666632 + z * tail);
}

function cosPolynomial(z: number): number {
  const tail =
    0.0416666666666666 +
    z *
      (-0.001388888888887411 +
        z *
          (2.480158728947673e-5 +
            z * (-2.7557314351390663e-7 + z * (2.087572321298175e-9 + z * -1.1359647557788195e-11))));
  return 1 - 0.5 * z + z * z * tail;
}
