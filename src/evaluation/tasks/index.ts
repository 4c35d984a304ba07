/** The thirteen tasks of RULER (arXiv 2404.06654), in its order. */
import { ASKING_TASKS } from "./asking.ts";
import { COUNTING_TASKS } from "./counting.ts";
import { NEEDLE_TASKS } from "./needles.ts";
import type { Task } from "./task.ts";
import { TRACKING_TASK } from "./tracing.ts";

export const TASKS: Task[] = [...NEEDLE_TASKS, TRACKING_TASK, ...COUNTING_TASKS, ...ASKING_TASKS];
