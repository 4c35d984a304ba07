/** What the page says: the open file, progress, faults, and the result in a few numbers. */
import { sizeOf } from "../data/projection.ts";
import { bytesText, thousands, times } from "../data/text.ts";
import type { Facts, Sizes } from "../messages.ts";

const at = (id: string): HTMLElement => document.getElementById(id)!;

export function showFacts({
  name,
  kind,
  model,
  text,
  geometry,
  layerNumbers,
  tokens,
  heldTokens,
  queryCount,
}: Facts): void {
  const layers = `${layerNumbers.length === 1 ? "layer" : "layers"} ${listText(layerNumbers)}`;
  const more = heldTokens > tokens ? ` and ${thousands(heldTokens - tokens)} that follow` : "";
  const parts = [
    `${name} (${kind}): ${model || "unknown model"}${text && `, ${text}`}`,
    `${layers} of ${geometry.kvHeads} kv heads × ${geometry.headDim}`,
    `${thousands(tokens)} tokens${more}`,
    queryCount ? `${thousands(queryCount)} queries` : "no queries",
  ];
  at("facts").textContent = parts.join(" · ");
}

/** As "0 to 29", or each where they do not follow one another. */
export function listText(numbers: number[]): string {
  const follow = numbers.length > 2 && numbers.every((number, i) => number === numbers[0] + i);
  return follow ? `${numbers[0]} to ${numbers.at(-1)}` : numbers.join(", ");
}

export function showAlert(message: string | undefined): void {
  const alert = at("alert");
  alert.hidden = message === undefined;
  alert.textContent = message ?? "";
}

/** What is seen changes at once, what is read aloud every two seconds and at the end. */
let announced = 0;
export function showProgress(text: string, part: number | undefined): void {
  const bar = at("bar") as HTMLProgressElement;
  if (part === undefined) bar.removeAttribute("value");
  else bar.value = part;
  at("doing").textContent = text;
  const isEnd = part === 1 && text.startsWith("All");
  if (!isEnd && performance.now() - announced < 2000) return;
  announced = performance.now();
  at("announce").textContent = text;
}

export function showSummary(sizes: Sizes): void {
  const bytes = sizeOf(sizes);
  const { keys, values } = sizes.bits;
  const rows = [
    ["smaller than f16", times(sizes.f16Bytes / bytes)],
    [`of ${bytesText(sizes.f16Bytes)}`, bytesText(bytes)],
    ["bits a key element, basis counted", keys.bitsWithBasis.toFixed(2)],
    ["bits a value element, basis counted", values.bitsWithBasis.toFixed(2)],
  ];
  at("summary").replaceChildren(
    ...rows.map(([name, value]) => {
      const row = document.createElement("div");
      const [term, detail] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = name;
      detail.textContent = value;
      row.append(term, detail);
      return row;
    }),
  );
}
