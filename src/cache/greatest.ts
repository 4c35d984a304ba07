/** The greatest of many numbers, by comparisons alone: every host chooses alike. */

/** Numbers of the `count` greatest, rising; the first of equals. */
export function greatest(worth: Float32Array, count: number): Uint32Array {
  const least = nthGreatest(worth.slice(), count);
  let equals = count;
  for (let i = 0; i < worth.length; i++) if (worth[i] > least) equals--;
  const chosen = new Uint32Array(count);
  for (let i = 0, n = 0; n < count; i++) {
    if (worth[i] > least || (worth[i] === least && equals-- > 0)) chosen[n++] = i;
  }
  return chosen;
}

/** The n-th greatest value, n from 1 on (Hoare's quickselect); reorders the array. */
export function nthGreatest(values: Float32Array, n: number): number {
  let [low, high] = [0, values.length - 1];
  const at = n - 1;
  while (low < high) {
    const pivot = values[(low + high) >> 1];
    let [i, j] = [low, high];
    while (i <= j) {
      while (values[i] > pivot) i++;
      while (values[j] < pivot) j--;
      if (i > j) break;
      const x = values[i];
      values[i++] = values[j];
      values[j--] = x;
    }
    if (at <= j) high = j;
    else if (at >= i) low = i;
    else break;
  }
  return values[at];
}
