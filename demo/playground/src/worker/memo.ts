/** The last result of each kind of work, under the settings that it depends on. Work that fails leaves nothing. */
export class Memo {
  readonly #held = new Map<string, { key: string; value: unknown }>();

  async get<T>(name: string, on: unknown, make: () => T | Promise<T>): Promise<T> {
    const key = JSON.stringify(on);
    const held = this.#held.get(name);
    if (held?.key === key) return held.value as T;
    const value = await make();
    this.#held.set(name, { key, value });
    return value;
  }
}
