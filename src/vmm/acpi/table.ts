import { TABLE_HEADER } from "../../arch/acpi.js";
import { ascii } from "../bytes.js";

export const OEM_ID = "SEAMLS";
const OEM_TABLE_ID = "SEAMLESS";
const CREATOR_ID = "SMLS";

/** The byte that makes the sum of all bytes zero. */
export function checksum(bytes: Uint8Array): number {
  return -bytes.reduce((sum, byte) => sum + byte, 0) & 0xff;
}

/** A table with its header and checksum. `fill` writes the body; offsets are those of the whole table. */
export function makeTable(
  signature: string,
  revision: number,
  size: number,
  fill: (view: DataView, bytes: Uint8Array) => void,
): Uint8Array {
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  bytes.set(ascii(signature), TABLE_HEADER.SIGNATURE);
  view.setUint32(TABLE_HEADER.LENGTH, size, true);
  bytes[TABLE_HEADER.REVISION] = revision;
  bytes.set(ascii(OEM_ID), TABLE_HEADER.OEM_ID);
  bytes.set(ascii(OEM_TABLE_ID), TABLE_HEADER.OEM_TABLE_ID);
  view.setUint32(TABLE_HEADER.OEM_REVISION, 1, true);
  bytes.set(ascii(CREATOR_ID), TABLE_HEADER.CREATOR_ID);
  view.setUint32(TABLE_HEADER.CREATOR_REVISION, 1, true);
  fill(view, bytes);
  bytes[TABLE_HEADER.CHECKSUM] = checksum(bytes);
  return bytes;
}
