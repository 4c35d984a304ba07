/** A directory of its own for each test, removed afterwards. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach } from "vitest";

/** Call at the top of a suite; the function returned gives the path of `name` in the directory of the running test. */
export function testDirectory(): (name?: string) => string {
  let directory = "";
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "svdq-test-"));
  });
  afterEach(() => {
    rmSync(directory, { recursive: true, force: true });
  });
  return (name = "") => join(directory, name);
}
