import { describe, expect, it } from "vitest";
import { FADT, RSDP, TABLE_HEADER } from "../../arch/acpi.js";
import { makeAcpiTables } from "./tables.js";

const BASE = 0x1ffe_0000;

interface Table {
  readonly signature: string;
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/** Walks the tables as an operating system does. */
function walk(whole: Uint8Array): Map<string, Table> {
  const tableAt = (address: number): Table => {
    const offset = address - BASE;
    const length = new DataView(whole.buffer).getUint32(offset + TABLE_HEADER.LENGTH, true);
    const bytes = whole.slice(offset, offset + length);
    return { signature: String.fromCharCode(...bytes.subarray(0, 4)), bytes, view: new DataView(bytes.buffer) };
  };
  const rsdp = new DataView(whole.buffer);
  const xsdt = tableAt(Number(rsdp.getBigUint64(RSDP.XSDT_ADDRESS, true)));
  const found = new Map([[xsdt.signature, xsdt]]);
  for (let offset = TABLE_HEADER.SIZE; offset < xsdt.bytes.length; offset += 8) {
    const table = tableAt(Number(xsdt.view.getBigUint64(offset, true)));
    found.set(table.signature, table);
  }
  const fadt = found.get("FACP") as Table;
  found.set("DSDT", tableAt(Number(fadt.view.getBigUint64(FADT.X_DSDT, true))));
  return found;
}

const sum = (bytes: Uint8Array) => bytes.reduce((total, byte) => total + byte, 0) & 0xff;

describe("ACPI tables", () => {
  const whole = makeAcpiTables(BASE, { vcpus: 2, mailbox: 0x1fff_0000 });
  const tables = walk(whole);

  it("are found from the RSDP, with right checksums", () => {
    expect(String.fromCharCode(...whole.subarray(0, 8))).toBe("RSD PTR ");
    expect(sum(whole.subarray(0, RSDP.CHECKSUM_LENGTH))).toBe(0);
    expect(sum(whole.subarray(0, RSDP.SIZE))).toBe(0);
    expect([...tables.keys()]).toEqual(["XSDT", "FACP", "APIC", "DSDT"]);
    for (const { bytes } of tables.values()) expect(sum(bytes)).toBe(0);
  });

  it("describe power management by PM1a registers, and reset by a port", () => {
    const { view, bytes } = tables.get("FACP") as Table;
    expect(bytes).toHaveLength(276);
    const block = (offset: number) => [
      view.getUint8(offset),
      view.getUint8(offset + 1),
      view.getBigUint64(offset + 4, true),
    ];
    expect(block(FADT.X_PM1A_EVT_BLK)).toEqual([1, 32, 0x600n]);
    expect(block(FADT.X_PM1A_CNT_BLK)).toEqual([1, 16, 0x604n]);
    expect(block(FADT.RESET_REG)).toEqual([1, 8, 0xcf9n]);
    expect([view.getUint32(FADT.PM1A_EVT_BLK, true), view.getUint32(FADT.PM1A_CNT_BLK, true)]).toEqual([0x600, 0x604]);
  });

  it("have a FACS that is aligned to 64 bytes", () => {
    const address = (tables.get("FACP") as Table).view.getUint32(FADT.FIRMWARE_CTRL, true);
    expect(address % 64).toBe(0);
    expect(String.fromCharCode(...whole.subarray(address - BASE, address - BASE + 4))).toBe("FACS");
  });

  it("list a local APIC per vCPU, the IOAPIC and the wakeup mailbox", () => {
    const { bytes, view } = tables.get("APIC") as Table;
    expect(view.getUint32(TABLE_HEADER.SIZE, true)).toBe(0xfee0_0000);
    expect(view.getUint32(TABLE_HEADER.SIZE + 4, true)).toBe(0);
    const structures: number[][] = [];
    for (let offset = TABLE_HEADER.SIZE + 8; offset < bytes.length; offset += bytes[offset + 1] as number) {
      structures.push([...bytes.subarray(offset, offset + (bytes[offset + 1] as number))]);
    }
    expect(structures).toEqual([
      [0, 8, 0, 0, 1, 0, 0, 0],
      [0, 8, 1, 1, 1, 0, 0, 0],
      [1, 12, 0, 0, 0x00, 0x00, 0xc0, 0xfe, 0, 0, 0, 0],
      [2, 10, 0, 9, 9, 0, 0, 0, 13, 0],
      [0x10, 16, 0, 0, 0, 0, 0, 0, 0x00, 0x00, 0xff, 0x1f, 0, 0, 0, 0],
    ]);
  });

  it("need no mailbox for one vCPU", () => {
    const { bytes } = walk(makeAcpiTables(BASE, { vcpus: 1, mailbox: undefined })).get("APIC") as Table;
    expect(bytes).toHaveLength(TABLE_HEADER.SIZE + 8 + 8 + 12 + 10);
  });
});
