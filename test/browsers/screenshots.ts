/**
 * Reference pictures, `references/NAME.png`. Fonts differ between machines, so they are compared only where
 * SVDQ_SCREENSHOTS=compare asks for it; SVDQ_SCREENSHOTS=update writes them. Up to 2 % of the pixels may differ.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import pixelmatch from "pixelmatch";
import { PNG } from "pngjs";

const TOLERANCE = 0.02;
const FOLDER = join(import.meta.dirname, "references");
export const screenshotMode = process.env.SVDQ_SCREENSHOTS;

/** Part of the pixels by which two pictures differ; 1 where their sizes do. */
export function differingPart(one: Uint8Array, other: Uint8Array): number {
  const [a, b] = [one, other].map((bytes) => PNG.sync.read(Buffer.from(bytes)));
  if (a.width !== b.width || a.height !== b.height) return 1;
  return pixelmatch(a.data, b.data, undefined, a.width, a.height, { threshold: 0.2 }) / (a.width * a.height);
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
