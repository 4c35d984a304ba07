/** What was said, and the facts of the saved cache. */
import type { Message } from "./messages.ts";

const log = document.getElementById("log") as HTMLElement;

export function clear(): void {
  log.replaceChildren();
}

export function say({ role, content }: Message): void {
  const message = document.createElement("div");
  message.className = `message ${role}`;
  const who = document.createElement("strong");
  who.textContent = role === "user" ? "You" : "Model";
  message.append(who, document.createTextNode(content));
  log.append(message);
  message.scrollIntoView({ block: "nearest" });
}

/** To the last message: one more piece; or the whole text in its place, with a note below. */
export function append(piece: string | undefined, whole?: string, note?: string): void {
  const text = log.lastElementChild?.childNodes[1] as Text | undefined;
  if (!text) return;
  text.data = whole ?? text.data + (piece ?? "");
  if (note) {
    const small = document.createElement("small");
    small.textContent = note;
    text.after(small);
  }
  log.lastElementChild?.scrollIntoView({ block: "nearest" });
}

export function showFacts(rows: [name: string, value: string][]): void {
  const cells = rows.flatMap(([name, value]) => {
    const [term, detail] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = name;
    detail.textContent = value;
    return [term, detail];
  });
  document.getElementById("facts")!.replaceChildren(...cells);
}
