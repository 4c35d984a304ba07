import { readFileSync } from "node:fs";
import { openDump } from "./src/engines/dump.ts";
import { compareMethods } from "./src/evaluation/compare.ts";
import { instantiate } from "./src/runtime/runtime.ts";

const rt = await instantiate(new WebAssembly.Module(readFileSync("dist/kernels.wasm")));
const ms: any[] = [];
for (const basisBits of ["auto", 8] as any[])
  for (const [keyBits, grouping, anchorSpan] of [
    [2, "layer", 1],
    [1.25, "layer", 1],
    [1.25, "head", 256],
  ] as any[])
    ms.push({
      name: `K ${grouping} ${anchorSpan} ${keyBits} ${basisBits}`,
      kind: "key",
      options: { keyBits, grouping, anchorSpan, attentionWeights: false, basisBits },
    });
for (const basisBits of ["auto", 8] as any[])
  ms.push({ name: `V 2 ${basisBits}`, kind: "value", options: { valueBits: 2, basisBits } });
const all: any = {};
for (const t of (process.env.T ?? "code,novel,scripture").split(",")) {
  const p = `/work/shared/data/smollm2-${t}.safetensors`;
  const c = await openDump(p);
  const a = await openDump(p, { tokens: c.heldTokens });
  for (const r of await compareMethods(rt, c, a, ms)) (all[r.method] ??= []).push(r);
}
for (const [m, rs] of Object.entries<any>(all)) {
  const mean = (k: string) => rs.reduce((x: number, r: any) => x + r[k], 0) / rs.length;
  console.log(
    m.padEnd(30),
    mean("bits").toFixed(3),
    mean("bitsWithBasis").toFixed(3),
    mean("attentionKl").toFixed(5),
    mean("outputError").toFixed(5),
    mean("seconds").toFixed(2),
  );
}
