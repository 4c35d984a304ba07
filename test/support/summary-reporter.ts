/** Ends a run with one line for machines: `N passed, N failed`, and the skipped where there are any. */
import type { Reporter, TestModule } from "vitest/node";

export default class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly unknown[]): void {
    const counts = { passed: 0, failed: 0, skipped: 0, pending: 0 };
    for (const module of modules) {
      for (const test of module.children.allTests()) counts[test.result().state]++;
      // A file that does not load, or a hook that throws, fails without a failed test.
      if (module.state() === "failed" && !someFailed(module)) counts.failed++;
    }
    counts.failed += errors.length;
    const skipped = counts.skipped + counts.pending;
    const line = `${counts.passed} passed, ${counts.failed} failed${skipped ? `, ${skipped} skipped` : ""}`;
    // Other reporters still print their own summary after this call, so the line waits for the end of the process.
    process.once("exit", () => process.stdout.write(`${line}\n`));
  }
}

function someFailed(module: TestModule): boolean {
  for (const _ of module.children.allTests("failed")) return true;
  return false;
}
