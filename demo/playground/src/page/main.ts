/** The page: files and controls in, studies by the worker, pictures out. */

import { thousands } from "../data/text.ts";
import { LENGTHS } from "../lengths.ts";
import type { Answer, Facts, NamedBlob, Picture, Sizes } from "../messages.ts";
import { allocationView } from "../views/allocation.ts";
import { attentionView } from "../views/attention.ts";
import { errorsView } from "../views/errors.ts";
import { budgetView, qualityView } from "../views/quality.ts";
import { bytesView, projectionView } from "../views/sizes.ts";
import { spectrumView } from "../views/spectrum.ts";
import { openWorker } from "./beside.ts";
import { Client } from "./client.ts";
import { Controls, ListSlider } from "./controls.ts";
import { Figures } from "./figures.ts";
import { download, fetchSample, onFiles } from "./files.ts";
import { showAlert, showFacts, showProgress, showSummary } from "./status.ts";

const button = (id: string) => document.getElementById(id) as HTMLButtonElement;

const worker = openWorker("worker.js");
const client = new Client(worker, answered);
const figures = new Figures([
  "spectrum",
  "allocation",
  "attention",
  "errors",
  "quality",
  "budgets",
  "bytes",
  "projection",
]);
const controls = new Controls(study);
const length = new ListSlider("length", LENGTHS, 32768, thousands);
let facts: Facts | undefined;
let sizes: Sizes | undefined;

length.onInput(showProjection);
onFiles(open);
button("sample").addEventListener("click", openSample);
button("stop").addEventListener("click", () => client.stop());
button("save").addEventListener("click", () => client.save());
worker.addEventListener("error", (event) =>
  showAlert(`the worker failed: ${event.message || "it could not be loaded"}`),
);
void openSample();

function open(files: NamedBlob[]): void {
  showAlert(undefined);
  showProgress(`Opening ${files.map(({ name }) => name).join(", ")}`, undefined);
  client.open(files);
}

async function openSample(): Promise<void> {
  try {
    open([await fetchSample()]);
  } catch (error) {
    showAlert((error as Error).message);
  }
}

function study(): void {
  if (!facts) return;
  button("stop").disabled = false;
  client.study(controls.settings, controls.look);
}

function answered(answer: Answer): void {
  if (answer.kind === "opened") opened(answer.facts);
  else if (answer.kind === "refused") refused(answer.message);
  else if (answer.kind === "progress") showProgress(answer.text, answer.part);
  else if (answer.kind === "archive") download(answer.name, answer.bytes);
  else if (answer.kind === "done") ended(`All pictures drawn in ${(answer.milliseconds / 1000).toFixed(1)} s`);
  else if (answer.kind === "stopped") ended("Stopped; the pictures that were ready stay");
  else if (answer.kind === "failed") failed(answer.message);
  else show(answer);
}

function opened(now: Facts): void {
  facts = now;
  showFacts(now);
  controls.offer(now);
  if (!now.exact) {
    figures.say("attention", "An archive alone has no exact cache to compare with: choose its dump with it.");
    figures.say("errors", "An archive alone has no exact cache to compare with: choose its dump with it.");
  } else if (!now.queryCount) {
    figures.say("attention", "This file holds no queries. Dumps can: layers.N.query.");
  }
  if (!now.continued) {
    const reason = now.exact
      ? "This file holds no queries behind its context to measure with."
      : "Measured with a dump alone.";
    figures.say("quality", reason);
    figures.say("budgets", reason);
  }
  study();
}

/** Files that do not open change nothing: what was open stays, and its pictures are finished. */
function refused(message: string): void {
  showAlert(message);
  if (facts) study();
  else ended("Nothing is open");
}

function failed(message: string): void {
  showAlert(message);
  ended("Failed; the pictures that were ready stay");
}

function ended(text: string): void {
  button("stop").disabled = true;
  showProgress(text, 1);
}

function show(picture: Picture): void {
  const { layer } = controls.look;
  if (picture.kind === "spectrum") figures.show("spectrum", (frame) => spectrumView(frame, picture.layers, layer));
  else if (picture.kind === "allocation") figures.show("allocation", (frame) => allocationView(frame, picture.runs));
  else if (picture.kind === "attention") figures.show("attention", (frame) => attentionView(frame, picture.picture));
  else if (picture.kind === "errors") figures.show("errors", (frame) => errorsView(frame, picture.errors));
  else if (picture.kind === "quality") figures.show("quality", (frame) => qualityView(frame, picture.points));
  else if (picture.kind === "budget") figures.show("budgets", (frame) => budgetView(frame, picture.points));
  else showSizes(picture.sizes);
}

function showSizes(now: Sizes): void {
  sizes = now;
  button("save").disabled = false;
  showSummary(now);
  figures.show("bytes", (frame) => bytesView(frame, now));
  showProjection();
}

function showProjection(): void {
  const now = sizes;
  if (now) figures.show("projection", (frame) => projectionView(frame, now, length.value));
}
