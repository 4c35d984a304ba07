/** The table of a comparison: every number under its title. */
import { describe, expect, it } from "vitest";
import { formatTable, renderSvg } from "../../src/evaluation/report.ts";
import { comparisonRow } from "../support/comparison-row.ts";

const ROWS = [
  comparisonRow("K codec layer span 1 1.25", 1.25, { attentionKl: 0.012345, outputError: 0.5, bytes: 1234567 }),
  comparisonRow("K KIVI 2 bit, groups of 32", 3, { attentionKl: 12.5, outputError: 0, bytes: 12, seconds: 1234.567 }),
  comparisonRow("V x", 10, { bitsWithBasis: 10, attentionKl: 0, outputError: 1.000004, bytes: 999.6, seconds: 0 }),
];

describe("the table", () => {
  it("is aligned: names left, numbers right, five decimals of an error", () => {
    expect(formatTable(ROWS)).toBe(
      [
        "method                       bits  +basis   attn KL  out err      bytes  seconds",
        "K codec layer span 1 1.25    1.25    1.35   0.01235  0.50000  1,234,567     0.50",
        "K KIVI 2 bit, groups of 32   3.00    3.10  12.50000  0.00000         12  1234.57",
        "V x                         10.00   10.00   0.00000  1.00000      1,000     0.00",
        "",
      ].join("\n"),
    );
  });

  it("has lines of one length, however long the names and numbers", () => {
    const rows = [...ROWS, comparisonRow("K".repeat(70), 1e6, { bytes: 1e15, attentionKl: 1e9, seconds: 1e7 })];
    const lines = formatTable(rows).trimEnd().split("\n");
    expect(lines.length).toBe(5);
    expect(new Set(lines.map((line) => line.length)).size).toBe(1);
    expect(lines[4]).toContain("  1,000,000,000,000,000  ");
  });

  it("is a line of titles where there are no rows", () => {
    expect(formatTable([])).toBe("method  bits  +basis  attn KL  out err  bytes  seconds\n");
  });
});

it("the chart comes through the report", async () => {
  expect(await renderSvg(ROWS)).toMatch(/^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" [\s\S]*<\/svg>\n$/);
});
