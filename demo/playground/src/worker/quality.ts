/** Error against bits: the settings, the same with other bits, and other codecs, as `svdq compare` measures them. */
import { BASELINES } from "../../../../src/baselines/index.ts";
import { type CompareOptions, compareMethods, type Method } from "../../../../src/evaluation/compare.ts";
import type { ComparisonRow } from "../../../../src/evaluation/report.ts";
import type { QualityPoint, Settings } from "../messages.ts";
import { type Desk, optionsOf, shapeOf } from "./coding.ts";
import type { Subject } from "./subject.ts";

export const CURVE_BITS = [0.5, 0.75, 1, 1.25, 1.5, 2, 3, 4];

type Family = QualityPoint["family"];

/** Emits the points so far after each of the three steps. */
export async function measureQuality(
  { runtime, memo }: Desk,
  { dumps, coded }: Subject,
  settings: Settings,
  work: Pick<CompareOptions, "signal" | "onMethod">,
  emit: (points: QualityPoint[]) => void,
): Promise<void> {
  if (!dumps) return;
  const { sinks, recent } = settings;
  const measure = async (name: Family, on: unknown, methods: Method[]): Promise<QualityPoint[]> => {
    const rows = await memo.get(`quality ${name}`, on, () =>
      compareMethods(runtime, dumps.context, dumps.all, methods, { sinks, recent, ...work }),
    );
    return rows.map((row) => pointOf(row, name));
  };
  // Of an archive it is not known how many bits were asked for.
  const now = coded
    ? []
    : await measure("now", settings, methodsAt(settings, [settings.keyBits], [settings.valueBits]));
  if (now.length) emit(now);
  const curve = await measure("curve", shapeOf(settings), methodsAt(settings, CURVE_BITS, CURVE_BITS));
  emit([...curve, ...now]);
  const peers = await measure("peer", { sinks, recent }, PEERS);
  emit([...peers, ...curve, ...now]);
}

const PEERS: Method[] = BASELINES.map((baseline) => ({ name: baseline.name, kind: baseline.kind, baseline }));

function methodsAt(settings: Settings, keyBits: number[], valueBits: number[]): Method[] {
  const options = optionsOf(settings);
  return [
    ...keyBits.map((bits): Method => ({ name: `K ${bits}`, kind: "key", options: { ...options, keyBits: bits } })),
    ...valueBits.map(
      (bits): Method => ({ name: `V ${bits}`, kind: "value", options: { ...options, valueBits: bits } }),
    ),
  ];
}

const pointOf = (row: ComparisonRow, family: Family): QualityPoint => ({
  part: row.kind === "key" ? "keys" : "values",
  label: row.method.replace(/^[KV] /, ""),
  family,
  bits: row.bitsWithBasis,
  error: row.kind === "key" ? row.attentionKl : row.outputError,
});
