/** Failures as answers: { "error": { "code", "message" } }, and nothing of the inside. */
import type { Context } from "hono";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import { SvdqError } from "svdq";
import type { App } from "./env.ts";

/** A request that is refused, and why. */
export class Refusal extends Error {
  readonly status: ContentfulStatusCode;
  readonly code: string;
  constructor(status: ContentfulStatusCode, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const STATUS: Record<string, ContentfulStatusCode> = {
  ...{ CAPACITY: 507, FORMAT: 422, MISMATCH: 409, UNSUPPORTED: 422, CONVERGENCE: 422 },
};

export function answerTo(error: Error, context: Context<App>): Response {
  const say = (status: ContentfulStatusCode, code: string, message: string) => {
    const retry = status === 429 || status === 503 ? { "retry-after": "10" } : undefined;
    const challenge = status === 401 ? { "www-authenticate": "Bearer" } : undefined;
    return context.json({ error: { code, message } }, status, { ...retry, ...challenge });
  };
  if (error instanceof Refusal) return say(error.status, error.code, error.message);
  if (error instanceof SvdqError) return say(STATUS[error.code] ?? 500, error.code, error.message);
  if (error instanceof RangeError || error instanceof TypeError) return say(400, "BAD_REQUEST", error.message);
  console.error(error);
  return say(500, "INTERNAL", "something went wrong here; it is in the log");
}
