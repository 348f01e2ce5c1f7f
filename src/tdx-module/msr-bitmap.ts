import { MSR_BITMAP_RANGE_SIZE, MSR_BITMAP_RANGES, MSR_TABLE } from "../arch/tdx-msr.js";
import { resolvePolicy } from "./features.js";
import type { Td } from "./structures/td.js";
import { TDCX } from "./structures/tdcs.js";

/** Bytes of one of the four bitmaps: read low, read high, write low, write high (SDM 3C 25.6.9). */
const BITMAP = MSR_BITMAP_RANGE_SIZE / 8;

/** Writes a TD's MSR bitmap: a clear bit lets the guest access the MSR without a VM exit. */
export function writeMsrBitmap(td: Td): void {
  const bitmap = new Uint8Array(0x1000).fill(0xff);
  const allow = (msr: number, direction: number): void => {
    const range = MSR_BITMAP_RANGES.findIndex((base) => msr >= base && msr < base + MSR_BITMAP_RANGE_SIZE);
    const bit = msr - (MSR_BITMAP_RANGES[range] as number);
    const at = (direction * 2 + range) * BITMAP + (bit >>> 3);
    bitmap[at] = (bitmap[at] as number) & ~(1 << (bit & 7));
  };
  for (const { first, last, read, write } of MSR_TABLE) {
    const nativeRead = resolvePolicy(td, read) === "native";
    const nativeWrite = resolvePolicy(td, write) === "native";
    for (let msr = first; msr <= last; msr++) {
      if (nativeRead) allow(msr, 0);
      if (nativeWrite) allow(msr, 1);
    }
  }
  td.tdcs.memory.write(td.page(TDCX.MSR_BITMAP), bitmap, td.hkid);
}
