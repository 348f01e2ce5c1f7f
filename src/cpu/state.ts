import { REG, SEG, SEG_SIZE, STATE_BASE, STATE_SIZE } from "./layout.js";

/** Index of a segment register: ES CS SS DS FS GS LDTR TR. */
export type SegmentIndex = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7;

/** A segment register with its hidden part. */
export interface Segment {
  selector: number;
  base: bigint;
  limit: number;
  /** VMX layout: type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15, unusable 16. */
  rights: number;
}

/** CF PF AF ZF SF OF. */
const ARITHMETIC = 0x8d5;
/** Bits of RFLAGS that exist, reserved ones excepted. */
const WRITABLE = 0x3f7fd7;
/** Bit n is set if n, of four bits, has even parity. */
const EVEN_PARITY = 0x9669;

/** Typed access to the register block of the processor (`layout.ts` says where each register lies). */
export class CpuState {
  readonly view: DataView;
  readonly #u64: BigUint64Array;
  readonly #bytes: Uint8Array;

  constructor(memory: WebAssembly.Memory) {
    this.view = new DataView(memory.buffer);
    this.#u64 = new BigUint64Array(memory.buffer);
    this.#bytes = new Uint8Array(memory.buffer);
  }

  /** A 64-bit register of the block, by its address in `REG`. */
  get(address: number): bigint {
    return this.#u64[address >>> 3] as bigint;
  }
  set(address: number, value: bigint): void {
    this.#u64[address >>> 3] = value;
  }
  get32(address: number): number {
    return this.view.getUint32(address, true);
  }
  set32(address: number, value: number): void {
    this.view.setUint32(address, value, true);
  }
  get16(address: number): number {
    return this.view.getUint16(address, true);
  }
  set16(address: number, value: number): void {
    this.view.setUint16(address, value, true);
  }

  /** General-purpose register by number, RAX = 0. */
  gpr(index: number): bigint {
    return this.#u64[(REG.GPR >>> 3) + index] as bigint;
  }
  setGpr(index: number, value: bigint): void {
    this.#u64[(REG.GPR >>> 3) + index] = value;
  }

  get rip(): bigint {
    return this.get(REG.RIP);
  }
  set rip(value: bigint) {
    this.set(REG.RIP, value);
  }

  /** RFLAGS as a number (bits 31:0), with the lazy arithmetic flags made plain. */
  get flags(): number {
    const { view } = this;
    const high = (address: number): number => view.getInt32(address + 4, true);
    const x = high(REG.FX);
    const y = high(REG.FY);
    const s = high(REG.FS);
    const n = view.getInt32(REG.FN, true);
    const parity = (n ^ (n >> 4)) & 15;
    const adjust = view.getInt32(REG.FX, true) ^ view.getInt32(REG.FY, true) ^ view.getInt32(REG.FS, true);
    const zero = (view.getInt32(REG.FZ, true) | high(REG.FZ)) === 0;
    return (
      view.getInt32(REG.FLAGS, true) |
      (((x & y) | ((x | y) & ~s)) >>> 31) |
      (((EVEN_PARITY >> parity) & 1) << 2) |
      (adjust & 0x10) |
      (zero ? 0x40 : 0) |
      ((high(REG.FN) >>> 31) << 7) |
      ((((x ^ s) & (y ^ s)) >>> 31) << 11)
    );
  }
  set flags(value: number) {
    const { view } = this;
    const carry = value & 1;
    const set = (address: number, low: number, high: number): void => {
      view.setInt32(address, low, true);
      view.setInt32(address + 4, high, true);
    };
    set(REG.FX, value & 0x10, carry << 31);
    set(REG.FY, 0, carry << 31);
    set(REG.FS, 0, (carry ^ ((value >> 11) & 1)) << 31);
    set(REG.FZ, value & 0x40 ? 0 : 1, 0);
    set(REG.FN, value & 4 ? 0 : 1, ((value >> 7) & 1) << 31);
    set(REG.FLAGS, (value & ~ARITHMETIC & WRITABLE) | 2, 0);
  }

  /** RFLAGS, with the lazy arithmetic flags made plain. */
  get rflags(): bigint {
    return BigInt(this.flags);
  }
  set rflags(value: bigint) {
    this.flags = Number(value & 0xffff_ffffn);
  }

  segment(index: number): Segment {
    const at = REG.SEGMENTS + index * SEG_SIZE;
    return {
      selector: this.get16(at + SEG.SELECTOR),
      base: this.get(at + SEG.BASE),
      limit: this.get32(at + SEG.LIMIT),
      rights: this.get32(at + SEG.RIGHTS),
    };
  }
  setSegment(index: number, segment: Segment): void {
    const at = REG.SEGMENTS + index * SEG_SIZE;
    this.set16(at + SEG.SELECTOR, segment.selector);
    this.set(at + SEG.BASE, segment.base);
    this.set32(at + SEG.LIMIT, segment.limit);
    this.set32(at + SEG.RIGHTS, segment.rights);
  }

  get cpl(): number {
    return this.get32(REG.CPL);
  }

  /** True in 64-bit mode: EFER.LMA and CS.L. */
  get longMode(): boolean {
    const rights = this.get32(REG.SEGMENTS + SEG_SIZE + SEG.RIGHTS);
    return (this.get(REG.EFER) & 0x400n) !== 0n && (rights & 0x2000) !== 0;
  }

  /** The register block as bytes (a live view). */
  block(): Uint8Array {
    return this.#bytes.subarray(STATE_BASE, STATE_BASE + STATE_SIZE);
  }
}
