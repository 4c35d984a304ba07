/** Timing shared by every bench: the best of many calls, and a row that always names its peer. */
export interface BenchRow {
  bench: string;
  name: string;
  peer: string;
  milliseconds: number;
  peerMilliseconds: number;
  /** milliseconds / peerMilliseconds: below 1 is faster than the peer. */
  ratio: number;
  note?: string;
}

/** Best milliseconds of a call, over at least `minMilliseconds` and five calls after one to warm up. */
export function measure(work: () => void, minMilliseconds = 300): number {
  work();
  let best = Infinity;
  const start = performance.now();
  for (let calls = 0; calls < 5 || performance.now() - start < minMilliseconds; calls++) {
    const before = performance.now();
    work();
    best = Math.min(best, performance.now() - before);
  }
  return best;
}

export function row(
  bench: string,
  name: string,
  milliseconds: number,
  peer: string,
  peerMilliseconds: number,
  note?: string,
): BenchRow {
  return {
    bench,
    name,
    peer,
    milliseconds,
    peerMilliseconds,
    ratio: milliseconds / peerMilliseconds,
    ...(note ? { note } : {}),
  };
}

/** Best milliseconds of work that is a promise, over `runs` runs. */
export async function measureAsync(work: () => Promise<unknown>, runs = 3): Promise<number> {
  let best = Infinity;
  for (let i = 0; i < runs; i++) {
    const before = performance.now();
    await work();
    best = Math.min(best, performance.now() - before);
  }
  return best;
}
