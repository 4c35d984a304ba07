/** What a live cache tells its owner about itself. */
export type CacheEvent =
  /** New keys have left the basis: it misses `missed` of their energy, where it missed `usual` when it was made. */
  | { type: "drift"; layer: number; position: number; missed: number; usual: number }
  /** A new basis is in use for tokens coded from now on. */
  | { type: "refit"; layer: number; position: number }
  /** Attention on codes diverges by more than the limit (running, monitor.ts); from now on new tokens of the layer stay exact. */
  | { type: "error"; layer: number; position: number; error: number; limit: number };
