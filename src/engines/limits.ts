/** What the codec takes, asked where an engine may have more. */
import { checkGeometry, type Geometry } from "../codec/geometry.ts";
import { UnsupportedError } from "../errors.ts";

/** The geometry, or an UnsupportedError: no caller typed these numbers, a model has them. */
export function supportedGeometry(geometry: Geometry): Geometry {
  try {
    return checkGeometry(geometry);
  } catch (cause) {
    throw new UnsupportedError((cause as Error).message, { cause });
  }
}
