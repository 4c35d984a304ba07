/** The chart of a comparison: sound SVG, a label for every method, inside the frame, whatever the numbers. */
import { parseHTML } from "linkedom";
import { describe, expect, it } from "vitest";
import { drawChart, familyOf } from "../../src/evaluation/chart.ts";
import { METHODS } from "../../src/evaluation/compare.ts";
import type { ComparisonRow } from "../../src/evaluation/report.ts";
import { comparisonRow } from "../support/comparison-row.ts";
import { checkXml } from "../support/xml.ts";

interface Label {
  text: string;
  left: number;
  right: number;
  top: number;
  bottom: number;
}

interface Panel {
  labels: Label[];
  dots: { title: string; x: number; y: number }[];
  lines: number;
}

const FRAME = { left: 80, right: 876, top: 34, bottom: 424 };

/** Panels of a chart that is well-formed and holds no number that is none. */
function panelsOf(rows: ComparisonRow[]): Panel[] {
  const svg = drawChart(rows);
  checkXml(svg);
  expect(svg).not.toMatch(/NaN|Infinity|undefined|null/);
  const { document } = parseHTML(`<html><body>${svg}</body></html>`);
  return Array.from(document.querySelectorAll("svg svg")).map((panel) => ({
    labels: Array.from(panel.querySelectorAll('g[aria-label="text"] > text')).map(labelOf),
    dots: Array.from(panel.querySelectorAll("circle")).map((circle) => ({
      title: circle.querySelector("title")?.textContent ?? "",
      x: Number(circle.getAttribute("cx")),
      y: Number(circle.getAttribute("cy")),
    })),
    lines: panel.querySelectorAll('g[aria-label="line"] > path').length,
  }));
}

/** Where a text stands: its own transform and its group's. A letter is taken as 0.55 of the font size of 12 wide. */
function labelOf(element: Element): Label {
  const group = element.parentElement!;
  const [own, shift] = [element, group].map((one) => {
    const [, x, y] = /^translate\(([-\d.e]+),([-\d.e]+)\)$/.exec(one.getAttribute("transform") ?? "")!;
    return { x: Number(x), y: Number(y) };
  });
  const text = element.textContent ?? "";
  const width = text.length * 12 * 0.55;
  const anchor = group.getAttribute("text-anchor") ?? "middle";
  const left = own.x + shift.x - (anchor === "start" ? 0 : anchor === "end" ? width : width / 2);
  const middle = own.y + shift.y;
  return { text, left, right: left + width, top: middle - 6, bottom: middle + 6 };
}

function expectInFrame({ labels, dots }: Panel): void {
  for (const { text, left, right, top, bottom } of labels) {
    expect(left, `left of ${text}`).toBeGreaterThanOrEqual(FRAME.left);
    expect(right, `right of ${text}`).toBeLessThanOrEqual(FRAME.right);
    expect(top, `top of ${text}`).toBeGreaterThanOrEqual(FRAME.top);
    expect(bottom, `bottom of ${text}`).toBeLessThanOrEqual(FRAME.bottom);
  }
  for (const { title, x, y } of dots) {
    expect(x > FRAME.left && x < FRAME.right && y > FRAME.top && y < FRAME.bottom, `dot of ${title}`).toBe(true);
  }
}

/** Bits that stand at the end of a method's name, or any. */
const bitsIn = (name: string, i: number): number => Number(/ ([\d.]+)(?:,| bit|$)/.exec(name)?.[1] ?? 1 + (i % 7) / 2);

/** The methods of `compare`, with errors that fall with bits and differ from method to method. */
const REAL = METHODS.map(({ name, kind }, i) => {
  const bits = bitsIn(name, i);
  const luck = 1 + ((i * 7) % 10) / 2;
  return comparisonRow(name, bits, { kind, attentionKl: luck * 4 ** -bits, outputError: luck * 3 ** -bits });
});

const labelsExpected = (rows: ComparisonRow[]): string[] =>
  [...new Set(rows.map(({ method }) => familyOf(method) ?? method.replace(/^[KV] /, "")))].sort();

describe("the chart", () => {
  it("of all methods has a dot for each, one label for each peer and each family, all in the frame", () => {
    const panels = panelsOf(REAL);
    expect(panels.length).toBe(2);
    for (const [i, kind] of (["key", "value"] as const).entries()) {
      const rows = REAL.filter((row) => row.kind === kind);
      expect(panels[i].dots.map(({ title }) => title).sort()).toEqual(rows.map(({ method }) => method).sort());
      expect(panels[i].labels.map(({ text }) => text).sort()).toEqual(labelsExpected(rows));
      expectInFrame(panels[i]);
    }
  });

  it("places dots by bits with the basis and by the error of their kind, on log scales", () => {
    const rows = [1, 2, 4].map((bits) =>
      comparisonRow(`K peer ${bits}`, 0, { bitsWithBasis: bits, attentionKl: 10 ** -bits, outputError: 1 }),
    );
    const [{ dots }] = panelsOf(rows);
    const [one, two, four] = rows.map(({ method }) => dots.find(({ title }) => title === method)!);
    expect(two.x - one.x).toBeCloseTo(four.x - two.x, 6);
    expect(two.y - one.y).toBeCloseTo((four.y - two.y) / 2, 6);
    expect(one.y).toBeLessThan(two.y);
    const values = [1, 2, 4].map((bits) =>
      comparisonRow(`V peer ${bits}`, bits, { outputError: 10 ** -bits, attentionKl: 0 }),
    );
    expect(panelsOf(values)[0].dots.length).toBe(3);
  });

  it("joins the settings of a codec, and no peers", () => {
    const codec = [0.75, 1.25, 2].map((bits) => comparisonRow(`K codec layer span 1 ${bits}`, bits));
    const peers = [2, 3, 4].map((bits) => comparisonRow(`K TurboQuant ${bits}`, bits + 0.25));
    const [panel] = panelsOf([...codec, ...peers]);
    expect(panel.lines).toBe(1);
    expect(panel.labels.map(({ text }) => text).sort()).toEqual([
      "TurboQuant 2",
      "TurboQuant 3",
      "TurboQuant 4",
      "codec layer span 1",
    ]);
  });

  it("is sound without rows, with one, with rows of one kind only", () => {
    expect(panelsOf([])).toEqual([]);
    const [one] = panelsOf([comparisonRow("K KIVI 2 bit", 3)]);
    expect(one.labels.map(({ text }) => text)).toEqual(["KIVI 2 bit"]);
    expectInFrame(one);
    const values = REAL.filter((row) => row.kind === "value");
    expect(panelsOf(values).length).toBe(1);
  });

  it("names the methods that have no place on a log scale, and draws the others", () => {
    const bad: Partial<ComparisonRow>[] = [{ attentionKl: 0 }, { attentionKl: -1e-9 }, { attentionKl: Number.NaN }];
    bad.push(
      { attentionKl: Infinity },
      { bitsWithBasis: 0 },
      { bitsWithBasis: Infinity },
      { bitsWithBasis: Number.NaN },
    );
    const rows = bad.map((given, i) => comparisonRow(`K hidden ${i}`, 2, given));
    const [panel] = panelsOf([comparisonRow("K shown", 3), ...rows]);
    expect(panel.dots.map(({ title }) => title)).toEqual(["K shown"]);
    const note = `(no place on a log scale: ${rows.map(({ method }) => method).join(", ")})`;
    expect(drawChart([comparisonRow("K shown", 3), ...rows])).toContain(note);
    // None that can be drawn: the title and the note stay.
    expect(panelsOf(rows)).toEqual([]);
    expect(drawChart(rows)).toContain(note);
    checkXml(drawChart(rows));
  });

  it("is sound for names with markup in them", () => {
    const name = `K a<b> & "c" 'd' </svg>`;
    const [panel] = panelsOf([
      comparisonRow(name, 2),
      comparisonRow("K b", 3),
      comparisonRow(`${name} 0`, 2, { attentionKl: 0 }),
    ]);
    expect(panel.labels.map(({ text }) => text).sort()).toEqual([name.slice(2), "b"].sort());
  });

  it("keeps labels in the frame where points crowd in a corner, lie on one another, or span many powers of ten", () => {
    const crowded = Array.from({ length: 12 }, (_, i) => comparisonRow(`K peer number ${i}`, 4 + i / 50));
    crowded.push(comparisonRow("K far away", 0.5));
    const same = Array.from({ length: 5 }, (_, i) => comparisonRow(`K same ${i}`, 2));
    const wide = Array.from({ length: 9 }, (_, i) =>
      comparisonRow(`K wide ${i}`, 1 + i, { attentionKl: 10 ** -(3 * i) }),
    );
    for (const rows of [crowded, same, wide]) {
      const [panel] = panelsOf(rows);
      expect(panel.labels.length).toBe(rows.length);
      expectInFrame(panel);
    }
  });

  it("puts no label on another, or on a dot, where there is room", () => {
    const rows = Array.from({ length: 8 }, (_, i) => comparisonRow(`K peer ${i}`, 2 + i / 20));
    rows.push(comparisonRow("K left", 1), comparisonRow("K right", 4));
    const [{ labels, dots }] = panelsOf(rows);
    labels.forEach((a, i) => {
      for (const b of labels.slice(i + 1)) {
        expect(
          a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom,
          `${a.text}, ${b.text}`,
        ).toBe(false);
      }
      for (const { x, y } of dots) expect(x > a.left && x < a.right && y > a.top && y < a.bottom).toBe(false);
    });
  });
});

describe("familyOf", () => {
  it.each([
    ["K codec layer span 1 1.25", "codec layer span 1"],
    ["K codec layer span 1", "codec layer span 1"],
    ["K codec head span None 2", "codec head span None"],
    ["V codec layer 1.5", "codec layer"],
    ["V codec head 2 bits", "codec head"],
    ["K codec layer span 256 1.25 bit", "codec layer span 256"],
    ["K TurboQuant 3", undefined],
    ["V ggml q8_0", undefined],
    ["K SVDq paper [8, 4, 2, 1, 1, 0, 0, 0]", undefined],
  ])("of %s is %s", (method, family) => {
    expect(familyOf(method)).toBe(family);
  });
});
