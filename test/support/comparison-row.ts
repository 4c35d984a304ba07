import type { ComparisonRow } from "../../src/evaluation/report.ts";

/** A row of a comparison; what is not given follows from its bits, as in a codec that works. */
export function comparisonRow(method: string, bits: number, given: Partial<ComparisonRow> = {}): ComparisonRow {
  return {
    method,
    kind: method.startsWith("V ") ? "value" : "key",
    bits,
    bitsWithBasis: bits + 0.1,
    attentionKl: 0.3 * 4 ** -bits,
    outputError: 0.5 * 4 ** -bits,
    bytes: Math.round(100_000 * bits),
    seconds: 0.5,
    ...given,
  };
}
