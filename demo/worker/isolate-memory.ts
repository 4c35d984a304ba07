/** What an isolate of workerd holds, by V8's own accounts, over the inspector's protocol. */
import WebSocket from "ws";

/** Bytes of JavaScript objects, and of the buffers that they own (WebAssembly memory among them). */
export interface IsolateMemory {
  heap: number;
  buffers: number;
}

interface HeapUsage {
  usedSize: number;
  backingStorageSize: number;
}

export class MemoryProbe {
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, (result: never) => void>();
  #asked = 0;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on("message", (data) => {
      const { id, result } = JSON.parse(String(data));
      this.#waiting.get(id)?.(result as never);
      this.#waiting.delete(id);
    });
  }

  static async open(inspectorPort: number): Promise<MemoryProbe> {
    const targets = (await (await fetch(`http://127.0.0.1:${inspectorPort}/json`)).json()) as {
      id: string;
      webSocketDebuggerUrl: string;
    }[];
    const target = targets.find(({ id }) => id.startsWith("core:user:"));
    if (!target) throw new Error(`inspector: expected the worker's isolate, got ${targets.map(({ id }) => id)}`);
    const socket = new WebSocket(target.webSocketDebuggerUrl);
    await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
    return new MemoryProbe(socket);
  }

  async read(): Promise<IsolateMemory> {
    const { usedSize, backingStorageSize } = (await this.#ask("Runtime.getHeapUsage")) as HeapUsage;
    return { heap: usedSize, buffers: backingStorageSize };
  }

  /** The most that the isolate held at any sample, some milliseconds apart, while `work` ran; garbage counts. */
  async peakWhile<T>(work: () => Promise<T>): Promise<{ result: T; peak: IsolateMemory; samples: number }> {
    let isDone = false;
    let peak = await this.read();
    let samples = 1;
    const sampling = (async () => {
      while (!isDone) {
        const now = await this.read();
        if (now.heap + now.buffers > peak.heap + peak.buffers) peak = now;
        samples++;
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
    })();
    try {
      const result = await work();
      isDone = true;
      await sampling;
      return { result, peak, samples };
    } finally {
      isDone = true;
    }
  }

  close(): void {
    this.#socket.close();
  }

  #ask(method: string): Promise<unknown> {
    const id = ++this.#asked;
    const answer = new Promise((resolve) => this.#waiting.set(id, resolve as (result: never) => void));
    this.#socket.send(JSON.stringify({ id, method }));
    return answer;
  }
}
