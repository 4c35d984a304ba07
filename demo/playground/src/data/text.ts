/** Numbers as people read them. */
const number = new Intl.NumberFormat("en");

export const thousands = (count: number): string => number.format(Math.round(count));

export function bytesText(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; bytes >= 1000 && unit < units.length - 1; unit++) bytes /= 1000;
  return `${unit === 0 ? bytes : +bytes.toPrecision(3)} ${units[unit]}`;
}

export const partText = (part: number | null): string =>
  part === null || part === 1 ? "all" : `1/${Math.round(1 / part)}`;

/** Three digits, as 0.0123 or 1.2e-5. */
export const digits = (x: number): string =>
  x !== 0 && Math.abs(x) < 1e-4 ? x.toExponential(1).replace(".0e", "e") : String(+x.toPrecision(3));

export const times = (ratio: number): string => `${ratio.toPrecision(3)} ×`;
