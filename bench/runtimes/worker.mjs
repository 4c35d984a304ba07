/** The programme in workerd: every request runs it. workerd loads modules before a clock can be read. */

import fixture from "fixture.bin";
import { openDump } from "../../dist/engines/safetensors.js";
import * as svdq from "../../dist/index.workerd.js";
import { runProgramme } from "./programme.mjs";

export default {
  async fetch() {
    try {
      const now = () => performance.now();
      const runtime = await svdq.createRuntime();
      return Response.json(await runProgramme({ svdq, openDump, runtime, fixture: new Uint8Array(fixture), now }));
    } catch (error) {
      return Response.json({ error: `${error}\n${error.stack}` });
    }
  },
};
