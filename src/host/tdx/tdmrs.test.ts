import { describe, expect, it } from "vitest";
import { TDMR_INFO } from "../../arch/tdx-abi.js";
import { constructTdmrs, encodeTdmrInfo } from "./tdmrs.js";

const MIB = 0x100000;
const GIB = 1024 * MIB;
const info = { pamtEntrySize: { p4k: 16, p2m: 16, p1g: 16 } };
/** Pages of the PAMT of 1 GiB: 4 MiB, 8 KiB and one page. */
const PAMT_PAGES = 1024 + 2 + 1;

describe("TDMRs", () => {
  it("cover memory in whole GiB, with holes and PAMT reserved", () => {
    const asked: number[] = [];
    const tdmrs = constructTdmrs([{ base: MIB, size: 511 * MIB }], info, (pages) => {
      asked.push(pages);
      return 256 * MIB;
    });
    expect(asked).toEqual([PAMT_PAGES]);
    expect(tdmrs).toMatchObject([
      {
        base: 0,
        size: GIB,
        pamt1g: { base: 256 * MIB, size: 4096 },
        pamt2m: { base: 256 * MIB + 4096, size: 8192 },
        pamt4k: { base: 256 * MIB + 3 * 4096, size: 4 * MIB },
        reserved: [
          { base: 0, size: MIB },
          { base: 256 * MIB, size: PAMT_PAGES * 4096 },
          { base: 512 * MIB, size: 512 * MIB },
        ],
      },
    ]);
  });

  it("join what touches: a PAMT at the end of memory and the hole behind it", () => {
    const base = 512 * MIB - PAMT_PAGES * 4096;
    const [tdmr] = constructTdmrs([{ base: 0, size: 512 * MIB }], info, () => base) ?? [];
    expect(tdmr?.reserved).toEqual([{ base, size: GIB - base }]);
  });

  it("do not overlap where two ranges share a GiB", () => {
    let next = 4 * MIB;
    const ranges = [
      { base: 0, size: 512 * MIB },
      { base: 768 * MIB, size: GIB },
    ];
    const tdmrs = constructTdmrs(ranges, info, (pages) => {
      next += pages * 4096;
      return next - pages * 4096;
    });
    expect(tdmrs?.map(({ base, size }) => [base, size])).toEqual([
      [0, GIB],
      [GIB, GIB],
    ]);
    expect(tdmrs?.[0]?.reserved).toContainEqual({ base: 512 * MIB, size: 256 * MIB });
    expect(tdmrs?.[1]?.reserved).toEqual([{ base: GIB + 768 * MIB, size: 256 * MIB }]);
  });

  it("need memory for their PAMTs", () => {
    expect(constructTdmrs([{ base: 0, size: GIB }], info, () => null)).toBeNull();
  });

  it("are encoded with offsets of the reserved areas", () => {
    const [tdmr] = constructTdmrs([{ base: GIB, size: GIB / 2 }], info, () => GIB) ?? [];
    if (tdmr === undefined) throw new Error("no TDMR");
    const view = new DataView(encodeTdmrInfo(tdmr).buffer);
    expect(view.getBigUint64(TDMR_INFO.BASE, true)).toBe(BigInt(GIB));
    expect(view.getBigUint64(TDMR_INFO.PAMT_4K_SIZE, true)).toBe(BigInt(4 * MIB));
    expect(view.getBigUint64(TDMR_INFO.RESERVED, true)).toBe(0n);
    expect(view.getBigUint64(TDMR_INFO.RESERVED + 8, true)).toBe(BigInt(PAMT_PAGES * 4096));
    expect(view.getBigUint64(TDMR_INFO.RESERVED + 16, true)).toBe(BigInt(GIB / 2));
  });
});
