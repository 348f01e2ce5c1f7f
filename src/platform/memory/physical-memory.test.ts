import { describe, expect, it } from "vitest";
import { PAGE_META } from "../../cpu/layout.js";
import type { PoisonCause } from "./lines.js";
import { type Accessor, PhysicalAddressError, PhysicalMemory } from "./physical-memory.js";

const TD = 40;
const OTHER_TD = 41;
const PAGE = 0x5000;

class Consumed extends Error {
  constructor(
    readonly hpa: number,
    readonly keyId: number,
    readonly poison: PoisonCause,
    readonly accessor: Accessor,
  ) {
    super("poison consumed");
  }
}

function machine() {
  const owners: number[] = [];
  const code: number[] = [];
  const made: [number, number, PoisonCause][] = [];
  const memory = new PhysicalMemory(
    { size: 0x20000, firstPrivateKeyId: 32, shared: false },
    {
      ownerChanged: (hpa) => owners.push(hpa),
      codeWritten: (hpa) => code.push(hpa),
      poisonMade: (hpa, keyId, cause) => made.push([hpa, keyId, cause]),
      poisonConsumed: (hpa, keyId, cause, accessor) => {
        throw new Consumed(hpa, keyId, cause, accessor);
      },
    },
  );
  return { memory, owners, code, made };
}

const meta = (memory: PhysicalMemory, hpa = PAGE): number => memory.meta[hpa >>> 12] as number;
const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);

describe("line ownership (tdx-module facts 10)", () => {
  it("a private write sets the TD-owner bit and the KeyID", () => {
    const { memory } = machine();
    memory.seam.fill(PAGE, 64, 0xaa, TD);
    expect(memory.lineState(PAGE)).toEqual({ keyId: TD, owner: true, poison: null });
    expect(memory.seam.read8(PAGE + 5, TD)).toBe(0xaa);
  });

  it("a write with a shared KeyID clears it, silently", () => {
    const { memory } = machine();
    memory.seam.fill(PAGE, 4096, 0xaa, TD);
    memory.seam.fill(PAGE, 64, 0x55, 7);
    expect(memory.lineState(PAGE)).toEqual({ keyId: 0, owner: false, poison: null });
    expect(memory.lineState(PAGE + 64)).toEqual({ keyId: TD, owner: true, poison: null });
    expect(memory.host.read8(PAGE)).toBe(0x55);
  });

  it.each<[string, number, PoisonCause]>([
    ["owner bit 0", 0, "owner"],
    ["another TD's KeyID", OTHER_TD, "integrity"],
  ])("a private read of a line with %s makes sticky poison and consumes it", (_name, writer, cause) => {
    const { memory } = machine();
    memory.seam.fill(PAGE, 4096, 0xaa, writer);
    expect(() => memory.seam.read64(PAGE + 72, TD)).toThrowError(new Consumed(PAGE + 64, TD, cause, "seam"));
    expect(memory.lineState(PAGE + 100)).toEqual({ keyId: writer, owner: writer !== 0, poison: cause });
    expect(memory.poisonedLines()).toEqual([PAGE + 64]);
    // Sticky: its owner consumes it as well.
    expect(() => memory.seam.read8(PAGE + 127, writer)).toThrow(Consumed);
    if (writer !== 0) expect(memory.seam.read8(PAGE + 128, writer)).toBe(0xaa);
  });

  it("a host read of a TD's line gives zeros, and no poison", () => {
    const { memory } = machine();
    memory.seam.fill(PAGE, 4096, 0xaa, TD);
    expect(memory.host.read64(PAGE)).toBe(0n);
    expect(memory.host.read(PAGE - 4, 8)).toEqual(new Uint8Array(8));
    expect(memory.seam.read32(PAGE, 0)).toBe(0);
    expect(memory.lineState(PAGE).poison).toBeNull();
    expect(memory.seam.read8(PAGE, TD)).toBe(0xaa);
  });

  it("a host read of stored poison is a machine check of the host", () => {
    const { memory } = machine();
    memory.poisonLine(PAGE + 70);
    expect(() => memory.host.read32(PAGE + 64)).toThrowError(new Consumed(PAGE + 64, 0, "integrity", "host"));
    expect(memory.host.read32(PAGE + 60)).toBe(0);
    expect(() => memory.host.read(PAGE, 4096)).toThrow(Consumed);
  });

  it("a host reads back what it wrote over a TD's line; the rest of the line reads as the zeros it saw", () => {
    const { memory, owners } = machine();
    memory.seam.fill(PAGE, 4096, 0xaa, TD);
    owners.length = 0;
    memory.host.write64(PAGE + 8, 0x1122334455667788n);
    expect(owners).toEqual([PAGE]);
    expect(meta(memory) & PAGE_META.ODD).toBe(PAGE_META.ODD);
    expect(memory.host.read64(PAGE + 8)).toBe(0x1122334455667788n);
    expect(memory.host.read64(PAGE)).toBe(0n);
    expect(memory.lineState(PAGE)).toEqual({ keyId: 0, owner: false, poison: null });
    expect(() => memory.seam.read64(PAGE + 8, TD)).toThrow(Consumed);
    expect(memory.seam.read8(PAGE + 64, TD)).toBe(0xaa);
  });

  it("a partial store keeps poison and does not fault; a full-line write heals (M4, M5)", () => {
    const { memory, made } = machine();
    memory.seam.fill(PAGE, 4096, 0xaa, TD);
    memory.poisonLine(PAGE);
    memory.seam.write64(PAGE, 1n, TD);
    memory.host.write8(PAGE + 9, 1);
    expect(memory.lineState(PAGE).poison).toBe("integrity");
    expect(made).toEqual([]);
    memory.seam.fill(PAGE, 64, 0, TD);
    expect(memory.lineState(PAGE)).toEqual({ keyId: TD, owner: true, poison: null });
    expect(meta(memory) & PAGE_META.ODD).toBe(0);
    expect(memory.seam.read64(PAGE, TD)).toBe(0n);
  });

  it("a partial private store to a foreign line makes poison that nobody consumes yet", () => {
    const { memory, made } = machine();
    memory.host.write64(PAGE, 0x5ec4e7n);
    memory.seam.write8(PAGE + 9, 1, TD);
    expect(made).toEqual([[PAGE, TD, "owner"]]);
    expect(() => memory.seam.read8(PAGE + 9, TD)).toThrow(Consumed);
  });

  it("MOVDIR64B by the host takes a poisoned private page back (4.3)", () => {
    const { memory, owners } = machine();
    memory.seam.fill(PAGE, 4096, 0xaa, TD);
    memory.poisonLine(PAGE + 0x100);
    owners.length = 0;
    memory.host.fill(PAGE, 4096, 0);
    expect(owners).toEqual([PAGE]);
    expect(memory.poisonedLines()).toEqual([]);
    expect(meta(memory)).toBe(0);
    expect(memory.host.read(PAGE, 4096)).toEqual(new Uint8Array(4096));
  });

  it("a page whose lines become alike again leaves the sparse map", () => {
    const { memory } = machine();
    for (let at = PAGE; at < PAGE + 4096; at += 64) {
      expect(meta(memory) & PAGE_META.ODD).toBe(at === PAGE ? 0 : PAGE_META.ODD);
      memory.seam.fill(at, 64, 1, TD);
    }
    expect(meta(memory)).toBe(TD);
    expect(memory.seam.read16(PAGE + 4094, TD)).toBe(0x0101);
  });
});

describe("accesses of a TD", () => {
  it("loads: own line fine, foreign line poison, shared alias of a private line zeros", () => {
    const { memory } = machine();
    memory.seam.fill(PAGE, 4096, 0xaa, TD);
    expect(memory.guestLineAccess(PAGE, 8, false, TD)).toEqual({ kind: "fine" });
    expect(memory.guestLineAccess(PAGE, 8, false, 0)).toEqual({ kind: "zeros" });
    expect(memory.guestBytes(PAGE, 8, 0)).toEqual(new Uint8Array(8));
    memory.host.write8(PAGE + 64, 1);
    expect(memory.guestLineAccess(PAGE + 60, 8, false, TD)).toEqual({
      kind: "poison-consumed",
      hpa: PAGE + 64,
      keyId: TD,
      cause: "owner",
    });
    expect(memory.guestLineAccess(PAGE + 128, 8, false, TD)).toEqual({ kind: "fine" });
  });

  it("stores: never consume, and claim the line", () => {
    const { memory, made } = machine();
    memory.seam.fill(PAGE, 4096, 0xaa, TD);
    memory.poisonLine(PAGE);
    expect(memory.guestLineAccess(PAGE, 8, true, TD)).toEqual({ kind: "fine" });
    expect(memory.lineState(PAGE).poison).toBe("integrity");
    memory.host.write8(PAGE + 64, 1);
    expect(memory.guestLineAccess(PAGE + 64, 8, true, TD)).toEqual({ kind: "fine" });
    expect(memory.lineState(PAGE + 64)).toEqual({ keyId: TD, owner: true, poison: "owner" });
    expect(made).toEqual([[PAGE + 64, TD, "owner"]]);
    expect(memory.guestLineAccess(PAGE, 64, true, TD)).toEqual({ kind: "fine" });
    expect(memory.lineState(PAGE).poison).toBeNull();
  });
});

describe("pages", () => {
  it("zeros over a page that was never written touch no byte and keep the note", () => {
    const { memory, owners } = machine();
    expect(meta(memory)).toBe(PAGE_META.UNTOUCHED_ZERO);
    memory.seam.fill(PAGE, 8192, 0, TD);
    expect(meta(memory)).toBe(PAGE_META.UNTOUCHED_ZERO | TD);
    expect(meta(memory, PAGE + 4096)).toBe(PAGE_META.UNTOUCHED_ZERO | TD);
    expect(owners).toEqual([PAGE, PAGE + 4096]);
    memory.seam.copy(PAGE, TD, 0x8000, OTHER_TD, 4096);
    expect(meta(memory, 0x8000)).toBe(PAGE_META.UNTOUCHED_ZERO | OTHER_TD);
    memory.seam.write8(PAGE, 1, TD);
    expect(meta(memory)).toBe(TD);
  });

  it("a write by host or module to a page with decoded code is told", () => {
    const { memory, code, owners } = machine();
    memory.meta[PAGE >>> 12] = PAGE_META.CODE;
    memory.host.write8(PAGE, 1);
    memory.host.write(PAGE, bytes(1, 2, 3));
    expect(code).toEqual([PAGE, PAGE]);
    memory.seam.fill(PAGE, 4096, 0, TD);
    expect(owners).toEqual([PAGE]);
  });

  it("copies between views, across pages and odd lines", () => {
    const { memory } = machine();
    memory.host.write(
      0x1000,
      Uint8Array.from({ length: 8192 }, (_, i) => i & 0xff),
    );
    memory.seam.copy(0x1040, 0, 0x8000, TD, 4096);
    expect(memory.seam.read8(0x8000, TD)).toBe(0x40);
    expect(memory.seam.read8(0x8fff, TD)).toBe(0x3f);
    memory.poisonLine(0x1080);
    expect(() => memory.seam.copy(0x1040, 0, 0x8000, TD, 4096)).toThrow(Consumed);
  });

  it("refuses what is not there or not whole lines", () => {
    const { memory } = machine();
    expect(() => memory.host.read(0x1fffc, 8)).toThrow(PhysicalAddressError);
    expect(() => memory.host.write(-1, bytes(1))).toThrow(PhysicalAddressError);
    expect(() => memory.seam.fill(PAGE + 8, 64, 0, TD)).toThrow(RangeError);
    expect(() => new PhysicalMemory({ size: 5, firstPrivateKeyId: 32, shared: false }, {} as never)).toThrow(
      RangeError,
    );
  });

  it("SMRAM reads as all-ones outside SMM, and writes to it are lost", () => {
    const { memory } = machine();
    memory.reserveSmram(0x10000, 0x8000);
    memory.smm.write(0x10008, 8, 0x1234n);
    memory.host.write64(0x10008, 5n);
    memory.host.fill(0x10000, 4096, 0);
    memory.seam.write8(0x10008, 5, TD);
    expect(memory.host.read64(0x10008)).toBe(0xffff_ffff_ffff_ffffn);
    expect(memory.seam.read32(0x10008, TD)).toBe(0xffff_ffff);
    expect(memory.smm.read(0x10008, 8)).toBe(0x1234n);
    expect(() => memory.smm.read(0x1000, 4)).toThrow(PhysicalAddressError);
  });
});
