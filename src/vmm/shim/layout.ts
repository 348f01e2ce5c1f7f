/**
 * Where the shim's pages lie: in the last 64 KiB below 4 GiB, which no memory map gives to the kernel, so that they stay
 * as they are for vCPUs that wait in them.
 */

export { PAGE_SIZE } from "../../arch/page.js";

/** Where a TD's vCPU executes its first instruction, in 32-bit protected mode without paging (td-guest-boot facts 2.1). */
export const RESET_VECTOR = 0xffff_fff0;

export const SHIM = {
  BASE: 0xffff_0000,
  END: 0x1_0000_0000,
  /** PML4, PDPT and four page directories: see `identityMap`. */
  PAGE_TABLES: 0xffff_0000,
  STACK: 0xffff_6000,
  /** What the shim is told: see `ShimParameters`. */
  PARAMETERS: 0xffff_7000,
  /** The last page: code, GDT, reset vector. */
  CODE: 0xffff_f000,
} as const;
