/** The largest count for which `fits` holds, at most 2^20; 0 where it does not even for 1. It holds for all below. */
export function mostUnits(fits: (units: number) => boolean): number {
  let [low, high] = [0, 1];
  while (high < 1 << 20 && fits(high)) [low, high] = [high, 2 * high];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (fits(middle)) low = middle;
    else high = middle;
  }
  return low;
}
