import { Assembler, type CodeBits } from "../arch/assembler/index.js";
import { Core, type CoreStop } from "./core.js";
import { PAGE_META, RAM_BASE, REG, SEG, SEG_SIZE, SEGMENT, STATE_BASE, STATE_SIZE } from "./layout.js";
import type { VmExit } from "./vm-exit.js";

/** Where the test machine keeps what. Physical addresses; linear ones are the same unless a test maps otherwise. */
export const AT = {
  PML4: 0x1000,
  PDPT: 0x2000,
  PD: 0x3000,
  /** Maps the first 2 MiB by 4 KiB. */
  PT: 0x4000,
  GDT: 0x5000,
  IDT: 0x6000,
  TSS: 0x7000,
  /** Tops of the stacks of ring 0 (TSS), of IST 1 and of the program. */
  RING0_STACK: 0x9000,
  IST_STACK: 0xa000,
  STACK: 0xc000,
  CODE: 0x1_0000,
  DATA: 0x2_0000,
  /** Handler of vector v: at v * 16, a jump to itself. */
  HANDLERS: 0x4_0000,
  SEPT: 0x5_0000,
  SHARED_EPT: 0x5_8000,
  MSR_BITMAP: 0x6_0000,
  VIRTUAL_APIC: 0x6_1000,
  VE_INFO: 0x6_2000,
  POSTED: 0x6_3000,
} as const;

/** Selectors of the test machine's GDT. */
export const SELECTOR = {
  CODE64: 0x08,
  DATA: 0x10,
  CODE32: 0x18,
  USER_CODE32: 0x23,
  USER_DATA: 0x2b,
  USER_CODE64: 0x33,
  TSS: 0x38,
  /** Not present. */
  ABSENT: 0x48,
  CONFORMING: 0x50,
  READ_ONLY: 0x58,
  LDT: 0x60,
  CODE16: 0x70,
} as const;

const DESCRIPTORS: Readonly<Record<number, bigint>> = {
  [SELECTOR.CODE64]: 0x00af_9b00_0000_ffffn,
  [SELECTOR.DATA]: 0x00cf_9300_0000_ffffn,
  [SELECTOR.CODE32]: 0x00cf_9b00_0000_ffffn,
  [SELECTOR.USER_CODE32 & ~3]: 0x00cf_fb00_0000_ffffn,
  [SELECTOR.USER_DATA & ~3]: 0x00cf_f300_0000_ffffn,
  [SELECTOR.USER_CODE64 & ~3]: 0x00af_fb00_0000_ffffn,
  [SELECTOR.TSS]: 0x0000_8900_0000_0067n | (BigInt(AT.TSS) << 16n),
  [SELECTOR.ABSENT]: 0x00cf_1300_0000_ffffn,
  [SELECTOR.CONFORMING]: 0x00af_9f00_0000_ffffn,
  [SELECTOR.READ_ONLY]: 0x00cf_9100_0000_ffffn,
  [SELECTOR.LDT]: 0x0000_8200_0000_0fffn,
  [SELECTOR.CODE16]: 0x000f_9b00_0000_ffffn,
};

const RAM_BYTES = 0x60_0000;
export const PTE = { P: 1n, W: 2n, U: 4n, A: 0x20n, D: 0x40n, PS: 0x80n, G: 0x100n, NX: 1n << 63n } as const;
const TABLES = [AT.PML4, AT.PDPT, AT.PD, AT.PT];
const DPL3 = 0x60;

export type Ring = 0 | 3;

/** Where a program of the test machine stopped. */
export interface Outcome {
  readonly stop: CoreStop;
  /** Vector of the exception or interrupt whose handler was reached, null if the program came to its end. */
  readonly vector: number | null;
}

/** A core with memory, page tables, descriptor tables and handlers, ready to run assembled code. */
export class TestMachine {
  readonly memory = new WebAssembly.Memory({
    initial: (RAM_BASE + RAM_BYTES) / 0x1_0000,
    maximum: 0x1_0000,
    shared: true,
  });
  readonly core = new Core(this.memory);
  readonly state = this.core.state;
  readonly bytes = new Uint8Array(this.memory.buffer, RAM_BASE);
  readonly view = new DataView(this.memory.buffer, RAM_BASE);
  /** Linear address of the jump to itself that ends the program. */
  end = 0;

  constructor() {
    this.reset();
  }

  /** 64-bit mode, ring 0, identity mapping of 2 MiB, no SEAM non-root controls changed. */
  reset(): void {
    const { core, state, view } = this;
    this.bytes.fill(0, 0, AT.CODE + 0x9_0000);
    new Uint32Array(this.memory.buffer, PAGE_META.BASE, RAM_BYTES / 4096).fill(0);
    core.executor.code.flush();
    core.flushAll();
    new Uint8Array(this.memory.buffer, STATE_BASE, STATE_SIZE).fill(0);
    state.rflags = 2n;
    this.table(AT.PML4, 0, BigInt(AT.PDPT) | 7n);
    this.table(AT.PDPT, 0, BigInt(AT.PD) | 7n);
    this.table(AT.PD, 0, BigInt(AT.PT) | 7n);
    for (let n = 0; n < 512; n++) this.table(AT.PT, n, BigInt(n * 4096) | 7n);
    for (const [selector, value] of Object.entries(DESCRIPTORS))
      view.setBigUint64(AT.GDT + Number(selector), value, true);
    for (let vector = 0; vector < 256; vector++) {
      this.gate(vector, {});
      view.setUint16(AT.HANDLERS + vector * 16, 0xfeeb, true);
    }
    view.setBigUint64(AT.TSS + 4, BigInt(AT.RING0_STACK), true);
    view.setBigUint64(AT.TSS + 0x24, BigInt(AT.IST_STACK), true);
    view.setUint16(AT.TSS + 0x66, 0x68, true);
    state.set(REG.GDTR_BASE, BigInt(AT.GDT));
    state.set32(REG.GDTR_LIMIT, 0xff);
    state.set(REG.IDTR_BASE, BigInt(AT.IDT));
    state.set32(REG.IDTR_LIMIT, 0xfff);
    state.setSegment(SEGMENT.TR, { selector: SELECTOR.TSS, base: BigInt(AT.TSS), limit: 0x67, rights: 0x8b });
    state.setSegment(SEGMENT.LDTR, { selector: 0, base: 0n, limit: 0, rights: 0x1_0000 });
    state.set(REG.CR0, 0x8001_0033n);
    state.set(REG.CR3, BigInt(AT.PML4));
    state.set(REG.CR4, 0x620n);
    state.set(REG.EFER, 0xd01n);
    state.set(REG.XCR0, 3n);
    state.set(REG.DR + 32, 0xffff_0ff0n);
    state.set(REG.DR + 40, 0x400n);
    state.set32(REG.MXCSR, 0x1f80);
    state.set16(REG.FCW, 0x37f);
    state.set16(REG.FTW, 0xffff);
    core.entryEvent.interruptionInfo = 0;
    core.clock = 0;
    this.ring(0);
  }

  /** Entry of a paging structure or EPT table. */
  table(address: number, n: number, value: bigint): void {
    this.view.setBigUint64(address + n * 8, value, true);
  }
  /** Entry that maps the 4 KiB page of a linear address below 2 MiB; drops what is cached. */
  map(linear: number, entry: bigint): void {
    this.table(AT.PT, linear >> 12, entry);
    this.core.flushAll();
  }
  entryOf(linear: number): bigint {
    return this.view.getBigUint64(AT.PT + (linear >> 12) * 8, true);
  }
  /** Sets or clears a flag in the entries of every level for a linear address below 2 MiB. */
  flagAllLevels(linear: number, flag: bigint, value: boolean): void {
    TABLES.forEach((table, level) => {
      const n = level === 3 ? linear >> 12 : 0;
      const old = this.view.getBigUint64(table + n * 8, true);
      this.table(table, n, value ? old | flag : old & ~flag);
    });
    this.core.flushAll();
  }

  gate(vector: number, { type = 14, dpl = 0, ist = 0, present = true, selector = SELECTOR.CODE64 as number }): void {
    const offset = AT.HANDLERS + vector * 16;
    const at = AT.IDT + vector * 16;
    this.view.setUint32(at, (offset & 0xffff) | (selector << 16), true);
    this.view.setUint32(
      at + 4,
      (offset & 0xffff_0000) | (present ? 0x8000 : 0) | (dpl << 13) | (type << 8) | ist,
      true,
    );
    this.view.setBigUint64(at + 8, 0n, true);
  }

  /** Segments, CPL and stack of a ring in 64- or 32-bit code. */
  ring(ring: Ring, bits: CodeBits = 64): void {
    const { state } = this;
    const user = ring === 3;
    const flat = { base: 0n, limit: 0xffff_ffff };
    const code = bits === 64 ? 0xa09b : 0xc09b;
    const selector =
      bits === 64 ? (user ? SELECTOR.USER_CODE64 : SELECTOR.CODE64) : user ? SELECTOR.USER_CODE32 : SELECTOR.CODE32;
    state.setSegment(SEGMENT.CS, { ...flat, selector, rights: user ? code | DPL3 : code });
    for (const n of [SEGMENT.ES, SEGMENT.SS, SEGMENT.DS, SEGMENT.FS, SEGMENT.GS]) {
      state.setSegment(n, {
        ...flat,
        selector: user ? SELECTOR.USER_DATA : SELECTOR.DATA,
        rights: user ? 0xc093 | DPL3 : 0xc093,
      });
    }
    state.set32(REG.CPL, ring);
    state.setGpr(4, BigInt(AT.STACK));
    this.core.executor.modeChanged();
  }

  /** Puts code at an address, followed by a jump to itself, and sets RIP to it. */
  load(code: (asm: Assembler) => void, { address = AT.CODE as number, bits = 64 as CodeBits } = {}): void {
    const asm = new Assembler({ origin: address, bits });
    code(asm);
    this.end = asm.address;
    asm.db(0xeb, 0xfe);
    const bytes = asm.finish();
    this.bytes.set(bytes, address);
    this.core.invalidateCode(address, bytes.length);
    this.state.rip = BigInt(address);
  }

  /** Loads code and runs it until it spins at its end or in a handler, or the core stops. */
  run(code: (asm: Assembler) => void, options: { address?: number; bits?: CodeBits } = {}): Outcome {
    this.load(code, options);
    return this.go();
  }

  go(ticks = 2000): Outcome {
    const stop = this.core.run(ticks);
    const rip = Number(this.state.rip);
    if (stop.kind !== "budget") return { stop, vector: null };
    if (rip === this.end) return { stop, vector: null };
    const vector = (rip - AT.HANDLERS) / 16;
    if (!Number.isInteger(vector) || vector < 0 || vector > 255) throw new Error(`stopped at 0x${rip.toString(16)}`);
    return { stop, vector };
  }

  /** Runs to a VM exit. */
  exit(code: (asm: Assembler) => void, options: { address?: number; bits?: CodeBits } = {}): VmExit {
    const { stop } = this.run(code, options);
    if (stop.kind !== "vm-exit") throw new Error(`${stop.kind} at 0x${this.state.rip.toString(16)}`);
    return stop.exit;
  }

  /** What the stack holds, from its top on. */
  stack(words: number, bytes: 4 | 8 = 8): bigint[] {
    const top = Number(this.state.gpr(4));
    return Array.from({ length: words }, (_, n) =>
      bytes === 8 ? this.view.getBigUint64(top + n * 8, true) : BigInt(this.view.getUint32(top + n * 4, true)),
    );
  }

  selector(index: number): number {
    return this.state.get16(REG.SEGMENTS + index * SEG_SIZE + SEG.SELECTOR);
  }

  /** Enters SEAM non-root: Secure EPT and shared EPT map the first 6 MiB to themselves with 4 KiB pages below 2 MiB. */
  enterGuest({ gpaw = 48, keyId = 0 } = {}): void {
    const { core } = this;
    for (const root of [AT.SEPT, AT.SHARED_EPT]) {
      let table: number = root;
      // In the shared half the topmost index has the SHARED bit.
      const top = root === AT.SHARED_EPT ? 256 : 0;
      const levels = gpaw === 52 ? 5 : 4;
      for (let level = levels; level > 2; level--) {
        const index = level === levels ? (gpaw === 52 ? (top === 0 ? 0 : 8) : top) : 0;
        this.table(table, index, BigInt(table + 0x1000) | 7n);
        table += 0x1000;
      }
      this.table(table, 0, BigInt(table + 0x1000) | 7n);
      for (let n = 1; n < 3; n++) this.table(table, n, BigInt(n * 0x20_0000) | 0x87n);
      for (let n = 0; n < 512; n++) this.table(table + 0x1000, n, BigInt(n * 4096) | 7n);
    }
    Object.assign(core.controls, {
      keyId,
      septRoot: AT.SEPT,
      sharedRoot: AT.SHARED_EPT,
      gpaw,
      msrBitmap: AT.MSR_BITMAP,
      virtualApicPage: AT.VIRTUAL_APIC,
      veInfo: AT.VE_INFO,
      postedInterruptDescriptor: AT.POSTED,
      postedInterrupts: false,
      cr0Mask: 0n,
      cr0Shadow: 0n,
      cr4Mask: 0n,
      cr4Shadow: 0n,
    });
    core.applyControls();
    core.flushAll();
  }

  /** Table of the 4 KiB entries of Secure or shared EPT. */
  eptLeaves(shared: boolean): number {
    return (shared ? AT.SHARED_EPT : AT.SEPT) + (this.core.controls.gpaw === 52 ? 0x4000 : 0x3000);
  }

  meta(hpa: number, value: number): void {
    new DataView(this.memory.buffer).setUint32(PAGE_META.BASE + (hpa >> 12) * 4, value, true);
    this.core.flushAll();
  }
}
