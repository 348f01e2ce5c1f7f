import { DELIVERY_MODE_MASK, MSI } from "../../arch/apic.js";
import { IOAPIC, LOCAL_APIC_BASE } from "../ports.js";
import type { MmioDevice } from "./mmio-bus.js";

/** Memory-mapped registers, by offset. */
const WINDOW = { SELECT: 0x00, DATA: 0x10 } as const;
/** Registers that SELECT chooses. */
const INDEX = { ID: 0x00, VERSION: 0x01, ARBITRATION: 0x02, REDIRECTION: 0x10 } as const;
/** Version 0x11: no directed EOI. */
const VERSION = 0x11;

/** Redirection entry: low half. */
const ENTRY = {
  VECTOR: 0xff,
  LOGICAL: 1 << 11,
  /** Delivery status and remote IRR: read-only. */
  READ_ONLY: (1 << 12) | (1 << 14),
  MASKED: 1 << 16,
  WRITABLE: 0x1ffff,
} as const;
/** High half: destination in bits 31:24. */
const DESTINATION_SHIFT = 24;

/** An interrupt message, as KVM_SIGNAL_MSI takes it. */
export interface MsiMessage {
  readonly addressLo: number;
  readonly addressHi: number;
  readonly data: number;
}

export interface IoApicState {
  readonly select: number;
  readonly id: number;
  readonly low: readonly number[];
  readonly high: readonly number[];
  readonly level: readonly boolean[];
  readonly waiting: readonly boolean[];
}

/**
 * An 82093AA IOAPIC in user space. A TD keeps its EOIs to itself, so that a level-triggered line cannot be served; every
 * rise of a line is one message.
 */
export class IoApic implements MmioDevice {
  #select = 0;
  #id: number = IOAPIC.ID;
  readonly #low = new Uint32Array(IOAPIC.PINS).fill(ENTRY.MASKED);
  readonly #high = new Uint32Array(IOAPIC.PINS);
  #level: boolean[] = new Array(IOAPIC.PINS).fill(false);
  /** A line has risen while its entry was masked. */
  #waiting: boolean[] = new Array(IOAPIC.PINS).fill(false);

  constructor(private readonly send: (message: MsiMessage) => void) {}

  setLine(pin: number, level: boolean): void {
    const rises = level && !this.#level[pin];
    this.#level[pin] = level;
    if (!rises) return;
    this.#waiting[pin] = true;
    this.#deliver(pin);
  }

  readRegister(offset: number): number {
    if (offset === WINDOW.SELECT) return this.#select;
    if (offset !== WINDOW.DATA) return 0;
    switch (this.#select) {
      case INDEX.ID:
      case INDEX.ARBITRATION:
        return this.#id << 24;
      case INDEX.VERSION:
        return VERSION | ((IOAPIC.PINS - 1) << 16);
      default: {
        const pin = (this.#select - INDEX.REDIRECTION) >> 1;
        return (this.#select & 1 ? this.#high : this.#low)[pin] ?? 0;
      }
    }
  }

  writeRegister(offset: number, value: number): void {
    if (offset === WINDOW.SELECT) this.#select = value & 0xff;
    if (offset !== WINDOW.DATA) return;
    if (this.#select === INDEX.ID) this.#id = (value >>> 24) & 0xf;
    const pin = (this.#select - INDEX.REDIRECTION) >> 1;
    if (pin < 0 || pin >= IOAPIC.PINS) return;
    if (this.#select & 1) {
      this.#high[pin] = value;
    } else {
      this.#low[pin] = value & ENTRY.WRITABLE & ~ENTRY.READ_ONLY;
      this.#deliver(pin);
    }
  }

  get state(): IoApicState {
    return {
      select: this.#select,
      id: this.#id,
      low: [...this.#low],
      high: [...this.#high],
      level: [...this.#level],
      waiting: [...this.#waiting],
    };
  }

  /** Puts the IOAPIC into a state that `state` gave; nothing is sent. */
  restore(state: IoApicState): void {
    this.#select = state.select;
    this.#id = state.id;
    this.#low.set(state.low);
    this.#high.set(state.high);
    this.#level = [...state.level];
    this.#waiting = [...state.waiting];
  }

  #deliver(pin: number): void {
    const low = this.#low[pin] ?? ENTRY.MASKED;
    if (!this.#waiting[pin] || low & ENTRY.MASKED) return;
    this.#waiting[pin] = false;
    const destination = (this.#high[pin] ?? 0) >>> DESTINATION_SHIFT;
    this.send({
      addressLo:
        (LOCAL_APIC_BASE | (destination << MSI.DESTINATION_SHIFT) | (low & ENTRY.LOGICAL ? MSI.LOGICAL : 0)) >>> 0,
      addressHi: 0,
      data: low & (ENTRY.VECTOR | DELIVERY_MODE_MASK),
    });
  }
}
