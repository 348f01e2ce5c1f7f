import { CMOS, CMOS_CENTURY } from "../ports.js";
import type { PortDevice } from "./port-bus.js";

const REGISTER = {
  SECONDS: 0x00,
  MINUTES: 0x02,
  HOURS: 0x04,
  WEEKDAY: 0x06,
  DAY: 0x07,
  MONTH: 0x08,
  YEAR: 0x09,
  A: 0x0a,
  B: 0x0b,
  C: 0x0c,
  D: 0x0d,
} as const;
/** Register A: 32768 Hz time base, 1024 Hz rate, no update in progress. B: 24-hour mode, BCD. D: valid RAM and time. */
const STATUS_A = 0x26;
const STATUS_B = 0x02;
const STATUS_D = 0x80;
/** Bit 7 of the index port disables NMIs. */
const INDEX_MASK = 0x7f;

const bcd = (value: number): number => (Math.floor(value / 10) << 4) | (value % 10);

/** An MC146818 that only tells the time, in UTC; what is written to it is lost. */
export class RealTimeClock implements PortDevice {
  #index = 0;

  /** @param seconds the time now, in seconds since 1970. */
  constructor(private readonly seconds: () => number) {}

  readPort(port: number, _size: number): number {
    return port === CMOS.BASE ? 0xff : this.#read();
  }

  writePort(port: number, _size: number, value: number): void {
    if (port === CMOS.BASE) this.#index = value & INDEX_MASK;
  }

  get state(): { readonly index: number } {
    return { index: this.#index };
  }

  restore(state: { readonly index: number }): void {
    this.#index = state.index;
  }

  #read(): number {
    const now = new Date(Math.floor(this.seconds()) * 1000);
    switch (this.#index) {
      case REGISTER.SECONDS:
        return bcd(now.getUTCSeconds());
      case REGISTER.MINUTES:
        return bcd(now.getUTCMinutes());
      case REGISTER.HOURS:
        return bcd(now.getUTCHours());
      case REGISTER.WEEKDAY:
        return now.getUTCDay() + 1;
      case REGISTER.DAY:
        return bcd(now.getUTCDate());
      case REGISTER.MONTH:
        return bcd(now.getUTCMonth() + 1);
      case REGISTER.YEAR:
        return bcd(now.getUTCFullYear() % 100);
      case CMOS_CENTURY:
        return bcd(Math.floor(now.getUTCFullYear() / 100));
      case REGISTER.A:
        return STATUS_A;
      case REGISTER.B:
        return STATUS_B;
      case REGISTER.D:
        return STATUS_D;
      default:
        return 0;
    }
  }
}
