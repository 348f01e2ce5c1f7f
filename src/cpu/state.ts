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

const ARITHMETIC = 0x8d5n;

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

  /** RFLAGS, with the lazy arithmetic flags made plain. */
  get rflags(): bigint {
    const sign = 1n << 63n;
    const x = this.get(REG.FX);
    const y = this.get(REG.FY);
    const s = this.get(REG.FS);
    const n = this.get(REG.FN);
    let flags = this.get(REG.FLAGS);
    if (((x & y) | ((x | y) & ~s)) & sign) flags |= 1n;
    let low = Number(n & 0xffn);
    low ^= low >> 4;
    if (((0x9669 >> (low & 15)) & 1) !== 0) flags |= 4n;
    if ((x ^ y ^ s) & 16n) flags |= 16n;
    if (this.get(REG.FZ) === 0n) flags |= 64n;
    if (n & sign) flags |= 128n;
    if ((x ^ s) & (y ^ s) & sign) flags |= 0x800n;
    return flags;
  }
  set rflags(value: bigint) {
    const cf = value & 1n;
    const of = (value >> 11n) & 1n;
    this.set(REG.FX, (cf << 63n) | (((value >> 4n) & 1n) << 4n));
    this.set(REG.FY, cf << 63n);
    this.set(REG.FS, (cf ^ of) << 63n);
    this.set(REG.FZ, value & 64n ? 0n : 1n);
    this.set(REG.FN, (((value >> 7n) & 1n) << 63n) | (value & 4n ? 0n : 1n));
    this.set(REG.FLAGS, (value & ~ARITHMETIC & 0x3f7fd7n & ~0x28n) | 2n);
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
