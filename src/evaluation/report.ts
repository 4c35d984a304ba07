/** Results of a comparison as a table for the terminal and as a chart: error against bits, ours beside the peers. */

export interface ComparisonRow {
  /** As `reference/compare.py` prints it: "K TurboQuant 3"; ours have "codec" in the name and end in their bits. */
  method: string;
  kind: "key" | "value";
  /** Bits an element of codes, scales and norms. */
  bits: number;
  /** The same with what is paid once a cache: basis and means. */
  bitsWithBasis: number;
  attentionKl: number;
  outputError: number;
  bytes: number;
  seconds: number;
}

const thousands = (count: number): string => String(Math.round(count)).replace(/\B(?=(\d{3})+$)/g, ",");

interface Column {
  title: string;
  text: (row: ComparisonRow) => string;
}

const COLUMNS: Column[] = [
  { title: "method", text: (row) => row.method },
  { title: "bits", text: (row) => row.bits.toFixed(2) },
  { title: "+basis", text: (row) => row.bitsWithBasis.toFixed(2) },
  { title: "attn KL", text: (row) => row.attentionKl.toFixed(5) },
  { title: "out err", text: (row) => row.outputError.toFixed(5) },
  { title: "bytes", text: (row) => thousands(row.bytes) },
  { title: "seconds", text: (row) => row.seconds.toFixed(2) },
];

/** Aligned plain text, one line a row under a line of titles; the method is left-aligned, numbers right. */
export function formatTable(rows: readonly ComparisonRow[]): string {
  const cells = [
    COLUMNS.map((column) => column.title),
    ...rows.map((row) => COLUMNS.map((column) => column.text(row))),
  ];
  const widths = COLUMNS.map((_, i) => Math.max(...cells.map((line) => line[i].length)));
  const align = (text: string, i: number): string => (i === 0 ? text.padEnd(widths[i]) : text.padStart(widths[i]));
  return `${cells.map((line) => line.map(align).join("  ")).join("\n")}\n`;
}

/** A standalone SVG: keys above, values below. Plot and a document are loaded only when this is called. */
export async function renderSvg(rows: readonly ComparisonRow[]): Promise<string> {
  const { drawChart } = await import("./chart.ts");
  return drawChart(rows);
}
