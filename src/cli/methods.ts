/** `--methods`: rows of a table chosen by parts of their names. */
import { UsageError } from "./failure.ts";

export const nameList = (text: string): string[] => text.split(",").map((name) => name.trim());

/** Those whose name contains one of the given texts, in any case, in their own order; all where none are given. */
export function chooseByName<T extends { name: string }>(all: T[], names: string[] | undefined, what = "methods"): T[] {
  if (!names) return all;
  const wanted = names.map((name) => name.toLowerCase());
  const has = (method: T, name: string): boolean => method.name.toLowerCase().includes(name);
  const unknown = wanted.find((name) => name === "" || !all.some((method) => has(method, name)));
  if (unknown !== undefined) {
    const known = all.map((method) => method.name).join("; ");
    throw new UsageError(`--${what}: expected parts of the names of ${what}, got "${unknown}"; there are: ${known}`);
  }
  return all.filter((method) => wanted.some((name) => has(method, name)));
}
