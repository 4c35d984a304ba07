/** Runs one piece of work on the reference and on the modules, and expects the same bits from all. */
import { expect } from "vitest";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { Arena } from "./arena.ts";
import { PLATFORMS } from "./platforms.ts";

type Work = (runtime: Runtime, arena: Arena) => ArrayLike<number>[];

/** A checker that holds one runtime a platform. */
export async function sameBits(): Promise<(work: Work) => ArrayLike<number>[]> {
  const runtimes = await Promise.all(PLATFORMS.map((platform) => platform.create()));
  return (work) => {
    const results = runtimes.map((runtime) => {
      const arena = new Arena(runtime);
      const result = work(runtime, arena);
      arena.finish();
      return result;
    });
    for (let i = 1; i < results.length; i++) {
      expect(results[i], `${PLATFORMS[i].name} against ${PLATFORMS[0].name}`).toStrictEqual(results[0]);
    }
    return results[0];
  };
}
