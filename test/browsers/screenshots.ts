/**
 * Reference pictures, `references/NAME.png`. Fonts differ between machines, so they are compared only where
 * SVDQ_SCREENSHOTS=compare asks for it; SVDQ_SCREENSHOTS=update writes them, and the picture of the documents. Up to 2 %
 * of the pixels may differ.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import pixelmatch from "pixelmatch";
import { PNG } from "pngjs";
import type { Page } from "puppeteer-core";

const TOLERANCE = 0.02;
const DOCUMENTS = join(import.meta.dirname, "../../docs/playground.png");
const FOLDER = join(import.meta.dirname, "references");
const screenshotMode = process.env.SVDQ_SCREENSHOTS;

/** Part of the pixels by which two pictures differ; 1 where their sizes do. */
export function differingPart(one: Uint8Array, other: Uint8Array): number {
  const [a, b] = [one, other].map((bytes) => PNG.sync.read(Buffer.from(bytes)));
  if (a.width !== b.width || a.height !== b.height) return 1;
  return pixelmatch(a.data, b.data, undefined, a.width, a.height, { threshold: 0.2 }) / (a.width * a.height);
}

/** Writes the picture that the playground's README shows, where pictures are updated. */
export async function updateDocuments(page: Page): Promise<void> {
  if (screenshotMode !== "update") return;
  await page.setViewport({ width: 1440, height: 960 });
  // The figures are drawn for the new width, one a frame.
  await new Promise((resolve) => setTimeout(resolve, 1000));
  writeFileSync(DOCUMENTS, await page.screenshot());
}

/** Throws an Error that says by how much the picture is off; the picture then lies beside the reference. */
export function checkScreenshot(name: string, bytes: Uint8Array): void {
  const path = join(FOLDER, `${name}.png`);
  if (screenshotMode === "update") writeFileSync(path, bytes);
  if (screenshotMode !== "compare") return;
  if (!existsSync(path)) throw new Error(`${path}: expected a reference (SVDQ_SCREENSHOTS=update), got none`);
  const part = differingPart(readFileSync(path), bytes);
  if (part <= TOLERANCE) return;
  writeFileSync(path.replace(".png", ".actual.png"), bytes);
  throw new Error(
    `${name}: expected at most ${100 * TOLERANCE} % of the pixels to differ, got ${(100 * part).toFixed(1)} %`,
  );
}
