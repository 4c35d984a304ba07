/** The form in which a model is chosen; what lies beside the page is in beside.json, which the build writes. */
import type { LoadChoice, ModelChoice } from "./messages.ts";

interface Beside {
  engine: boolean;
  models: string[];
}
type Field = HTMLInputElement | HTMLSelectElement;

const MEMORY = "svdq-chat-model";
const field = (id: string): Field => document.getElementById(id) as Field;

/** Fills the form, with the choice of the last visit where there was one. */
export async function offer(): Promise<void> {
  const { engine, models } = (await (await fetch(new URL("beside.json", document.baseURI))).json()) as Beside;
  field("beside").replaceChildren(...models.map((name) => new Option(name)));
  const besides = document.querySelector<HTMLOptionElement>("#from option[value=beside]")!;
  besides.disabled = models.length === 0;
  if (models.length === 0) field("from").value = "folder";
  field("engine").required = !engine;
  if (!engine) field("engine").setAttribute("placeholder", "https://…/transformers.min.js");
  const choice = remembered();
  if (choice) {
    field("from").value = choice.model.from;
    field(choice.model.from).value = choice.model.name;
    field("dtype").value = choice.dtype;
    field("engine").value = choice.engine ?? "";
  }
  field("from").addEventListener("change", showFields);
  showFields();
}

function showFields(): void {
  for (const line of Array.from(document.querySelectorAll<HTMLElement>("[data-from]"))) {
    line.hidden = line.dataset.from !== field("from").value;
  }
}

/** What the form says; an Error names what it lacks. Kept for the next visit, but for folders, which a page loses. */
export function chosen(): LoadChoice {
  const model = modelChosen(field("from").value as ModelChoice["from"]);
  const engine = field("engine").value.trim();
  const choice: LoadChoice = { model, dtype: field("dtype").value, ...(engine && { engine }) };
  if (model.from === "folder") localStorage.removeItem(MEMORY);
  else localStorage.setItem(MEMORY, JSON.stringify(choice));
  return choice;
}

export function remembered(): LoadChoice | undefined {
  try {
    return JSON.parse(localStorage.getItem(MEMORY) ?? "null") ?? undefined;
  } catch {
    return undefined; // not ours: as if there was none
  }
}

function modelChosen(from: ModelChoice["from"]): ModelChoice {
  if (from !== "folder") {
    const name = field(from).value.trim();
    if (!name) throw new Error("expected the name of a model, got none");
    return { from, name };
  }
  const files = Array.from((field("folder") as HTMLInputElement).files ?? [], (file) => ({
    path: file.webkitRelativePath,
    blob: file,
  }));
  if (files.length === 0) throw new Error("expected a folder with config.json, tokenizer.json and onnx/, got none");
  return { from, name: files[0].path.split("/")[0], files };
}
