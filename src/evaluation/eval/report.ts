/** Rows of an evaluation as a table and as a chart. */

import type { Difference } from "./measures.ts";
import { familyOf, WINDOW } from "./methods.ts";

export interface EvalRow extends Difference {
  method: string;
  /** Bits of an element of the coded tokens, keys and values together, without and with what is paid once a cache. */
  bits: number;
  bitsWithBasis: number;
  /** To compress and restore, a text. */
  seconds: number;
  /** Mean KL and change of perplexity of each text. */
  byText: { text: string; kl: number; perplexityChange: number }[];
}

const TITLES = ["method", "bits", "+basis", "ppl %", "KL", "KL p99", "top-1 %", "lost %", "seconds"];

/** "lost": KL as part of that of the window alone, which has lost all far context. */
export function evalTable(rows: readonly EvalRow[]): Table {
  const window = rows.find((row) => row.method === WINDOW);
  const lines = rows.map((row) => [
    row.method,
    row.bits.toFixed(2),
    row.bitsWithBasis.toFixed(2),
    (100 * row.perplexityChange).toFixed(2),
    row.kl.toFixed(5),
    row.kl99.toFixed(4),
    (100 * row.top1).toFixed(1),
    lost(row.kl, window?.kl),
    row.seconds.toFixed(2),
  ]);
  return { titles: TITLES, lines };
}

/** KL and what is lost, text by text: the mean hides that some texts hardly need their context. */
export function textTable(rows: readonly EvalRow[]): Table {
  const window = rows.find((row) => row.method === WINDOW);
  return {
    titles: ["KL by text", ...rows[0].byText.flatMap(({ text }) => [text, "lost %"])],
    lines: rows.map(({ method, byText }) => [
      method,
      ...byText.flatMap(({ kl }, i) => [kl.toFixed(5), lost(kl, window?.byText[i].kl)]),
    ]),
  };
}

export interface Table {
  titles: string[];
  lines: string[][];
}

const lost = (kl: number, ofWindow: number | undefined): string =>
  ofWindow ? ((100 * kl) / ofWindow).toFixed(1) : "-";

/** A standalone SVG: KL against bits with the basis. Plot and a document are loaded only when this is called. */
export async function evalSvg(rows: readonly EvalRow[]): Promise<string> {
  const { drawPanels } = await import("../chart.ts");
  const points = rows.map(({ method, bitsWithBasis: bits, kl: error }) => {
    return { method, family: familyOf(method), label: method, bits, error };
  });
  return drawPanels("What the model says through a compressed cache", [
    { title: "Keys and values compressed", errorLabel: "KL divergence to the exact run, nats (log scale)", points },
  ]);
}
