/**
 * The wire format of Protocol Buffers (protobuf.dev/programming-guides/encoding), as much of it as ONNX files need:
 * fields read one after the other as views, and fields written. Messages that follow one another in a file are merged
 * when they are read, so that a file is added to without copying what it holds.
 */
import { FormatError } from "../errors.ts";

/** A field of a message: a varint's value, or a view of the bytes. */
export interface Field {
  number: number;
  value: number;
  bytes: Uint8Array;
}

const NONE = new Uint8Array(0);

/** The fields of a message. `name` stands in front of messages of a FormatError. */
export function* fieldsOf(message: Uint8Array, name: string): Generator<Field> {
  let at = 0;
  const fail = (expected: string, got: string): never => {
    throw new FormatError(`${name}: protobuf: expected ${expected}, got ${got}`, at);
  };
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; at < message.length && scale < 2 ** 70; scale *= 128) {
      const byte = message[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
    return fail("a varint", at < message.length ? "more than 10 bytes" : "the end");
  };
  const view = (length: number): Uint8Array => {
    if (length > message.length - at) fail(`${length} bytes`, `${message.length - at} (cut short)`);
    at += length;
    return message.subarray(at - length, at);
  };
  while (at < message.length) {
    const key = varint();
    const [number, wire] = [Math.floor(key / 8), key % 8];
    if (number === 0) fail("a field number from 1", "0");
    if (wire === 0) yield { number, value: varint(), bytes: NONE };
    else if (wire === 2) yield { number, value: 0, bytes: view(varint()) };
    else if (wire === 1 || wire === 5) yield { number, value: 0, bytes: view(wire === 1 ? 8 : 4) };
    else fail("wire type 0, 1, 2 or 5", String(wire));
  }
}

const varintBytes = (value: number): number[] => {
  const bytes: number[] = [];
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) + 128);
  return [...bytes, value];
};

/** A field with a number from 0, as a varint. */
export const integerField = (number: number, value: number): Uint8Array =>
  Uint8Array.from([...varintBytes(8 * number), ...varintBytes(value)]);

/** A field with a 32-bit float. */
export function floatField(number: number, value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setFloat32(0, value, true);
  return joinBytes([Uint8Array.from(varintBytes(8 * number + 5)), bytes]);
}

/** A field with bytes, text, or a message that is given as its fields. */
export function bytesField(number: number, content: Uint8Array | string | Uint8Array[]): Uint8Array {
  const parts = typeof content === "string" ? [new TextEncoder().encode(content)] : [content].flat();
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  return joinBytes([Uint8Array.from([...varintBytes(8 * number + 2), ...varintBytes(length)]), ...parts]);
}

export function joinBytes(parts: Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}
