/** Local APIC registers and message formats (SDM 3A chapter 11). MSR numbers of x2APIC mode are in msr.ts. */

/** Delivery modes (ICR 10:8, LVT 10:8, MSI data 10:8). */
export const DELIVERY_MODE = {
  FIXED: 0,
  LOWEST_PRIORITY: 1,
  SMI: 2,
  RESERVED: 3,
  NMI: 4,
  INIT: 5,
  STARTUP: 6,
  EXTINT: 7,
} as const;
export const DELIVERY_MODE_SHIFT = 8;
export const DELIVERY_MODE_MASK = 7 << DELIVERY_MODE_SHIFT;

/** Interrupt command register, low half; the high half is the destination in x2APIC mode. */
export const ICR = {
  VECTOR_MASK: 0xff,
  LOGICAL: 1 << 11,
  PENDING: 1 << 12,
  LEVEL_ASSERT: 1 << 14,
  TRIGGER_LEVEL: 1 << 15,
  SHORTHAND_SHIFT: 18,
  SHORTHAND_NONE: 0,
  SHORTHAND_SELF: 1,
  SHORTHAND_ALL: 2,
  SHORTHAND_OTHERS: 3,
} as const;

/** Local vector table. */
export const LVT = {
  VECTOR_MASK: 0xff,
  SEND_PENDING: 1 << 12,
  POLARITY: 1 << 13,
  REMOTE_IRR: 1 << 14,
  LEVEL: 1 << 15,
  MASKED: 1 << 16,
  TIMER_MODE_SHIFT: 17,
  TIMER_MODE_MASK: 3 << 17,
  TIMER_ONESHOT: 0,
  TIMER_PERIODIC: 1,
  TIMER_TSC_DEADLINE: 2,
} as const;

/** Spurious-interrupt vector register. */
export const SVR = {
  RESET: 0xff,
  ENABLED: 1 << 8,
  WRITABLE: 0x3ff,
  DIRECTED_EOI: 1 << 12,
} as const;

/** Version register: that of an integrated APIC, most LVT entry number, and the directed-EOI bit. */
export const APIC_VERSION = { NUMBER: 0x14, MAX_LVT_SHIFT: 16, DIRECTED_EOI: 1 << 24 } as const;

/** All processors, as destination in x2APIC mode. */
export const X2APIC_BROADCAST = 0xffffffff;
/** All processors, as 8-bit destination of a message. */
export const XAPIC_BROADCAST = 0xff;

/** Message-signalled interrupts: address and data. */
export const MSI = {
  DESTINATION_SHIFT: 12,
  REDIRECTION_HINT: 1 << 3,
  LOGICAL: 1 << 2,
  TRIGGER_LEVEL: 1 << 15,
} as const;

/** Vectors 0 to 15 are illegal in a fixed interrupt. */
export const FIRST_LEGAL_VECTOR = 16;

/** Divide configuration register: bits 3, 1 and 0 make 0..7 for 2, 4, 8, 16, 32, 64, 128, 1. */
export function timerDivisor(tdcr: number): number {
  const code = (tdcr & 3) | ((tdcr >> 1) & 4);
  return 1 << ((code + 1) & 7);
}
