/** What all pictures share: Plot on the page's document, in the page's own ink and colours. */
import * as Plot from "@observablehq/plot";

/** Where a picture is drawn; `document` stands in for the page's where there is none. */
export interface Frame {
  width: number;
  document: Document;
}

/** Custom properties of style.css, light and dark. */
export const COLOUR = {
  keys: "var(--keys)",
  values: "var(--values)",
  exact: "var(--exact)",
  coded: "var(--coded)",
  peer: "var(--peer)",
  heat: "var(--heat)",
};

/** Bits of a channel, most first; 0: dropped. */
export const WIDTHS = [8, 4, 2, 1, 0];
export const widthColour = (width: number): string => `var(--bits-${width})`;
export const widthText = (width: number): string => (width === 0 ? "dropped" : `${width} bit${width === 1 ? "" : "s"}`);

/** An SVG with a name, drawn by Plot. `label` says what is seen in one sentence. */
export function draw({ width, document }: Frame, label: string, options: Plot.PlotOptions): SVGElement {
  const svg = Plot.plot({
    width,
    document,
    marginLeft: 52,
    marginBottom: 38,
    marginTop: 24,
    style: { background: "transparent", fontFamily: "inherit", fontSize: "12px", overflow: "visible" },
    ...options,
  } as Plot.PlotOptions) as SVGElement;
  // Plot names its groups of marks, which a picture's name stands for already.
  for (const group of Array.from(svg.querySelectorAll("g[aria-label]"))) group.removeAttribute("aria-label");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  return svg;
}

/** Coloured squares with their names, as HTML that reads in order. */
export function legend(document: Document, items: { colour: string; text: string }[]): HTMLElement {
  const list = document.createElement("ul");
  list.className = "legend";
  for (const { colour, text } of items) {
    const item = document.createElement("li");
    const square = document.createElement("span");
    square.className = "square";
    square.setAttribute("style", `background: ${colour}`);
    square.setAttribute("aria-hidden", "true");
    item.append(square, document.createTextNode(text));
    list.append(item);
  }
  return list;
}

/** Numbers behind a picture, for those who read rather than look. */
export function table(document: Document, titles: string[], rows: string[][]): HTMLElement {
  const element = document.createElement("table");
  const line = (cells: string[], tag: "th" | "td"): HTMLElement => {
    const row = document.createElement("tr");
    for (const [i, text] of cells.entries()) {
      const cell = document.createElement(i === 0 ? "th" : tag);
      cell.setAttribute("scope", tag === "th" ? "col" : "row");
      if (tag === "td" && i > 0) cell.removeAttribute("scope");
      cell.textContent = text;
      row.append(cell);
    }
    return row;
  };
  const head = document.createElement("thead");
  head.append(line(titles, "th"));
  const body = document.createElement("tbody");
  body.append(...rows.map((row) => line(row, "td")));
  element.append(head, body);
  return element;
}

/** A picture, with what stands under it and the numbers behind it. */
export interface View {
  parts: Element[];
  numbers?: { titles: string[]; rows: string[][] };
}

/** Ticks of a log scale: powers of ten, as texts that d3 does not thin out. */
export function powersOfTen(low: number, high: number): number[] {
  const ticks: number[] = [];
  for (let k = Math.ceil(Math.log10(low) - 1e-9); k <= Math.floor(Math.log10(high) + 1e-9); k++)
    ticks.push(Number(`1e${k}`));
  return ticks;
}
