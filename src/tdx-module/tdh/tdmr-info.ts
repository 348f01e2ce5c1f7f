import { PAGE_SIZE } from "../../arch/page.js";
import { PAMT_ENTRY_SIZE, PAMT_PAGE_SIZE, TDMR_INFO } from "../../arch/tdx-abi.js";
import { TDX_STATUS } from "../../arch/tdx-status.js";
import { fail } from "../failure.js";
import type { Tdmr } from "../state.js";

const GIB = 2 ** 30;

interface Range {
  readonly base: number;
  readonly size: number;
}

/** PAMT arrays of a TDMR by page size: offset of base and size in TDMR_INFO, bytes that an entry covers. */
const PAMT_ARRAYS = [
  { level: PAMT_PAGE_SIZE.P1G, at: TDMR_INFO.PAMT_1G_BASE, covers: GIB },
  { level: PAMT_PAGE_SIZE.P2M, at: TDMR_INFO.PAMT_2M_BASE, covers: 2 ** 21 },
  { level: PAMT_PAGE_SIZE.P4K, at: TDMR_INFO.PAMT_4K_BASE, covers: PAGE_SIZE },
] as const;

const overlap = (a: Range, b: Range): boolean => a.base < b.base + b.size && b.base < a.base + a.size;
const inside = (range: Range, cmrs: readonly Range[]): boolean =>
  cmrs.some((cmr) => range.base >= cmr.base && range.base + range.size <= cmr.base + cmr.size);

/**
 * Reads and checks one TDMR_INFO. `before` are the TDMRs already taken, whose order, PAMTs and memory it must respect.
 * Details of a failure: byte 0 the index of the TDMR, byte 1 PAMT level or reserved area, byte 2 the other TDMR.
 */
export function readTdmr(info: DataView, before: readonly Tdmr[], pamts: Range[][], cmrs: readonly Range[]): Tdmr {
  const index = before.length;
  const u64 = (offset: number): number => Number(info.getBigUint64(offset, true));
  const refuse = (status: bigint, byte1 = 0, byte2 = 0): never =>
    fail(status, BigInt(index | (byte1 << 8) | (byte2 << 16)));

  const base = u64(TDMR_INFO.BASE);
  const size = u64(TDMR_INFO.SIZE);
  if (base % GIB !== 0 || size % GIB !== 0 || size === 0) refuse(TDX_STATUS.INVALID_TDMR);
  const last = before.at(-1);
  if (last && base < last.base + last.size) refuse(TDX_STATUS.NON_ORDERED_TDMR);

  const own: Range[] = [];
  for (const { level, at, covers } of PAMT_ARRAYS) {
    const pamt = { base: u64(at), size: u64(at + 8) };
    const needed = Math.ceil(((size / covers) * PAMT_ENTRY_SIZE) / PAGE_SIZE) * PAGE_SIZE;
    if (pamt.base % PAGE_SIZE !== 0 || pamt.size % PAGE_SIZE !== 0 || pamt.size < needed)
      refuse(TDX_STATUS.INVALID_PAMT, level);
    if (!inside(pamt, cmrs)) refuse(TDX_STATUS.PAMT_OUTSIDE_CMRS, level);
    for (const [other, arrays] of [...pamts, own].entries()) {
      if (arrays.some((array) => overlap(array, pamt))) refuse(TDX_STATUS.PAMT_OVERLAP, level, other);
    }
    own[level] = pamt;
  }

  const reserved: { offset: number; size: number }[] = [];
  for (let i = 0; i < TDMR_INFO.MAX_RESERVED; i++) {
    const area = { offset: u64(TDMR_INFO.RESERVED + i * 16), size: u64(TDMR_INFO.RESERVED + i * 16 + 8) };
    if (area.size === 0) break;
    if (area.offset % PAGE_SIZE !== 0 || area.size % PAGE_SIZE !== 0 || area.offset + area.size > size) {
      refuse(TDX_STATUS.INVALID_RESERVED_IN_TDMR, i);
    }
    const previous = reserved.at(-1);
    if (previous && area.offset < previous.offset + previous.size) refuse(TDX_STATUS.NON_ORDERED_RESERVED_IN_TDMR, i);
    reserved.push(area);
  }
  const tdmr: Tdmr = {
    base,
    size,
    pamt1g: own[PAMT_PAGE_SIZE.P1G]?.base ?? 0,
    pamt2m: own[PAMT_PAGE_SIZE.P2M]?.base ?? 0,
    pamt4k: own[PAMT_PAGE_SIZE.P4K]?.base ?? 0,
    reserved,
    initialised: 0,
  };
  for (const part of usableParts(tdmr)) if (!inside(part, cmrs)) refuse(TDX_STATUS.TDMR_OUTSIDE_CMRS);
  pamts.push(own);
  return tdmr;
}

/** No PAMT may lie in the usable memory of any TDMR. */
export function checkPamtOverlap(tdmrs: readonly Tdmr[], pamts: readonly (readonly Range[])[]): void {
  for (const [index, arrays] of pamts.entries()) {
    for (const [level, pamt] of arrays.entries()) {
      const other = tdmrs.findIndex((tdmr) => usableParts(tdmr).some((part) => overlap(part, pamt)));
      if (other >= 0) fail(TDX_STATUS.PAMT_OVERLAP, BigInt(index | (level << 8) | (other << 16)));
    }
  }
}

/** The parts of a TDMR between its reserved areas. */
function usableParts(tdmr: Tdmr): Range[] {
  const parts: Range[] = [];
  let from = 0;
  for (const { offset, size } of [...tdmr.reserved, { offset: tdmr.size, size: 0 }]) {
    if (offset > from) parts.push({ base: tdmr.base + from, size: offset - from });
    from = offset + size;
  }
  return parts;
}
