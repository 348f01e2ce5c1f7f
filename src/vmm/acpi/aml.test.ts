import { describe, expect, it } from "vitest";
import {
  buffer,
  device,
  eisaId,
  integer,
  ioPorts,
  irq,
  name,
  nameString,
  packageLength,
  packageOf,
  resources,
  scope,
} from "./aml.js";

const hex = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");

/** Bytes as a disassembler of AML reads them back; worked out by hand from the ACPI specification, chapter 20. */
describe("terms", () => {
  it.each([
    ["integer 0", integer(0), "00"],
    ["integer 1", integer(1), "01"],
    ["integer byte", integer(5), "0a 05"],
    ["integer word", integer(0x1234), "0b 34 12"],
    ["integer double word", integer(0xfec00000), "0c 00 00 c0 fe"],
    ["name", nameString("\\_SB"), "5c 5f 53 42 5f"],
    ["EISA id PNP0501", eisaId("PNP0501"), "0c 41 d0 05 01"],
    ["Name(_UID, 1)", name("_UID", integer(1)), "08 5f 55 49 44 01"],
    ["package", packageOf(integer(5), integer(0)), "12 05 02 0a 05 00"],
    ["buffer", buffer(Uint8Array.of(1, 2)), "11 05 0a 02 01 02"],
    ["scope", scope("\\_SB"), "10 06 5c 5f 53 42 5f"],
    ["device", device("COM1"), "5b 82 05 43 4f 4d 31"],
    ["I/O ports", ioPorts(0x3f8, 8), "47 01 f8 03 f8 03 01 08"],
    ["interrupt 4", irq(4), "22 10 00"],
    ["resources", resources(irq(4)), "11 08 0a 05 22 10 00 79 00"],
  ])("%s", (_what, bytes, expected) => {
    expect(hex(bytes)).toBe(expected);
  });

  it("package lengths of one to four bytes count themselves", () => {
    expect(hex(packageLength(62))).toBe("3f");
    expect(hex(packageLength(63))).toBe("41 04");
    expect(hex(packageLength(4093))).toBe("4f ff");
    expect(hex(packageLength(4094))).toBe("81 00 01");
    expect(hex(packageLength(0x10_0000))).toBe("c4 00 00 01");
  });

  it("refuses what is no name", () => {
    expect(() => nameString("5ABC")).toThrow(RangeError);
    expect(() => eisaId("PNP05")).toThrow(RangeError);
  });
});
