/** Addresses of what the page needs: beside it, or held by the page itself where it is the one file with everything. */

declare global {
  /** By name; set by the script that comes first in alone.html (build.ts). */
  var svdqHeld: Record<string, string> | undefined;
}

/** Chromium starts no module workers of a page opened as a file. */
export const openWorker = (name: string): Worker =>
  new Worker(addressOf(name), { type: globalThis.svdqHeld ? "classic" : "module" });

export const addressOf = (name: string): string => globalThis.svdqHeld?.[name] ?? new URL(name, document.baseURI).href;
