import { PAGE_SIZE } from "../../arch/page.js";
import { TDMR_INFO } from "../../arch/tdx-abi.js";
import type { TdxSysInfo } from "./sys-info.js";

/** A range of bytes of host physical memory. */
export interface Range {
  readonly base: number;
  readonly size: number;
}

/** One TD memory region with the place of its PAMT. */
export interface Tdmr extends Range {
  readonly pamt1g: Range;
  readonly pamt2m: Range;
  readonly pamt4k: Range;
  /** Parts that no TD may use: holes in memory and the PAMTs. Absolute, ascending, apart. */
  readonly reserved: readonly Range[];
}

const SIZE_4K = 2 ** 12;
const SIZE_2M = 2 ** 21;
/** TDMRs begin and end at multiples of 1 GiB. */
const SIZE_1G = 2 ** 30;
const roundUp = (value: number, unit: number): number => Math.ceil(value / unit) * unit;
const roundDown = (value: number, unit: number): number => Math.floor(value / unit) * unit;

/**
 * Covers all memory with TDMRs and places their PAMTs (construct_tdmrs). `memory` are the ranges that the kernel manages,
 * ascending; `allocate` finds adjacent pages for a PAMT in them, null if there are none.
 */
export function constructTdmrs(
  memory: readonly Range[],
  info: Pick<TdxSysInfo, "pamtEntrySize">,
  allocate: (pages: number) => number | null,
): Tdmr[] | null {
  const areas: Range[] = [];
  for (const { base, size } of memory) {
    const start = roundDown(base, SIZE_1G);
    const end = roundUp(base + size, SIZE_1G);
    const last = areas.at(-1);
    const covered = last === undefined ? 0 : last.base + last.size;
    if (end > covered) areas.push({ base: Math.max(start, covered), size: end - Math.max(start, covered) });
  }
  const pamts: [Range, Range, Range][] = [];
  for (const area of areas) {
    const sizes = [
      roundUp((area.size / SIZE_1G) * info.pamtEntrySize.p1g, PAGE_SIZE),
      roundUp((area.size / SIZE_2M) * info.pamtEntrySize.p2m, PAGE_SIZE),
      roundUp((area.size / SIZE_4K) * info.pamtEntrySize.p4k, PAGE_SIZE),
    ] as const;
    const base = allocate((sizes[0] + sizes[1] + sizes[2]) / PAGE_SIZE);
    if (base === null) return null;
    pamts.push([
      { base, size: sizes[0] },
      { base: base + sizes[0], size: sizes[1] },
      { base: base + sizes[0] + sizes[1], size: sizes[2] },
    ]);
  }
  const taken = pamts.map(([p1g, p2m, p4k]) => ({ base: p1g.base, size: p1g.size + p2m.size + p4k.size }));
  return areas.map((area, i): Tdmr => {
    const [pamt1g, pamt2m, pamt4k] = pamts[i] ?? ([area, area, area] as const);
    return { ...area, pamt1g, pamt2m, pamt4k, reserved: reservedAreas(area, memory, taken) };
  });
}

/** What lies in a TDMR but is no memory, or is PAMT. */
function reservedAreas(tdmr: Range, memory: readonly Range[], pamts: readonly Range[]): Range[] {
  const end = tdmr.base + tdmr.size;
  const holes: Range[] = [];
  let at = tdmr.base;
  for (const range of memory) {
    const from = Math.min(Math.max(range.base, tdmr.base), end);
    if (from > at) holes.push({ base: at, size: from - at });
    at = Math.max(at, Math.min(range.base + range.size, end));
  }
  if (at < end) holes.push({ base: at, size: end - at });
  const inside = pamts.filter((pamt) => pamt.base < end && pamt.base + pamt.size > tdmr.base);
  const merged: { base: number; size: number }[] = [];
  for (const area of [...holes, ...inside].sort((a, b) => a.base - b.base)) {
    const last = merged.at(-1);
    if (last !== undefined && last.base + last.size === area.base) last.size += area.size;
    else merged.push({ base: area.base, size: area.size });
  }
  return merged;
}

/** TDMR_INFO as TDH.SYS.CONFIG reads it. */
export function encodeTdmrInfo(tdmr: Tdmr): Uint8Array {
  const bytes = new Uint8Array(TDMR_INFO.LENGTH);
  const view = new DataView(bytes.buffer);
  const put = (offset: number, value: number): void => view.setBigUint64(offset, BigInt(value), true);
  put(TDMR_INFO.BASE, tdmr.base);
  put(TDMR_INFO.SIZE, tdmr.size);
  put(TDMR_INFO.PAMT_1G_BASE, tdmr.pamt1g.base);
  put(TDMR_INFO.PAMT_1G_SIZE, tdmr.pamt1g.size);
  put(TDMR_INFO.PAMT_2M_BASE, tdmr.pamt2m.base);
  put(TDMR_INFO.PAMT_2M_SIZE, tdmr.pamt2m.size);
  put(TDMR_INFO.PAMT_4K_BASE, tdmr.pamt4k.base);
  put(TDMR_INFO.PAMT_4K_SIZE, tdmr.pamt4k.size);
  tdmr.reserved.forEach((area, i) => {
    put(TDMR_INFO.RESERVED + 16 * i, area.base - tdmr.base);
    put(TDMR_INFO.RESERVED + 16 * i + 8, area.size);
  });
  return bytes;
}
