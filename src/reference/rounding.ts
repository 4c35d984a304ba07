/** What twins share of assembly/lanes.ts. */
const { fround } = Math;

const ROUNDING = 1.5 * 2 ** 23;

/** The nearest even integer to |x| < 2^22. */
export const nearestEven = (x: number): number => fround(fround(x + ROUNDING) - ROUNDING);

/** The nearest even integer to 0 <= x < 2^22; 0 for what is infinite or no number, as its bits say. */
export const roundedSteps = (x: number): number => (Number.isFinite(x) ? nearestEven(x) : 0);

/** (0 + 1) + (2 + 3), in f32. */
export const sumOfLanes = (lanes: ArrayLike<number>): number =>
  fround(fround(lanes[0] + lanes[1]) + fround(lanes[2] + lanes[3]));
