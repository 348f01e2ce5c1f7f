/** Signals and their codes (uapi asm-generic signal.h and siginfo.h), as far as memory errors use them. */
export const SIGBUS = 7;

/** `si_code` of SIGBUS. */
export const SI_CODE = {
  /** A data or fetch error that the receiver itself ran into and must act upon before it goes on. */
  BUS_MCEERR_AR: 4,
  /** Memory of the receiver was lost; it need not act at once. */
  BUS_MCEERR_AO: 5,
  /** Sent by the kernel without further information (`force_sig`). */
  SI_KERNEL: 0x80,
} as const;
