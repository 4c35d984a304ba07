import { use } from "./use.mjs";

export default { fetch: async () => new Response(await use().catch((error) => `${error}`)) };
