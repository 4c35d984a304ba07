/** The prefix service in workerd, over both storages: what it promises callers, and what it refuses. */
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { parseHTML } from "linkedom";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { PrefixClient, ServiceError, uploadBody } from "../../demo/worker/client.ts";
import { startLocal } from "../../demo/worker/local.ts";
import { equalInFixedTime } from "../../demo/worker/src/tenants.ts";
import { decodeArchive } from "../../src/archive/reader.ts";
import { splitByTokens } from "../../src/archive/token-split.ts";
import { encodeArchive } from "../../src/archive/writer.ts";
import { KvCache } from "../../src/cache/kv-cache.ts";
import { joinChunks } from "../../src/codec/chunks.ts";
import { compress } from "../../src/codec/compress.ts";
import type { PrefixChunk } from "../../src/store/prefix-store.ts";
import { bytesOf, somePrefix, someTokens } from "../store/prefixes.ts";
import { failureOf } from "../support/failure.ts";
import { someQueries } from "../support/live-cache.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { TinyCache } from "../support/tiny-cache.ts";

const TOKENS = { alice: "token-of-alice", bob: "token-of-bob" };

/** As the client wants it: `count` tokens in chunks of 16, 4 bytes a token. */
const upload = (count: number, seed = 1, version = 0) => {
  const { model, tokens, chunks } = somePrefix(someTokens(count, seed), 16, version);
  return { model, tokens, chunks: chunks as PrefixChunk[] };
};

async function refused(work: () => Promise<unknown>): Promise<[number, string]> {
  const error = (await failureOf(work)) as ServiceError;
  expect(error).toBeInstanceOf(ServiceError);
  return [error.status, error.code];
}

/** Bytes that differ from place to place. */
const someBytes = (length: number, seed: number): Uint8Array =>
  new Uint8Array(length).map((_, i) => Math.imul(i, 97 + seed) >> 5);

describe.each(["r2", "durable-object"] as const)("over %s", (storage) => {
  let service: Awaited<ReturnType<typeof startLocal>>;
  let alice: PrefixClient;
  let bob: PrefixClient;
  beforeAll(async () => {
    service = await startLocal({
      storage,
      tokens: TOKENS,
      budgetBytes: 200_000,
      mostPrefixBytes: 150_000,
      origins: "https://a.example",
    });
    [alice, bob] = [new PrefixClient(service.url, TOKENS.alice), new PrefixClient(service.url, TOKENS.bob)];
  });
  afterAll(() => service.dispose());
  const get = (path: string, headers: Record<string, string> = {}) =>
    fetch(`${service.url}${path}`, { headers: { authorization: `Bearer ${TOKENS.alice}`, ...headers } });

  it("puts, matches, gives, lists, counts and deletes", async () => {
    const given = upload(100);
    const info = await alice.put({ ...given, labels: { title: "a", f16Bytes: 4000 }, ttlSeconds: 100 });
    expect(info).toMatchObject({ tokenCount: 100, bytes: 400, labels: { title: "a" }, pinned: false });
    const match = (await alice.match("m", [...given.tokens, 1, 2]))!;
    expect(match).toMatchObject({ id: info.id, tokenCount: 100 });
    expect(Buffer.compare(await alice.get(match), bytesOf(given))).toBe(0);
    const cut = (await alice.match("m", given.tokens.subarray(0, 70)))!;
    expect(cut.tokenCount).toBe(64);
    expect(Buffer.compare(await alice.get(cut), bytesOf(given).subarray(0, 256))).toBe(0);
    expect(await alice.match("other", given.tokens)).toBeUndefined();
    expect(await alice.list()).toMatchObject([{ id: info.id, chunks: 7 }]);
    expect(await alice.stats()).toMatchObject({ prefixes: 1, bytes: 400, storage });
    await alice.delete(info.id);
    expect(await refused(() => alice.delete(info.id))).toEqual([404, "NOT_FOUND"]);
    expect(await refused(() => alice.get(match))).toEqual([404, "NOT_FOUND"]);
  });

  it("is sent no chunk of a longer prefix that it has", async () => {
    const short = await alice.put(upload(70, 3));
    expect(short.sentBytes).toBe(280);
    // Cut after 64 tokens: the fifth chunk, of 6 tokens, is another one in the longer prefix.
    const given = upload(150, 3);
    const long = await alice.put(given);
    expect([long.bytes, long.sentBytes]).toEqual([600, 600 - 256]);
    const match = (await alice.match("m", given.tokens))!;
    expect(Buffer.compare(await alice.get(match), bytesOf(given))).toBe(0);
    expect(await alice.stats()).toMatchObject({ prefixes: 2, bytes: 624, bytesUnshared: 880 });
    // All of it is there: not one chunk is sent. Other bytes of the same tokens are.
    expect((await alice.put(given)).sentBytes).toBe(0);
    expect((await alice.put(upload(150, 3, 1))).sentBytes).toBe(600);
    // Chunks that are larger than the service's pieces, and one that begins as another does.
    const bytes = someBytes(140_000, 1);
    const tokens = someTokens(20, 11);
    const whole = [{ tokenFrom: 0, tokenTo: 20, bytes }];
    await alice.put({ model: "m", tokens, chunks: whole });
    expect((await alice.put({ model: "m", tokens, chunks: whole })).sentBytes).toBe(0);
    expect(
      (await alice.put({ model: "m", tokens, chunks: [{ ...whole[0], bytes: bytes.subarray(1) }] })).sentBytes,
    ).toBe(139_999);
    for (const one of await alice.list()) await alice.delete(one.id);
  });

  it("refuses chunks said to be there that are not", async () => {
    const given = upload(70, 3);
    const { id, etag, chunks } = await alice.put(given);
    const put = async (after: unknown, body: PrefixChunk[]) => {
      const response = await fetch(`${service.url}/prefixes`, {
        method: "PUT",
        body: uploadBody({ ...given, chunks: body, after: after as never }),
        headers: { authorization: `Bearer ${TOKENS.alice}` },
      });
      return [response.status, ((await response.json()) as { error?: { code: string } }).error?.code];
    };
    const rest = given.chunks.slice(4);
    expect(await put({ id, etag, chunks: 4 }, rest)).toEqual([201, undefined]);
    expect(await put({ id, etag: "0".repeat(32), chunks: 4 }, rest)).toEqual([409, "MISMATCH"]);
    expect(await put({ id: "0".repeat(32), etag, chunks: 4 }, rest)).toEqual([409, "MISMATCH"]);
    expect(await put({ id, etag, chunks: chunks.length + 1 }, [])).toEqual([409, "MISMATCH"]);
    expect(await put({ id, etag, chunks: -1 }, rest)).toEqual([400, "BAD_BODY"]);
    expect(await put("x", rest)).toEqual([400, "BAD_BODY"]);
    // Another tenant's are not there either.
    const theirs = uploadBody({ ...given, chunks: rest, after: { id, etag, chunks: 4 } });
    const headers = { authorization: `Bearer ${TOKENS.bob}` };
    expect((await fetch(`${service.url}/prefixes`, { method: "PUT", body: theirs, headers })).status).toBe(409);
    await alice.delete(id);
  });

  it("gives ranges, and says what is known already", async () => {
    const given = upload(90, 2);
    const { id, etag } = await alice.put(given);
    const bytes = bytesOf(given);
    const path = `/prefixes/${id}`;
    for (const [range, part, text] of [
      ["bytes=0-9", bytes.subarray(0, 10), "0-9"],
      ["bytes=60-200", bytes.subarray(60, 201), "60-200"],
      ["bytes=-5", bytes.subarray(355), "355-359"],
      ["bytes=350-", bytes.subarray(350), "350-359"],
      ["bytes=350-9999", bytes.subarray(350), "350-359"],
    ] as const) {
      const response = await get(path, { range });
      expect(response.status).toBe(206);
      expect(response.headers.get("content-range")).toBe(`bytes ${text}/360`);
      expect(response.headers.get("content-length")).toBe(String(part.length));
      expect(Buffer.compare(Buffer.from(await response.arrayBuffer()), part)).toBe(0);
    }
    const past = await get(path, { range: "bytes=360-" });
    expect([past.status, past.headers.get("content-range")]).toEqual([416, "bytes */360"]);
    for (const headers of [
      { range: "lines=1-2" },
      { range: "bytes=0-1,4-5" },
      { range: "bytes=0-1", "if-range": '"x"' },
    ]) {
      const whole = await get(path, headers as Record<string, string>);
      expect([whole.status, (await whole.arrayBuffer()).byteLength]).toEqual([200, 360]);
    }
    expect((await get(path, { range: "bytes=0-1", "if-range": `"${etag}"` })).status).toBe(206);
    const known = await get(path, { "if-none-match": `"other", W/"${etag}"` });
    expect([known.status, known.headers.get("cache-control")]).toEqual([304, "private, no-cache"]);
    const fixed = await get(`${path}/${etag}`);
    expect(fixed.headers.get("cache-control")).toBe("private, max-age=31536000, immutable");
    expect(fixed.headers.get("etag")).toBe(`"${etag}"`);
    await fixed.arrayBuffer();
    const head = await fetch(`${service.url}${path}`, {
      method: "HEAD",
      headers: { authorization: `Bearer ${TOKENS.alice}` },
    });
    expect([head.status, head.headers.get("accept-ranges"), head.headers.get("etag")]).toEqual([
      200,
      "bytes",
      `"${etag}"`,
    ]);
    const newer = await alice.put(upload(90, 2, 1));
    expect([newer.id, (await get(`${path}/${etag}`)).status]).toEqual([id, 404]);
    await alice.delete(id);
  });

  it("attends on codes as the package does, bit for bit", async () => {
    const source = new TinyCache({ layers: 2, kvHeads: 2, headDim: 32, tokens: 400 });
    const runtime = await PLATFORMS[2].create({});
    const coded = await compress(runtime, source, { anchorSpan: 256, recent: 32 });
    const bytes = joinChunks(encodeArchive(coded));
    const archive = [{ tokenFrom: 0, tokenTo: 400, bytes }];
    const { id } = await alice.put({ model: "tiny", tokens: coded.tokens!, chunks: archive });
    const cut = await alice.put({ model: "by chunks", tokens: coded.tokens!, chunks: splitByTokens(coded) });
    expect(cut.chunks.length).toBe(2);
    const queries = someQueries(coded.geometry);
    for (const layer of [0, 1, 0]) {
      const one = { layers: [coded.layers[layer]], layerNumbers: [coded.layerNumbers[layer]] };
      const cache = KvCache.open(runtime, {
        ...decodeArchive(bytes),
        ...one,
        geometry: { ...coded.geometry, layerCount: 1 },
      });
      const out = new Float32Array(queries.length);
      cache.attend(0, queries, out);
      expect(await alice.attend(id, layer, queries)).toEqual(out);
      expect(await alice.attend(cut.id, layer, queries)).toEqual(out);
      cache.dispose();
    }
    expect(await refused(() => alice.attend(id, 2, queries))).toEqual([400, "BAD_REQUEST"]);
    expect(await refused(() => alice.attend(id, 0, queries.subarray(1)))).toEqual([400, "BAD_REQUEST"]);
    expect(await refused(() => alice.attend(id, 0, new Float32Array(64).fill(Number.NaN)))).toEqual([
      400,
      "BAD_REQUEST",
    ]);
    expect(await refused(() => alice.attend("0".repeat(32), 0, queries))).toEqual([404, "NOT_FOUND"]);
    expect(await refused(() => alice.attend(id, 0, new Float32Array(2 ** 18 + 64)))).toEqual([413, "TOO_LARGE"]);
    const other = await alice.put(upload(20));
    expect(await refused(() => alice.attend(other.id, 0, queries))).toEqual([422, "FORMAT"]);
    await Promise.all([id, cut.id, other.id].map((one) => alice.delete(one)));
  });

  it("takes large prefixes in pieces, keeps the budget, and refuses what cannot fit", async () => {
    const tokens = someTokens(10, 9);
    const large = (length: number, seed: number) => {
      const bytes = someBytes(length, seed);
      return { model: "m", tokens: someTokens(10, seed), chunks: [{ tokenFrom: 0, tokenTo: 10, bytes }] };
    };
    await alice.put(large(120_000, 1));
    await alice.put(large(120_000, 2));
    expect(await alice.stats()).toMatchObject({ prefixes: 1, bytes: 120_000, evicted: 1 });
    expect(await alice.match("m", tokens)).toBeUndefined();
    expect(await refused(() => alice.put(large(150_001, 3)))).toEqual([413, "TOO_LARGE"]);
    const [{ id }] = await alice.list();
    await alice.put({ ...large(100_000, 4), pinned: true });
    expect(await refused(() => alice.put(large(110_000, 5)))).toEqual([507, "CAPACITY"]);
    expect(await refused(() => alice.delete(id))).toEqual([404, "NOT_FOUND"]);
    for (const one of await alice.list()) await alice.delete(one.id);
  });

  describe("security", () => {
    it("asks everyone for a token, except for health and the page", async () => {
      for (const [method, path] of [["GET", "/stats"], ["GET", "/prefixes"], ["PUT", "/prefixes"], ["POST", "/attend"],
        ["POST", "/prefixes/match"], ["GET", "/prefixes/0"], ["DELETE", "/prefixes/0"]]) {
        const response = await fetch(`${service.url}${path}`, { method });
        expect([path, response.status]).toEqual([path, 401]);
        expect(response.headers.get("www-authenticate")).toBe("Bearer");
        expect(await response.json()).toMatchObject({ error: { code: "UNAUTHORIZED" } });
      } // biome-ignore format: pairs
      for (const bad of ["Bearer nope", "Bearer ", `Basic ${TOKENS.alice}`, TOKENS.alice, `Bearer ${TOKENS.alice}x`]) {
        const response = await fetch(`${service.url}/stats`, { headers: { authorization: bad } });
        expect(response.status).toBe(401);
      }
      expect(await (await fetch(`${service.url}/health`)).json()).toEqual({ status: "ok" });
    });

    it("shows no tenant what another has, not even whether", async () => {
      const given = upload(64, 7);
      const mine = await alice.put(given);
      expect(await bob.match("m", given.tokens)).toBeUndefined();
      expect(await bob.list()).toEqual([]);
      expect(await bob.stats()).toMatchObject({ prefixes: 0, bytes: 0, hits: 0 });
      const theirs = await refused(() => bob.get({ url: `/prefixes/${mine.id}` }));
      const nobodys = await refused(() => bob.get({ url: `/prefixes/${"0".repeat(32)}` }));
      expect(theirs).toEqual(nobodys);
      expect(await refused(() => bob.get({ url: `/prefixes/${mine.id}/${mine.etag}` }))).toEqual([404, "NOT_FOUND"]);
      expect(await refused(() => bob.delete(mine.id))).toEqual([404, "NOT_FOUND"]);
      expect(await refused(() => bob.attend(mine.id, 0, new Float32Array(64)))).toEqual([404, "NOT_FOUND"]);
      // The same tokens and bytes are another prefix under another name.
      const same = await bob.put(given);
      expect(same.id).not.toBe(mine.id);
      await bob.delete(same.id);
      expect((await alice.list()).map(({ id }) => id)).toEqual([mine.id]);
      await alice.delete(mine.id);
    });

    it("refuses names that climb, as any it does not have", async () => {
      const { id } = await alice.put(upload(20));
      for (const name of ["..%2f..%2findex.json", "%2e%2e/index.json", "..%5cindex.json", `${id}%00`, `./${id}/../x`,
        "index.json", "objects%2f0", "__proto__", "constructor", "toString", "x".repeat(5000), "%F0%9F%92%A9", "%ff"]) {
        for (const method of ["GET", "DELETE"]) {
          const response = await fetch(`${service.url}/prefixes/${name}`, { method, headers: { authorization: `Bearer ${TOKENS.alice}` } });
          expect([name.slice(0, 30), response.status]).toEqual([name.slice(0, 30), 404]);
          expect(await response.json()).toHaveProperty("error.code");
        }
      } // biome-ignore format: names
      expect(await alice.list()).toHaveLength(1);
      await alice.delete(id);
    });

    it("refuses bodies that are not what they say, and keeps nothing of them", async () => {
      const good = Buffer.from(await uploadBody(upload(40)).arrayBuffer());
      const headBytes = good.readUInt32LE(0);
      const head = JSON.parse(good.subarray(4, 4 + headBytes).toString());
      const withHead = (change: object) => {
        const text = Buffer.from(JSON.stringify({ ...head, ...change }));
        const length = Buffer.alloc(4);
        length.writeUInt32LE(text.length);
        return Buffer.concat([length, text, good.subarray(4 + headBytes)]);
      };
      const huge = Buffer.from(good);
      huge.writeUInt32LE(0xffffffff);
      const [first, ...rest] = head.chunks;
      const cases: [Buffer, number][] = [
        [Buffer.alloc(0), 400], [Buffer.alloc(3), 400], [good.subarray(0, 50), 400], [good.subarray(0, good.length - 1), 400],
        [Buffer.concat([good, Buffer.alloc(1)]), 400], [huge, 413], [Buffer.concat([good.subarray(0, 4), Buffer.alloc(headBytes, 255)]), 400],
        [withHead({ tokenCount: 2 ** 30 }), 400], [withHead({ tokenCount: -1 }), 400], [withHead({ tokenCount: 41 }), 400],
        [withHead({ tokenCount: 39 }), 400], [withHead({ chunks: [] }), 400], [withHead({ chunks: null }), 400],
        [withHead({ chunks: [{ ...first, bytes: 1e15 }, ...rest] }), 400], [withHead({ chunks: [{ ...first, bytes: 2 ** 39 }, ...rest] }), 413],
        [withHead({ chunks: [{ ...first, bytes: -4 }, ...rest] }), 400], [withHead({ chunks: [{ ...first, tokenTo: 41 }, ...rest] }), 400],
        [withHead({ chunks: [...rest, first] }), 400], [withHead({ model: 5 }), 400], [withHead({ ttlSeconds: "x" }), 400],
        [withHead({ pinned: 1 }), 400], [withHead({ labels: { a: {} } }), 400], [withHead({ labels: { a: "x".repeat(2000) } }), 400],
        [withHead({ model: "x".repeat(201) }), 400],
      ]; // biome-ignore format: cases
      for (const [i, [body, status]] of cases.entries()) {
        const response = await fetch(`${service.url}/prefixes`, {
          method: "PUT",
          body: body as Uint8Array<ArrayBuffer>,
          headers: { authorization: `Bearer ${TOKENS.alice}` },
        });
        const answer = await response.json();
        expect([i, response.status, answer]).toEqual([
          i,
          status,
          { error: { code: expect.any(String), message: expect.stringContaining("expected") } },
        ]);
      }
      for (const body of [
        "",
        "{",
        "[]",
        "5",
        '{"model":"m"}',
        '{"model":"m","tokens":[1.5]}',
        '{"model":"m","tokens":[4294967296]}',
        '{"model":1,"tokens":[]}',
      ]) {
        const response = await fetch(`${service.url}/prefixes/match`, {
          method: "POST",
          body,
          headers: { authorization: `Bearer ${TOKENS.alice}` },
        });
        expect([body, response.status]).toEqual([body, 400]);
      }
      expect(await alice.list()).toEqual([]);
      expect(await alice.stats()).toMatchObject({ bytes: 0 });
    });

    it("lets only known origins' pages call", async () => {
      const preflight = (origin: string) =>
        fetch(`${service.url}/prefixes`, {
          method: "OPTIONS",
          headers: {
            origin,
            "access-control-request-method": "PUT",
            "access-control-request-headers": "authorization",
          },
        });
      const known = await preflight("https://a.example");
      expect(known.headers.get("access-control-allow-origin")).toBe("https://a.example");
      expect(known.headers.get("access-control-allow-headers")).toContain("authorization");
      expect((await preflight("https://b.example")).headers.get("access-control-allow-origin")).toBeNull();
      const answer = await get("/stats", { origin: "https://a.example" });
      expect(answer.headers.get("access-control-expose-headers")).toContain("etag");
    });
  });
});

describe.each(["r2", "durable-object"] as const)("two hundred readers over %s", (storage) => {
  it("each get their range of a large prefix", async () => {
    const service = await startLocal({ storage, tokens: TOKENS, limits: { tenant: 1000, stranger: 1 } });
    try {
      const client = new PrefixClient(service.url, TOKENS.alice);
      const bytes = someBytes(6_000_000, 1);
      const tokens = someTokens(10, 1);
      const info = await client.put({ model: "m", tokens, chunks: [{ tokenFrom: 0, tokenTo: 10, bytes }] });
      const url = `/prefixes/${info.id}/${info.etag}`;
      const reads = Array.from({ length: 200 }, async (_, i) => {
        const start = i * 29_000;
        const part = await client.get({ url }, { start, end: start + 65_536 });
        return Buffer.compare(part, bytes.subarray(start, start + 65_536)) === 0;
      });
      expect(new Set(await Promise.all(reads))).toEqual(new Set([true]));
    } finally {
      await service.dispose();
    }
  });
});

describe("the client", () => {
  it("asks again, once, where a connection breaks, but puts and deletes nothing twice", async () => {
    let requests = 0;
    let broken = 1;
    const server = createServer((request, response) => {
      requests++;
      if (requests <= broken) request.socket.destroy();
      else response.end("{}");
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      const client = new PrefixClient(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, "token");
      expect(await client.stats()).toEqual({});
      expect(requests).toBe(2);
      broken = Infinity;
      expect(await failureOf(() => client.stats())).toBeInstanceOf(TypeError);
      expect(requests).toBe(4);
      expect(await failureOf(() => client.delete("a"))).toBeInstanceOf(TypeError);
      expect(requests).toBe(5);
    } finally {
      server.close();
    }
  });
});

describe("limits of requests", () => {
  it("hold for each tenant alone, and for strangers", async () => {
    const limits = { tenant: 5, stranger: 3 };
    const service = await startLocal({ storage: "r2", tokens: TOKENS, limits });
    try {
      const ask = async (token: string) => {
        const response = await fetch(`${service.url}/stats`, { headers: { authorization: `Bearer ${token}` } });
        await response.arrayBuffer();
        return response;
      };
      const statuses = async (token: string, count: number) => {
        const all = [];
        for (let i = 0; i < count; i++) all.push((await ask(token)).status);
        return all;
      };
      expect(await statuses(TOKENS.alice, 7)).toEqual([200, 200, 200, 200, 200, 429, 429]);
      expect(await statuses(TOKENS.bob, 2)).toEqual([200, 200]);
      expect(await statuses("guess", 5)).toEqual([401, 401, 401, 429, 429]);
      expect((await ask(TOKENS.alice)).headers.get("retry-after")).toBe("10");
      expect((await fetch(`${service.url}/health`)).status).toBe(200);
    } finally {
      await service.dispose();
    }
  });
});

describe("comparison of tokens", () => {
  it("looks at every byte wherever they differ", () => {
    const a = createHash("sha256").update("a").digest();
    expect(equalInFixedTime(a, Buffer.from(a))).toBe(true);
    for (let i = 0; i < a.length; i++) {
      const b = Uint8Array.from(a);
      b[i] ^= 1 << (i % 8);
      let reads = 0;
      const counting = new Proxy(b, {
        get: (target, name) => {
          if (typeof name === "string" && /^\d+$/.test(name)) reads++;
          return Reflect.get(target, name, target);
        },
      });
      expect([equalInFixedTime(a, counting), reads]).toEqual([false, a.length]);
    }
    expect(equalInFixedTime(a, a.subarray(1))).toBe(false);
    expect(equalInFixedTime(a.subarray(1), a)).toBe(false);
  });
});

describe("the page", () => {
  it("names what it shows, and runs no script but its own", async () => {
    const service = await startLocal({ storage: "r2", tokens: TOKENS });
    try {
      const response = await fetch(service.url);
      const { document } = parseHTML(await response.text());
      const policy = response.headers.get("content-security-policy")!;
      const nonces = Array.from(document.querySelectorAll("[nonce]")).map((one) => one.getAttribute("nonce"));
      expect(new Set(nonces).size).toBe(1);
      expect(policy).toContain(`script-src 'nonce-${nonces[0]}'`);
      expect(document.documentElement.getAttribute("lang")).toBe("en");
      for (const field of Array.from(document.querySelectorAll("input, textarea, meter"))) {
        expect(document.querySelector(`label[for="${field.id}"]`)?.textContent).toBeTruthy();
      }
      expect(document.querySelector("caption")?.textContent).toBeTruthy();
      expect(document.querySelectorAll("[role=status]").length).toBe(2);
      expect(document.querySelectorAll("h1").length).toBe(1);
    } finally {
      await service.dispose();
    }
  });
});
