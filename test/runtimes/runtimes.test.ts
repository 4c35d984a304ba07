/** The programme that compares runtimes: it sees a difference, and Node 20 and whatever else is installed agree. */
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { drawRatios } from "../../bench/runtimes/chart.ts";
import { HOSTS } from "../../bench/runtimes/hosts.ts";
import { bestOf, differences, markdown, type Outcome } from "../../bench/runtimes/report.ts";
import { testDirectory } from "../support/directory.ts";

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

  it("takes the best times of several processes, whose bits must be the same too", () => {
    const [slow, quick] = [result("A", "b", 5), { ...result("A", "b", 3), loaded: 2 }];
    expect(bestOf([slow, quick, slow])).toEqual({ ...quick, milliseconds: { one: 3, two: 4 } });
    expect(bestOf([slow, result("A", "c")])).toEqual({ failed: "two: gave b, then c" });
    expect(bestOf([slow, { failed: "no" }])).toEqual({ failed: "no" });
    expect(bestOf([{ missing: "not installed" }, { missing: "not installed" }])).toEqual({ missing: "not installed" });
  });

  it("gives peers as ratios to attend in the same runtime, and names where one was not run", () => {
    const ran = result("A", "b");
    const with_ = { ...ran, milliseconds: { ...ran.milliseconds, attend: 2, "peer attend": 5 } };
    const without = { ...ran, name: "B", notRun: { "peer attend": "no wasm" } };
    const page = markdown(machine, [with_, without]);
    expect(page).toContain("| peer | 2.50 | not run |");
    expect(page).toContain("- peer attend was not run in B: no wasm");
    expect(drawRatios([with_, without])).toContain("peer attend");
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

const chromium = HOSTS.find(({ name }) => name === "Chromium")!;
const pathOf = testDirectory();

describe("a browser that is stopped", () => {
  it("leaves neither processes nor files", async (context) => {
    const tmp = pathOf("tmp");
    mkdirSync(tmp);
    vi.stubEnv("TMPDIR", tmp);
    const stop = new AbortController();
    const outcome = chromium.run(stop.signal).catch((error: Error) => error.message);
    const isMissing = await Promise.race([outcome, until(() => processesWith(tmp).length > 2)]);
    if (isMissing) return context.skip("Chromium is not installed, or there is no /proc");
    stop.abort(new Error("stopped"));
    expect(await outcome).toBe("stopped");
    vi.unstubAllEnvs();
    await until(() => processesWith(tmp).length === 0);
    expect(readdirSync(tmp)).toEqual([]);
  }, 30_000);
});

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 20));
}

/** Command lines that name a path. */
function processesWith(path: string): string[] {
  const line = (id: string) => {
    try {
      return readFileSync(`/proc/${id}/cmdline`, "utf8");
    } catch {
      return ""; // ended meanwhile
    }
  };
  const ids = existsSync("/proc/self/cmdline") ? readdirSync("/proc").filter((name) => /^\d+$/.test(name)) : [];
  return ids.map(line).filter((text) => text.includes(path));
}
