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
      const onnx = { notRun: "workerd compiles no wasm at run time, which onnxruntime-web does" };
      const bytes = new Uint8Array(fixture);
      return Response.json(await runProgramme({ svdq, openDump, runtime, fixture: bytes, now, onnx }));
    } catch (error) {
      return Response.json({ error: `${error}\n${error.stack}` });
    }
  },
};
