/** What attending to fewer tokens costs and saves, by replaying the continuation on a live cache of the codes. */

import { isInPlace } from "../../../../src/cache/score.ts";
import { anchorsOf } from "../../../../src/codec/anchors.ts";
import type { CodedCache } from "../../../../src/codec/coded.ts";
import { replay } from "../../../../src/evaluation/replay.ts";
import type { BudgetPoint, Settings } from "../messages.ts";
import { BUDGETS } from "../settings.ts";
import type { Desk } from "./coding.ts";
import type { Subject } from "./subject.ts";

/** The chosen budget first, then the others; emits the points so far after each. */
export async function measureBudgets(
  { runtime }: Desk,
  { dumps }: Subject,
  coded: CodedCache,
  settings: Settings,
  work: { signal: AbortSignal; onBudget: (done: number, of: number) => void },
  emit: (points: BudgetPoint[]) => void,
): Promise<void> {
  if (!dumps) return;
  const selection = isInPlace(anchorsOf(coded.anchorSpan, coded.rotary, coded.geometry.headDim))
    ? "tokens"
    : "landmarks";
  const budgets = [settings.budget, ...BUDGETS.filter((budget) => budget !== settings.budget)];
  const points: BudgetPoint[] = [];
  for (const budget of budgets) {
    const { outputError, attendedWeight, bytesRead, bytesReadF16 } = await replay(
      runtime,
      coded,
      dumps.all,
      { budget, selection, monitorEvery: 0 },
      { signal: work.signal },
    );
    const now = budget === settings.budget;
    points.push({ budget: budget ?? 1, now, outputError, attendedWeight, bytesRead, bytesReadF16 });
    work.onBudget(points.length, budgets.length);
    emit([...points]);
  }
}
