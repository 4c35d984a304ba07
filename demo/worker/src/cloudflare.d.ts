/** As much of the platform's types as this worker uses. */
declare module "cloudflare:workers" {
  import type { DurableObjectStorageLike } from "svdq/store/durable-object";
  export abstract class DurableObject<Env = unknown> {
    constructor(ctx: { storage: DurableObjectStorageLike }, env: Env);
    protected ctx: { storage: DurableObjectStorageLike };
    protected env: Env;
  }
}

declare module "*.html" {
  const text: string;
  export default text;
}

/** Passes on exactly so many bytes, and tells the platform so. */
declare class FixedLengthStream extends TransformStream<Uint8Array, Uint8Array> {
  constructor(lengthBytes: number);
}
