/** Files chosen, dropped anywhere on the page, or the sample that lies beside it. */
import type { NamedBlob } from "../messages.ts";
import { addressOf } from "./beside.ts";

const named = (files: FileList): NamedBlob[] => Array.from(files, (file) => ({ name: file.name, blob: file }));

export function onFiles(open: (files: NamedBlob[]) => void): void {
  const input = document.getElementById("file") as HTMLInputElement;
  input.addEventListener("change", () => {
    if (input.files?.length) open(named(input.files));
    // The same file again is a change too.
    input.value = "";
  });
  const mark = (on: boolean) => document.body.classList.toggle("dropping", on);
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    mark(true);
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget === null && mark(false));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    mark(false);
    const files = event.dataTransfer?.files;
    if (files?.length) open(named(files));
  });
}

export async function fetchSample(): Promise<NamedBlob> {
  const name = "sample.safetensors";
  const response = await fetch(addressOf(name));
  if (!response.ok) throw new Error(`${name}: expected it beside the page, got HTTP ${response.status}`);
  return { name: "built-in sample", blob: await response.blob() };
}

export function download(name: string, bytes: Uint8Array): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes as Uint8Array<ArrayBuffer>]));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
