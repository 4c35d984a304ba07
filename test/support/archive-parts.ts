/** An archive taken apart, to be changed in one place and put together again with checksums that are right. */
import { crc32c } from "../../src/archive/checksum.ts";
import type { ArchiveHeader, SectionKind } from "../../src/archive/format.ts";
import { decodeArchive } from "../../src/archive/reader.ts";
import { FormatError } from "../../src/errors.ts";

const HEADER_AT = 32;
const roundUp = (x: number): number => Math.ceil(x / 16) * 16;

export class ArchiveParts {
  /** Parsed; what the table says of places and checksums is made again by `bytes`. */
  header: ArchiveHeader;
  sections: Uint8Array[];
  version: number;

  constructor(archive: Uint8Array) {
    this.version = archive[8];
    const headerBytes = new DataView(archive.buffer, archive.byteOffset).getUint32(12, true);
    this.header = JSON.parse(new TextDecoder().decode(archive.subarray(HEADER_AT, HEADER_AT + headerBytes)));
    const first = roundUp(HEADER_AT + headerBytes);
    this.sections = this.header.sections.map(({ offset, bytes }) =>
      archive.slice(first + offset, first + offset + bytes),
    );
  }

  indexOf(kind: SectionKind, layer?: number): number {
    const index = this.header.sections.findIndex((row) => row.kind === kind && row.layer === layer);
    if (index < 0) throw new Error(`no section ${kind} of layer ${layer}`);
    return index;
  }

  /** Changes a section in place, or replaces it by what `change` returns. */
  edit(kind: SectionKind, layer: number | undefined, change: (bytes: Uint8Array) => Uint8Array | undefined): this {
    const index = this.indexOf(kind, layer);
    this.sections[index] = change(this.sections[index]) ?? this.sections[index];
    return this;
  }

  /** A file with the table made again, every checksum right. */
  bytes(): Uint8Array {
    let offset = 0;
    const sections = this.header.sections.map((row, i) => {
      const bytes = this.sections[i].length;
      const start = roundUp(offset);
      offset = start + bytes;
      return { ...row, offset: start, bytes, crc32c: crc32c(this.sections[i]) };
    });
    return signed({ ...this.header, sections }, this.sections, offset, this.version);
  }

  /** A file whose header is `header` whatever it says; sections lie where they belong. */
  withHeader(header: unknown): Uint8Array {
    const end = this.sections.reduce((at, bytes) => roundUp(at) + bytes.length, 0);
    return signed(header, this.sections, end, this.version);
  }
}

/** Preamble, header (an object, or its text) and sections; checksums of preamble and header are right. */
function signed(header: unknown, sections: Uint8Array[], sectionBytes: number, version: number): Uint8Array {
  const json = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const first = roundUp(HEADER_AT + json.length);
  const bytes = new Uint8Array(first + sectionBytes);
  bytes.set([0x53, 0x56, 0x44, 0x51, 0x0d, 0x0a, 0x1a, 0x0a]);
  bytes.set(json, HEADER_AT);
  let at = 0;
  for (const section of sections) {
    bytes.set(section, first + roundUp(at));
    at = roundUp(at) + section.length;
  }
  const view = new DataView(bytes.buffer);
  view.setUint32(8, version, true);
  view.setUint32(12, json.length, true);
  view.setBigUint64(16, BigInt(bytes.length), true);
  view.setUint32(24, crc32c(json), true);
  return resignPreamble(bytes);
}

/** Makes the checksum of the preamble right, in place. */
export function resignPreamble(bytes: Uint8Array): Uint8Array {
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(28, crc32c(bytes.subarray(0, 28)), true);
  return bytes;
}

/** The FormatError that reading `bytes` ends with; anything else fails the test. */
export function refusalOf(bytes: Uint8Array): FormatError {
  try {
    decodeArchive(bytes, "x.svdq");
  } catch (error) {
    if (error instanceof FormatError) return error;
    throw error;
  }
  throw new Error("expected a FormatError, got an archive that reads");
}

/** Flips a bit of every byte in turn; each must be refused. */
export function refuseEveryFlip(archive: Uint8Array): void {
  const bytes = archive.slice();
  for (let at = 0; at < archive.length; at++) {
    bytes[at] ^= 1 << (at % 8);
    refusalOf(bytes);
    bytes[at] = archive[at];
  }
}
