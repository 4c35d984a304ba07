/** The promises of contract.ts, asked of every backend that runs here. */
import type { Miniflare } from "miniflare";
import { afterAll, beforeAll } from "vitest";
import { testDirectory } from "../support/directory.ts";
import { BACKENDS, startWorkerd } from "./backends.ts";
import { storeContract } from "./contract.ts";

const pathOf = testDirectory();
let workerd: Miniflare;
beforeAll(async () => {
  workerd = await startWorkerd();
});
afterAll(() => workerd.dispose());

let tests = 0;

for (const [name, make] of BACKENDS) {
  storeContract(name, () => make({ folder: pathOf(), base: `t${++tests}/`, workerd }));
}
