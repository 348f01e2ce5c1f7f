import type { Gprs } from "../platform/seam.js";

const WORD = 0x1_0000_0000;

/** Sixteen general-purpose registers, read and written without making bigints where a number will do. */
export class RegisterFile {
  #u64: Gprs = new BigUint64Array(16);
  #u32 = new Uint32Array(this.#u64.buffer);

  attach(gprs: Gprs): void {
    if (gprs === this.#u64) return;
    this.#u64 = gprs;
    this.#u32 = new Uint32Array(gprs.buffer, gprs.byteOffset, 32);
  }

  get64(register: number): bigint {
    return this.#u64[register] as bigint;
  }
  set64(register: number, value: bigint): void {
    this.#u64[register] = value;
  }
  low(register: number): number {
    return this.#u32[register * 2] as number;
  }
  high(register: number): number {
    return this.#u32[register * 2 + 1] as number;
  }
  /** Exact up to 2^53: enough for an address with its flags checked. */
  number(register: number): number {
    return this.high(register) * WORD + this.low(register);
  }
  setNumber(register: number, value: number): void {
    this.#u32[register * 2] = value >>> 0;
    this.#u32[register * 2 + 1] = Math.floor(value / WORD) >>> 0;
  }
  setHalves(register: number, low: number, high: number): void {
    this.#u32[register * 2] = low;
    this.#u32[register * 2 + 1] = high;
  }
  clear(register: number): void {
    this.#u32[register * 2] = 0;
    this.#u32[register * 2 + 1] = 0;
  }
  copyFrom(other: RegisterFile, register: number): void {
    this.setHalves(register, other.low(register), other.high(register));
  }
}
