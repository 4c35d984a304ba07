/** Plain text for people. */

export const thousands = (count: number): string => String(Math.round(count)).replace(/\B(?=(\d{3})+$)/g, ",");

export const percent = (part: number): string => `${(100 * part).toFixed(1)} %`;

/** Aligned columns under their titles: the first to the left, the others to the right. */
export function columns(titles: string[], rows: string[][]): string {
  const lines = [titles, ...rows];
  const widths = titles.map((_, i) => Math.max(...lines.map((line) => line[i].length)));
  const align = (text: string, i: number): string => (i === 0 ? text.padEnd(widths[i]) : text.padStart(widths[i]));
  return lines.map((line) => `${line.map(align).join("  ").trimEnd()}\n`).join("");
}

/** Names and what they stand for, a line each. */
export function facts(rows: [string, string][]): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, text]) => `${name.padEnd(width)}  ${text}\n`).join("");
}
