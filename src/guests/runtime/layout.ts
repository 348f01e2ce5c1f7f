/** Where a small TD's pages lie: below the reset vector, in the place of the direct-boot shim. */
export const SMALL_TD = {
  BASE: 0xffff_0000,
  END: 0x1_0000_0000,
  PAGE_TABLES: 0xffff_0000,
  /** Stacks of four vCPUs, growing down: 1 KiB each. */
  STACKS: 0xffff_6000,
  STACK_SIZE: 0x400,
  MAX_VCPUS: 4,
  /** RAM to accept, in the form of the shim's parameters. */
  PARAMETERS: 0xffff_7000,
  IDT: 0xffff_8000,
  /** A page of zeros for the guest's own use. */
  DATA: 0xffff_9000,
  CODE: 0xffff_c000,
} as const;
