/** The routes. README.md has a table of them. */
import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { cors } from "hono/cors";
import { secureHeaders } from "hono/secure-headers";
import type { PrefixInfo } from "svdq/store";
import { attend } from "./attend.ts";
import { type App, numberOf } from "./env.ts";
import { answerTo, Refusal } from "./errors.ts";
import page from "./page.html";
import { etagOf, isKnown, partOf } from "./ranges.ts";
import { Slots } from "./slots.ts";
import { PIECE_BYTES, prefixesOf } from "./storage.ts";
import { authenticate } from "./tenants.ts";
import { readUpload } from "./upload.ts";

const MOST_JSON_BYTES = 12 * 2 ** 20;
const MOST_QUERY_BYTES = 2 ** 20;

const tooLarge = (most: number) =>
  bodyLimit({
    maxSize: most,
    onError: () => {
      throw new Refusal(413, "TOO_LARGE", `body: expected at most ${most} bytes, got more`);
    },
  });

export const app = new Hono<App>();

app.onError((error, context) => answerTo(error, context));
app.notFound((context) => context.json({ error: { code: "NOT_FOUND", message: "there is no such path" } }, 404));

app.get("/health", (context) => context.json({ status: "ok" }));

app.use("*", async (context, next) => {
  const origins = context.env.ORIGINS.split(",").filter(Boolean);
  if (origins.length === 0) return next();
  const handle = cors({
    origin: origins.includes("*") ? "*" : origins,
    allowMethods: ["GET", "HEAD", "PUT", "POST", "DELETE"],
    allowHeaders: ["authorization", "content-type", "range", "if-none-match", "if-range"],
    exposeHeaders: ["etag", "content-range", "content-length", "accept-ranges", "location", "retry-after"],
    maxAge: 86_400,
  });
  return handle(context, next);
});

app.get("/", secureHeaders(), (context) => {
  const nonce = crypto.randomUUID();
  const policy = `default-src 'none'; connect-src 'self'; script-src 'nonce-${nonce}'; style-src 'nonce-${nonce}'`;
  context.header("content-security-policy", `${policy}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`);
  return context.html(page.replaceAll("NONCE", nonce));
});

for (const path of ["/prefixes", "/prefixes/*", "/attend", "/stats"]) app.use(path, authenticate);

const storeOf = (context: Context<App>) => prefixesOf(context.env, context.get("tenant"));
const pathOf = ({ id, etag }: PrefixInfo): string => `/prefixes/${id}/${etag}`;
const gone = () => new Refusal(404, "NOT_FOUND", "prefix: expected one that is stored, got none under this id");

/** Each holds a piece or two. */
const uploads = new Slots(8);

app.put("/prefixes", async (context) => {
  const mostBytes = numberOf(context.env, "MOST_PREFIX_BYTES");
  const claimed = Number(context.req.header("content-length") ?? 0);
  // Tokens and head come on top.
  if (claimed > mostBytes + 8 * 2 ** 20) {
    throw new Refusal(413, "TOO_LARGE", `body: expected at most ${mostBytes} bytes of chunks, got ${claimed}`);
  }
  const { body } = context.req.raw;
  if (!body) throw new Refusal(400, "BAD_BODY", "body: expected a prefix, got nothing");
  const info = await uploads.run(context, async () => {
    const store = await storeOf(context);
    const limits = { mostBytes, pieceBytes: PIECE_BYTES };
    const { prefix, cancel } = await readUpload(body, limits, (id) => store.info(id));
    return store.put(prefix).catch(async (error) => {
      await cancel();
      throw error;
    });
  });
  return context.json(info, 201, { location: pathOf(info), etag: etagOf(info) });
});

app.get("/prefixes", async (context) => {
  const prefixes = (await (await storeOf(context)).list()).map(({ chunks, ...info }) => ({
    ...info,
    chunks: chunks.length,
    url: pathOf({ ...info, chunks }),
  }));
  return context.json({ prefixes }, 200, { "cache-control": "private, no-store" });
});

app.post("/prefixes/match", tooLarge(MOST_JSON_BYTES), async (context) => {
  const { model, tokens } = (await jsonOf(context)) as { model?: unknown; tokens?: unknown };
  if (typeof model !== "string") throw new Refusal(400, "BAD_BODY", "model: expected a string, got something else");
  const isToken = (token: unknown) => Number.isInteger(token) && (token as number) === ((token as number) | 0);
  if (!Array.isArray(tokens) || !tokens.every(isToken)) {
    throw new Refusal(400, "BAD_BODY", "tokens: expected an array of 32-bit integers, got something else");
  }
  const match = await (await storeOf(context)).match({ model, tokens: Int32Array.from(tokens) });
  return context.json({ match: match ? { ...match, url: pathOf(match) } : null }, 200, {
    "cache-control": "private, no-store",
  });
});

async function jsonOf(context: Context<App>): Promise<object> {
  const value: unknown = await context.req.json().catch(() => undefined);
  if (typeof value === "object" && value !== null) return value;
  throw new Refusal(400, "BAD_BODY", "body: expected a JSON object, got something else");
}

/** The path with an etag never changes what it gives; the one without has the newest. */
app.get("/prefixes/:id/:etag?", async (context) => {
  const { id, etag } = context.req.param();
  const store = await storeOf(context);
  const prefix = await store.open(id);
  if (!prefix || (etag !== undefined && etag !== prefix.info.etag)) throw gone();
  const { info } = prefix;
  const headers: Record<string, string> = {
    etag: etagOf(info),
    "accept-ranges": "bytes",
    "cache-control": etag === undefined ? "private, no-cache" : "private, max-age=31536000, immutable",
    vary: "authorization",
  };
  if (isKnown(context.req.header("if-none-match"), etagOf(info))) return context.body(null, 304, headers);
  const asked = { range: context.req.header("range"), ifRange: context.req.header("if-range") };
  const part = partIn(context, asked, info);
  const { start, end } = part ?? { start: 0, end: info.bytes };
  headers["content-type"] = "application/octet-stream";
  headers["content-length"] = String(end - start);
  if (part) headers["content-range"] = `bytes ${start}-${end - 1}/${info.bytes}`;
  if (context.req.method === "HEAD") return context.body(null, part ? 206 : 200, headers);
  const body = prefix.read({ start, end }).pipeThrough(new FixedLengthStream(end - start));
  return context.body(body, part ? 206 : 200, headers);
});

function partIn(context: Context<App>, asked: Parameters<typeof partOf>[0], info: PrefixInfo) {
  try {
    return partOf(asked, info);
  } catch (error) {
    context.header("content-range", `bytes */${info.bytes}`);
    throw error;
  }
}

app.delete("/prefixes/:id", async (context) => {
  if (!(await (await storeOf(context)).delete(context.req.param("id")))) throw gone();
  return context.body(null, 204);
});

/** ?prefix=ID&layer=N, a body of f32: queries (queryHeads, headDim) after RoPE; the answer has the same shape. */
app.post("/attend", tooLarge(MOST_QUERY_BYTES), async (context) => {
  const id = context.req.query("prefix") ?? "";
  const layer = Number(context.req.query("layer") ?? Number.NaN);
  const body = await context.req.arrayBuffer();
  if (body.byteLength === 0 || body.byteLength % 4 !== 0) {
    throw new Refusal(400, "BAD_BODY", `body: expected f32 queries, got ${body.byteLength} bytes`);
  }
  const store = await storeOf(context);
  const out = await attend(context, store, { id, layer, queries: new Float32Array(body) });
  return context.body(out.buffer as ArrayBuffer, 200, {
    "content-type": "application/octet-stream",
    "cache-control": "private, no-store",
  });
});

app.get("/stats", async (context) => {
  const stats = await (await storeOf(context)).stats();
  return context.json({ ...stats, storage: context.env.STORAGE }, 200, { "cache-control": "private, no-store" });
});
