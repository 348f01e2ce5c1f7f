import { FACS, RSDP, TABLE_HEADER } from "../../arch/acpi.js";
import { alignUp, ascii } from "../bytes.js";
import { makeDsdt } from "./dsdt.js";
import { makeFadt } from "./fadt.js";
import { type MadtContents, makeMadt } from "./madt.js";
import { checksum, makeTable, OEM_ID } from "./table.js";

const ALIGNMENT = 16;
const XSDT_REVISION = 1;

/** All tables in one piece, to be placed at `base`; the RSDP lies at its start. */
export function makeAcpiTables(base: number, contents: MadtContents): Uint8Array {
  let next = base + alignUp(RSDP.SIZE, ALIGNMENT);
  const placed: { readonly address: number; readonly bytes: Uint8Array }[] = [];
  const place = (bytes: Uint8Array, alignment = ALIGNMENT): number => {
    const address = alignUp(next, alignment);
    placed.push({ address, bytes });
    next = alignUp(address + bytes.length, ALIGNMENT);
    return address;
  };
  const facs = place(makeFacs(), FACS.ALIGNMENT);
  const dsdt = place(makeDsdt());
  const listed = [place(makeFadt(facs, dsdt)), place(makeMadt(contents))];
  const xsdt = place(makeXsdt(listed));
  placed.push({ address: base, bytes: makeRsdp(xsdt) });

  const whole = new Uint8Array(next - base);
  for (const { address, bytes } of placed) whole.set(bytes, address - base);
  return whole;
}

/** Nothing but its header: there is no sleeping state to wake from. */
function makeFacs(): Uint8Array {
  const bytes = new Uint8Array(FACS.SIZE);
  bytes.set(ascii(FACS.SIGNATURE));
  new DataView(bytes.buffer).setUint32(FACS.LENGTH, FACS.SIZE, true);
  bytes[FACS.VERSION] = FACS.CURRENT_VERSION;
  return bytes;
}

function makeXsdt(tables: readonly number[]): Uint8Array {
  return makeTable("XSDT", XSDT_REVISION, TABLE_HEADER.SIZE + 8 * tables.length, (view) => {
    tables.forEach((address, index) => {
      view.setBigUint64(TABLE_HEADER.SIZE + 8 * index, BigInt(address), true);
    });
  });
}

function makeRsdp(xsdt: number): Uint8Array {
  const bytes = new Uint8Array(RSDP.SIZE);
  const view = new DataView(bytes.buffer);
  bytes.set(ascii(RSDP.SIGNATURE));
  bytes.set(ascii(OEM_ID), RSDP.OEM_ID);
  bytes[RSDP.REVISION] = 2;
  view.setUint32(RSDP.LENGTH, RSDP.SIZE, true);
  view.setBigUint64(RSDP.XSDT_ADDRESS, BigInt(xsdt), true);
  bytes[RSDP.CHECKSUM] = checksum(bytes.subarray(0, RSDP.CHECKSUM_LENGTH));
  bytes[RSDP.EXTENDED_CHECKSUM] = checksum(bytes);
  return bytes;
}
