/** Runs one piece of work on the reference and on the modules, and expects the same bits from all. */
import { expect } from "vitest";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { Arena } from "./arena.ts";
import { PLATFORMS } from "./platforms.ts";

type Work = (runtime: Runtime, arena: Arena) => ArrayLike<number>[];

/** A checker that holds one runtime a platform. Memory does not grow on every reserve here: that takes 0.2 ms each. */
export async function sameBits(): Promise<(work: Work) => ArrayLike<number>[]> {
  const runtimes = await Promise.all(PLATFORMS.map((platform) => platform.create({ poison: true })));
  return (work) => {
    const results = runtimes.map((runtime) => {
      const arena = new Arena(runtime);
      const result = work(runtime, arena);
      arena.finish();
      return result;
    });
    for (let i = 1; i < results.length; i++) {
      const label = `${PLATFORMS[i].name} against ${PLATFORMS[0].name}`;
      expect(results[i].length, label).toBe(results[0].length);
      results[i].forEach((values, k) => {
        expectSame(values, results[0][k], `${label}, result ${k}`);
      });
    }
    return results[0];
  };
}

/** The same numbers, -0 and NaN told apart. Looks first and words a failure only then: many times faster than toEqual. */
export function expectSame(got: ArrayLike<number>, expected: ArrayLike<number>, label?: string): void {
  let at = 0;
  while (at < expected.length && Object.is(got[at], expected[at])) at++;
  if (at < expected.length || got.length !== expected.length) expect(got, label).toStrictEqual(expected);
}
