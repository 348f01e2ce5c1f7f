/** Execution controls of a TD VMCS after TDH.VP.INIT (TDX module 1.5; tdx-module facts 7.8). */
export const VMCS_CONTROLS = {
  PIN: 0x29,
  PROCESSOR: 0x91220088,
  SECONDARY: 0x133cb3fa,
  TERTIARY: 0x80,
  EXIT: 0x1f3c8204,
  ENTRY: 0x3ec004,
  /** Machine checks only. */
  EXCEPTION_BITMAP: 1 << 18,
} as const;
