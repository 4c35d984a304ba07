/** Memory that ends at a chosen moment. */
import { CapacityError } from "../../src/errors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";

/** Runs `work` while the reserve of number `first`, counted from 0, and with `forGood` all behind it fail. */
export function failingAt(runtime: Runtime, first: number, forGood: boolean, work: () => void) {
  const { heap } = runtime;
  const { reserve } = heap;
  let count = 0;
  heap.reserve = (bytes) => {
    const fails = forGood ? count >= first : count === first;
    count++;
    if (fails) throw new CapacityError("linear memory: no more of it, says a test");
    return reserve.call(heap, bytes);
  };
  let error: unknown;
  try {
    work();
  } catch (caught) {
    if (!(caught instanceof CapacityError)) throw caught;
    error = caught;
  } finally {
    Reflect.deleteProperty(heap, "reserve");
  }
  /** Whether a reserve failed, and whether the work said so. */
  return { met: count > first, threw: error !== undefined };
}
