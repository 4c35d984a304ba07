/** How fast the energy of latent channels falls: what low-rank coding lives on. */

export interface Energy {
  /** Latent channels in all. */
  channels: number;
  /** Part of the energy that the leading eighth, quarter and half of the channels capture, 0 to 1. */
  eighth: number;
  quarter: number;
  half: number;
  /** Channels that capture 90 % and 99 % of the energy. */
  channels90: number;
  channels99: number;
}

/** Of the variances (channels) of a layer, in any order. Without any energy the leading channels capture all of it. */
export function energyOf(variances: ArrayLike<number>): Energy {
  const sorted = Float64Array.from(variances).sort().reverse();
  const total = sorted.reduce((sum, x) => sum + x, 0);
  const captured = (count: number): number =>
    total > 0 ? sorted.subarray(0, Math.round(count)).reduce((sum, x) => sum + x, 0) / total : 1;
  const needed = (part: number): number => {
    let count = 0;
    for (let sum = 0; count < sorted.length && sum < part * total; count++) sum += sorted[count];
    return count;
  };
  const channels = sorted.length;
  return {
    channels,
    eighth: captured(channels / 8),
    quarter: captured(channels / 4),
    half: captured(channels / 2),
    channels90: needed(0.9),
    channels99: needed(0.99),
  };
}
