/** The last queries of a layer: what the metric of a fit is made from. */
const MOST_QUERIES = 32;

export class QueryLog {
  /** Oldest first, each (queryHeads, headDim). */
  #rows: { position: number; row: Float32Array }[] = [];

  get count(): number {
    return this.#rows.length;
  }

  /** Position of the oldest query. */
  get firstToken(): number {
    return this.#rows[0]?.position ?? 0;
  }

  /** Takes a copy. */
  add(row: Float32Array, position: number): void {
    if (this.#rows.length > 0 && this.#rows[0].row.length !== row.length) this.#rows = [];
    this.#rows.push({ position, row: row.slice() });
    if (this.#rows.length > MOST_QUERIES) this.#rows.shift();
  }

  /** Queries (queryHeads, count, headDim) at positions firstToken, firstToken + 1, … */
  addMany(queries: Float32Array, queryHeads: number, count: number, firstToken: number): void {
    const headDim = queries.length / queryHeads / count;
    for (let i = Math.max(0, count - MOST_QUERIES); i < count; i++) {
      const row = new Float32Array(queryHeads * headDim);
      for (let h = 0; h < queryHeads; h++) {
        row.set(queries.subarray((h * count + i) * headDim, (h * count + i + 1) * headDim), h * headDim);
      }
      this.add(row, firstToken + i);
    }
  }

  /** (queryHeads, count, headDim). */
  tensor(headDim: number): { queries: Float32Array; queryHeads: number } {
    const { count } = this;
    const queryHeads = count > 0 ? this.#rows[0].row.length / headDim : 0;
    const queries = new Float32Array(queryHeads * count * headDim);
    this.#rows.forEach(({ row }, i) => {
      for (let h = 0; h < queryHeads; h++) {
        queries.set(row.subarray(h * headDim, (h + 1) * headDim), (h * count + i) * headDim);
      }
    });
    return { queries, queryHeads };
  }

  truncate(length: number): void {
    this.#rows = this.#rows.filter(({ position }) => position < length);
  }

  copyFrom(other: QueryLog): void {
    this.#rows = other.#rows.slice();
  }
}
