/** Rows of an evaluation as a table and as a chart. */

import type { Difference } from "./measures.ts";
import { EVAL_METHODS, WINDOW } from "./methods.ts";

export interface EvalRow extends Difference {
  method: string;
  /** Bits of an element of the coded tokens, keys and values together, without and with what is paid once a cache. */
  bits: number;
  bitsWithBasis: number;
  /** To compress and restore, a text. */
  seconds: number;
}

const TITLES = ["method", "bits", "+basis", "ppl %", "KL", "KL p99", "top-1 %", "lost %", "seconds"];

/** "lost": KL as part of that of the window alone, which has lost all far context. */
export function evalTable(rows: readonly EvalRow[]): { titles: string[]; lines: string[][] } {
  const window = rows.find((row) => row.method === WINDOW);
  const lines = rows.map((row) => [
    row.method,
    row.bits.toFixed(2),
    row.bitsWithBasis.toFixed(2),
    (100 * row.perplexityChange).toFixed(2),
    row.kl.toFixed(5),
    row.kl99.toFixed(4),
    (100 * row.top1).toFixed(1),
    window && window.kl > 0 ? ((100 * row.kl) / window.kl).toFixed(1) : "-",
    row.seconds.toFixed(2),
  ]);
  return { titles: TITLES, lines };
}

/** A standalone SVG: KL against bits with the basis. Plot and a document are loaded only when this is called. */
export async function evalSvg(rows: readonly EvalRow[]): Promise<string> {
  const { drawPanels } = await import("../chart.ts");
  const points = rows.map(({ method, bitsWithBasis: bits, kl: error }) => {
    const family = EVAL_METHODS.find(({ name }) => name === method)?.family;
    return { method, family, label: method, bits, error };
  });
  return drawPanels("What the model says through a compressed cache", [
    { title: "Keys and values compressed", errorLabel: "KL divergence to the exact run, nats (log scale)", points },
  ]);
}
