/** Pictures of the playground: sound SVG with a name, as many marks as there are numbers, in the page's own colours. */
import { parseHTML } from "linkedom";
import { describe, expect, it } from "vitest";
import type {
  AttentionPicture,
  LayerSpectrum,
  QualityPoint,
  Sizes,
  WidthRun,
} from "../../../demo/playground/src/messages.ts";
import { allocationView } from "../../../demo/playground/src/views/allocation.ts";
import { attentionView, cellsOf, heatOf } from "../../../demo/playground/src/views/attention.ts";
import { errorsView } from "../../../demo/playground/src/views/errors.ts";
import { type Frame, table, type View } from "../../../demo/playground/src/views/frame.ts";
import { budgetView, qualityView } from "../../../demo/playground/src/views/quality.ts";
import { bytesView, projectionView } from "../../../demo/playground/src/views/sizes.ts";
import { spectrumPoints, spectrumView } from "../../../demo/playground/src/views/spectrum.ts";
import { checkXml } from "../../support/xml.ts";

const { document } = parseHTML("<!doctype html><html><body></body></html>");
const FRAME: Frame = { width: 480, document };

/** The pictures of a view, each checked. */
function pictures({ parts, numbers }: View): Element[] {
  const svgs = parts.filter((part) => part.tagName.toLowerCase() === "svg");
  for (const svg of svgs) {
    expect(svg.getAttribute("role")).toBe("img");
    expect(svg.getAttribute("aria-label")).toBeTruthy();
    expect(svg.outerHTML).not.toMatch(/NaN|undefined|Infinity/);
  }
  if (numbers) {
    for (const row of numbers.rows) expect(row).toHaveLength(numbers.titles.length);
    checkXml(table(document, numbers.titles, numbers.rows).outerHTML);
  }
  return svgs;
}

const spectrum = (layer: number, widths: number[]): LayerSpectrum => ({
  layer,
  groups: [{ heads: "heads 0 to 1", variance: Float64Array.of(8, 4, 2, 0), widths }],
});

const SIZES: Sizes = {
  bytes: {
    keys: { codes: 100, scales: 10, norms: 0, basis: 50, means: 5, exact: 20 },
    values: { codes: 200, scales: 10, norms: 8, basis: 50, means: 0, exact: 20 },
  },
  bits: { keys: { bits: 1, bitsWithBasis: 2 }, values: { bits: 2, bitsWithBasis: 3 } },
  ...{
    geometry: { layerCount: 2, kvHeads: 2, headDim: 32 },
    tokens: 400,
    grouping: "layer",
    exactTokens: 68,
    f16Bytes: 4000,
  },
};

describe("views", () => {
  it("spectrum: a dot a channel, coloured by its bits; a variance of zero has a place too", () => {
    const layers = [spectrum(5, [8, 2]), spectrum(20, [4])];
    expect(spectrumPoints(layers[0]).map(({ width }) => width)).toEqual([8, 2, 0, 0]);
    const [svg] = pictures(spectrumView(FRAME, layers, 0));
    const dots = Array.from(svg.querySelectorAll("circle"));
    expect(dots.map((dot) => dot.getAttribute("fill"))).toEqual([
      "var(--bits-8)",
      "var(--bits-2)",
      "var(--peer)",
      "var(--peer)",
    ]);
    expect(svg.getAttribute("aria-label")).toContain("layer 5: 2 of 4");
    expect(pictures(spectrumView(FRAME, layers, 1))[0].getAttribute("aria-label")).toContain("layer 20: 1 of 4");
  });

  it("allocation: a rectangle a run", () => {
    const run = (part: "keys" | "values", first: number, count: number, width: number): WidthRun => ({
      layer: 3,
      part,
      first,
      count,
      width,
    });
    const runs = [run("keys", 0, 4, 8), run("keys", 4, 60, 0), run("values", 0, 64, 2)];
    const view = allocationView(FRAME, runs);
    expect(pictures(view)[0].querySelectorAll("rect")).toHaveLength(3);
    expect(view.numbers?.rows).toEqual([
      ["3", "keys", "4", "0", "0", "0", "60"],
      ["3", "values", "0", "0", "64", "0", "0"],
    ]);
  });

  it("attention: both sides, weights too small left blank, and the chosen query", () => {
    const picture: AttentionPicture = {
      ...{ look: { layer: 0, head: 1, query: 3 }, layer: 5, tokens: 8, columnTokens: 4, rowQueries: 2, columns: 2 },
      ...{ positions: [4, 6], exact: Float32Array.of(0.5, 0.5, 1, 0), coded: Float32Array.of(0.4, 0.6, 0.9, 0.1) },
      ...{
        position: 7,
        exactRow: Float32Array.of(0.5, 0, 0, 0, 0, 0, 0, 0.5),
        codedRow: new Float32Array(8).fill(1 / 8),
      },
    };
    expect(cellsOf(picture)).toHaveLength(7);
    const svgs = pictures(attentionView(FRAME, picture));
    expect(svgs).toHaveLength(2);
    expect(svgs[0].querySelectorAll("rect[fill-opacity]").length).toBeGreaterThanOrEqual(7);
    expect(svgs[1].getAttribute("aria-label")).toContain("position 7");
    expect([0, 1e-3, 1].map(heatOf)).toEqual([0, 0, 1]);
    expect(heatOf(0.1)).toBeCloseTo(2 / 3);
  });

  it("errors: by token, and by query where there are any", () => {
    const bins = [
      { token: 0, keys: 0, values: 0 },
      { token: 8, keys: 0.1, values: 0.2 },
    ];
    expect(pictures(errorsView(FRAME, { layer: 5, bins, queries: [] }))).toHaveLength(1);
    const queries = [1, 2, 3].map((position) => ({ position, attentionKl: 0.1, outputError: 0.01 }));
    expect(pictures(errorsView(FRAME, { layer: 5, bins, queries }))).toHaveLength(2);
  });

  it("quality: a plot a part, the other codecs by name; no place on a log scale for an error of zero", () => {
    const point = (
      part: "keys" | "values",
      family: QualityPoint["family"],
      bits: number,
      error: number,
    ): QualityPoint => ({
      ...{ part, family, bits, error, label: family === "peer" ? "KIVI 2 bit, groups of 32" : String(bits) },
    });
    const points = [
      point("keys", "peer", 3, 0.1),
      point("keys", "peer", 9, 0),
      point("keys", "now", 1.7, 0.02),
      point("keys", "curve", 1.7, 0.02),
      point("keys", "curve", 3, 0.01),
      point("values", "now", 2, 0.01),
    ];
    const svgs = pictures(qualityView(FRAME, points));
    expect(svgs).toHaveLength(2);
    expect(svgs[0].querySelectorAll("circle")).toHaveLength(4);
    const names = Array.from(svgs[0].querySelectorAll("text"), (text) => text.textContent);
    for (const text of ["KIVI 2", "8"]) expect(names).toContain(text);
  });

  it("budgets: a point each, all of them at the right", () => {
    const points = [1, 1 / 2, 1 / 32].map((budget) => ({
      budget,
      now: budget === 1,
      outputError: 0.1 / budget,
      attendedWeight: budget,
      bytesRead: 1000,
      bytesReadF16: 9000,
    }));
    const view = budgetView(FRAME, points);
    const xs = Array.from(pictures(view)[0].querySelectorAll("circle")).map((dot) => Number(dot.getAttribute("cx")));
    expect(xs[0]).toBeGreaterThan(xs[1]);
    expect(xs[1]).toBeGreaterThan(xs[2]);
    expect(view.numbers?.rows.map(([part]) => part)).toEqual(["all", "1/2", "1/32"]);
  });

  it("bytes and projections: what is stored beside f16", () => {
    const view = bytesView(FRAME, SIZES);
    expect(pictures(view)[0].getAttribute("aria-label")).toContain("keys 185 B of 2 kB, 10.8 × smaller");
    expect(view.numbers?.rows.at(-1)).toEqual(["both", "all", "473"]);
    const projected = projectionView(FRAME, SIZES, 32768);
    expect(pictures(projected)[0].textContent).toContain("Llama 3.1 8B");
    expect(projected.numbers?.rows.find(([name]) => name === "Llama 3.1 8B")?.[1]).toBe("4.29 GB");
  });

  it("are drawn for phones too", () => {
    expect(pictures(projectionView({ ...FRAME, width: 280 }, SIZES, 2048))[0].getAttribute("width")).toBe("280");
  });
});
