/** The programme that compares runtimes: it sees a difference, and Node 20 and whatever else is installed agree. */
import { beforeAll, describe, expect, it } from "vitest";
import { drawRatios } from "../../bench/runtimes/chart.ts";
import { HOSTS } from "../../bench/runtimes/hosts.ts";
import { differences, markdown, type Outcome } from "../../bench/runtimes/report.ts";

const result = (name: string, digest: string, milliseconds = 2) => ({
  name,
  version: `${name} 1`,
  loaded: 3,
  digests: { one: "a", two: digest },
  milliseconds: { one: milliseconds, two: 4 },
});
const machine = { cpu: "a processor", date: "2026-01-01", wasm: { bytes: 1, sha256: "0" } };

describe("the report", () => {
  it("names each digest that is not the first runtime's, and each runtime that failed", () => {
    const results = [result("A", "b"), result("B", "b"), result("C", "c"), { name: "D", failed: "no" }];
    expect(differences(results)).toEqual(["D: no", "two: C gave c, A b"]);
    expect(differences(results.slice(0, 2))).toEqual([]);
  });

  it("says what is missing, never as passed, and gives ratios to the first", () => {
    const page = markdown(machine, [result("A", "b"), result("B", "b", 5), { name: "C", missing: "not installed" }]);
    expect(page).toContain("same bytes in 2 runtimes: A, B.");
    expect(page).toContain("| one | 2.0 | 2.50 |");
    expect(page).toContain("| C | not installed |  |");
  });

  it("draws a bar a runtime and step", () => {
    const svg = drawRatios([result("A", "b"), result("B", "b", 5)]);
    expect(svg.match(/2\.50/g)).toHaveLength(1);
  });
});

let here: Outcome;
beforeAll(async () => {
  here = await HOSTS[process.versions.node.startsWith("20.") ? 0 : 1].run();
}, 60_000);

describe.each(HOSTS)("$name", ({ run }) => {
  it("gives the bytes of this Node", async (context) => {
    const got = await run();
    if (got.missing) return context.skip(got.missing);
    expect(
      differences([
        { name: "here", ...here },
        { name: "there", ...got },
      ]),
    ).toEqual([]);
  }, 180_000);
});
