/**
 * Lets the host's event loop run now and then during long work, so that timers, signals and drawing get their turn.
 * `last`: when it last did; returned anew. Throws the signal's reason.
 */
export async function breathe(last: number, signal: AbortSignal | undefined): Promise<number> {
  if (performance.now() - last < 100) return last;
  await new Promise((resolve) => setTimeout(resolve, 0));
  signal?.throwIfAborted();
  return performance.now();
}
