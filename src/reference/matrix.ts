/** Twins of assembly/matrix.ts. */
import type { Views } from "../runtime/heap.ts";
import type { Kernels } from "../runtime/kernels.ts";

export const matrixTwins = (views: Views): Pick<Kernels, "multiply" | "transpose"> => ({
  multiply(outPtr, aPtr, bPtr, rows, inner, columns) {
    multiply(
      views.f64(outPtr, rows * columns),
      views.f64(aPtr, rows * inner),
      views.f64(bPtr, inner * columns),
      rows,
      inner,
      columns,
    );
  },

  transpose(outPtr, inPtr, rows, columns) {
    transpose(views.f64(outPtr, rows * columns), views.f64(inPtr, rows * columns), rows, columns);
  },
});

/** out (rows, columns) = a (rows, inner) · b (inner, columns). */
export function multiply(
  out: Float64Array,
  a: Float64Array,
  b: Float64Array,
  rows: number,
  inner: number,
  columns: number,
): void {
  out.fill(0);
  for (let i = 0; i < rows; i++) {
    for (let k = 0; k < inner; k++) {
      const x = a[i * inner + k];
      for (let j = 0; j < columns; j++) out[i * columns + j] += x * b[k * columns + j];
    }
  }
}

export function transpose(out: Float64Array, values: Float64Array, rows: number, columns: number): void {
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) out[j * rows + i] = values[i * columns + j];
}
