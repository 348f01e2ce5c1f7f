import { AML, RESOURCE } from "../../arch/acpi.js";
import { concat } from "../bytes.js";

/** Pieces of ACPI Machine Language: each function gives the bytes of one term. */

/** Length field of a package: it counts itself (20.2.4). */
export function packageLength(bodyLength: number): Uint8Array {
  const one = bodyLength + 1;
  if (one < 1 << 6) return Uint8Array.of(one);
  const bytesAfterLead = bodyLength + 2 < 1 << 12 ? 1 : bodyLength + 3 < 1 << 20 ? 2 : 3;
  const total = bodyLength + 1 + bytesAfterLead;
  const bytes = [(bytesAfterLead << 6) | (total & 0xf)];
  for (let index = 0; index < bytesAfterLead; index++) bytes.push((total >> (4 + 8 * index)) & 0xff);
  return Uint8Array.from(bytes);
}

function enclosed(opcode: readonly number[], ...parts: readonly Uint8Array[]): Uint8Array {
  const body = concat(...parts);
  return concat(Uint8Array.from(opcode), packageLength(body.length), body);
}

/** A name segment, padded to four characters; a leading backslash stands for the root. */
export function nameString(name: string): Uint8Array {
  const root = name.startsWith("\\");
  const segment = name.slice(root ? 1 : 0).padEnd(4, "_");
  if (!/^[A-Z_][A-Z0-9_]{3}$/.test(segment)) throw new RangeError(`"${name}" is no ACPI name`);
  return Uint8Array.from([...(root ? [AML.ROOT] : []), ...Array.from(segment, (letter) => letter.charCodeAt(0))]);
}

export function integer(value: number): Uint8Array {
  if (value === 0) return Uint8Array.of(AML.ZERO);
  if (value === 1) return Uint8Array.of(AML.ONE);
  if (value <= 0xff) return Uint8Array.of(AML.BYTE_PREFIX, value);
  if (value <= 0xffff) return Uint8Array.of(AML.WORD_PREFIX, value & 0xff, value >> 8);
  const bytes = new Uint8Array(5);
  bytes[0] = AML.DWORD_PREFIX;
  new DataView(bytes.buffer).setUint32(1, value, true);
  return bytes;
}

/** Compressed EISA id of a Plug and Play name such as PNP0501 (19.3.4). */
export function eisaId(id: string): Uint8Array {
  const match = /^([A-Z]{3})([0-9A-F]{4})$/.exec(id);
  if (!match?.[1] || !match[2]) throw new RangeError(`"${id}" is no EISA id`);
  const [first = 0, second = 0, third = 0] = Array.from(match[1], (letter) => letter.charCodeAt(0) - 0x40);
  const vendor = (first << 10) | (second << 5) | third;
  const product = Number.parseInt(match[2], 16);
  return Uint8Array.of(AML.DWORD_PREFIX, vendor >> 8, vendor & 0xff, product >> 8, product & 0xff);
}

export const name = (called: string, value: Uint8Array) => concat(Uint8Array.of(AML.NAME), nameString(called), value);
export const scope = (called: string, ...terms: readonly Uint8Array[]) =>
  enclosed([AML.SCOPE], nameString(called), ...terms);
export const device = (called: string, ...terms: readonly Uint8Array[]) =>
  enclosed([AML.EXTENDED_PREFIX, AML.DEVICE_EXTENDED], nameString(called), ...terms);
export const packageOf = (...elements: readonly Uint8Array[]) =>
  enclosed([AML.PACKAGE], Uint8Array.of(elements.length), ...elements);
export const buffer = (bytes: Uint8Array) => enclosed([AML.BUFFER], integer(bytes.length), bytes);

/** A resource template: its descriptors, closed by an end tag without a checksum. */
export const resources = (...descriptors: readonly Uint8Array[]) =>
  buffer(concat(...descriptors, Uint8Array.of(RESOURCE.END_TAG, 0)));

export const ioPorts = (base: number, length: number) =>
  Uint8Array.of(
    RESOURCE.IO_PORT,
    RESOURCE.IO_PORT_DECODE16,
    ...[base & 0xff, base >> 8, base & 0xff, base >> 8],
    1,
    length,
  );

/** An edge-triggered, active-high interrupt line 0 to 15. */
export const irq = (line: number) => Uint8Array.of(RESOURCE.IRQ_NO_FLAGS, (1 << line) & 0xff, (1 << line) >> 8);
