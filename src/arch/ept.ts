/** Extended page table entries (SDM 3C 29.3.2). */
export const EPT_ENTRY = {
  READ: 1n << 0n,
  WRITE: 1n << 1n,
  EXECUTE: 1n << 2n,
  MEMORY_TYPE_WB: 6n << 3n,
  IGNORE_PAT: 1n << 6n,
  /** In a PDPTE or PDE: maps a page. */
  PAGE: 1n << 7n,
  ACCESSED: 1n << 8n,
  DIRTY: 1n << 9n,
  ADDRESS: 0x000f_ffff_ffff_f000n,
  /** Clear: a violation of this entry becomes #VE in the guest. */
  SUPPRESS_VE: 1n << 63n,
} as const;
export const EPT_RWX = EPT_ENTRY.READ | EPT_ENTRY.WRITE | EPT_ENTRY.EXECUTE;
