import { SHIM } from "../../vmm/shim/layout.js";

/** Where a small TD's pages lie: below the reset vector, in the place of the direct-boot shim. */
export const SMALL_TD = {
  BASE: SHIM.BASE,
  END: SHIM.END,
  PAGE_TABLES: SHIM.PAGE_TABLES,
  /** Stacks of four vCPUs, growing down: 1 KiB each. */
  STACKS: SHIM.STACK,
  STACK_SIZE: 0x400,
  /** RAM to accept, in the form of the shim's parameters. */
  PARAMETERS: SHIM.PARAMETERS,
  IDT: 0xffff_8000,
  /** A page of zeros for the guest's own use. */
  DATA: 0xffff_9000,
  CODE: 0xffff_c000,
} as const;
