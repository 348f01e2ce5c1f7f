import { Executor } from "../../src/cpu/executor.js";
import { CpuException } from "../../src/cpu/faults.js";
import { RAM_BASE, REG, SEGMENT } from "../../src/cpu/layout.js";
import { linearAddress } from "../../src/cpu/linear-address.js";
import type { CpuEnvironment } from "../../src/cpu/system/environment.js";
import { systemOperations } from "../../src/cpu/system/operations.js";
import { ARENA, CASE, CODE_FILLER, FX, FX_BYTES, RESULT, SELECTOR } from "./arena.js";

/** Host physical addresses of the arena and of the page tables. */
const HPA = { TABLES: 0x1_0000, CODE: 0x4_0000, DATA: 0x5_0000, READ_ONLY: 0x6_0000, END: 0x10_0000 } as const;
const PRESENT = 1n;
const WRITABLE = 2n;
const USER = 4n;
const ACCESSED_DIRTY = 0x60n;
const NO_EXECUTE = 1n << 63n;
const PAGE = 4096;

const CR0 = 0x8005_0033n;
/** PAE, PGE, OSFXSR, OSXMMEXCPT, OSXSAVE. */
const CR4 = 0x4_06a0n;
/** SCE, LME, LMA, NXE. */
const EFER = 0xd01n;
const RIGHTS = { CODE64: 0xa0fb, CODE32: 0xc0fb, DATA: 0xc0f3, UNUSABLE: 0x1_0000 } as const;
/** Slice of a repeated instruction, which ends at the INT3 behind it. */
const LONG = 1_000_000;
const EMPTY = 3;

/** How a case ended in our machine, beside its registers. */
export interface Ending {
  /** Exception, or null: completed. */
  readonly vector: number | null;
  readonly errorCode: number;
  readonly address: bigint;
}

const DONE: Ending = { vector: null, errorCode: 0, address: 0n };

/** Our machine in the arena of the cases. */
export class Machine {
  readonly #executor: Executor;
  readonly #environment: CpuEnvironment;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #data: Uint8Array;
  readonly #pattern: Uint8Array;
  readonly #before: Uint8Array;
  #tables: number = HPA.TABLES;
  #mode = -1;

  /** @param data contents of the data pages, then of the read-only page. */
  constructor(data: Uint8Array) {
    const memory = new WebAssembly.Memory({
      initial: (RAM_BASE + HPA.END) / 0x1_0000,
      maximum: 0x1_0000,
      shared: true,
    });
    this.#executor = new Executor(memory);
    this.#environment = environmentOf(this.#executor, memory);
    this.#bytes = new Uint8Array(memory.buffer);
    this.#view = new DataView(memory.buffer);
    this.#data = this.#bytes.subarray(RAM_BASE + HPA.DATA, RAM_BASE + HPA.DATA + ARENA.DATA_SIZE);
    this.#pattern = data.slice(0, ARENA.DATA_SIZE);
    this.#before = this.#pattern.slice();
    this.#data.set(this.#pattern);
    this.#bytes.set(data.subarray(ARENA.DATA_SIZE), RAM_BASE + HPA.READ_ONLY);
    this.#bytes.fill(CODE_FILLER, RAM_BASE + HPA.CODE, RAM_BASE + HPA.CODE + ARENA.CODE_SIZE);
    const root = this.#newTable();
    this.#map(root, ARENA.CODE, HPA.CODE, ARENA.CODE_SIZE, 0n);
    this.#map(root, ARENA.DATA, HPA.DATA, ARENA.DATA_SIZE, WRITABLE | NO_EXECUTE);
    this.#map(root, ARENA.READ_ONLY, HPA.READ_ONLY, ARENA.READ_ONLY_SIZE, NO_EXECUTE);
    this.#registers(root);
  }

  #newTable(): number {
    const table = this.#tables;
    this.#tables += PAGE;
    return table;
  }

  #map(root: number, linear: number, hpa: number, size: number, rights: bigint): void {
    for (let at = 0; at < size; at += PAGE) {
      let table = root;
      for (const shift of [39, 30, 21]) {
        const slot = RAM_BASE + table + (Math.floor((linear + at) / 2 ** shift) % 512) * 8;
        const entry = this.#view.getBigUint64(slot, true);
        const next = entry ? Number(entry & 0xf_f000n) : this.#newTable();
        this.#view.setBigUint64(slot, BigInt(next) | PRESENT | WRITABLE | USER | ACCESSED_DIRTY, true);
        table = next;
      }
      const slot = RAM_BASE + table + (Math.floor((linear + at) / PAGE) % 512) * 8;
      this.#view.setBigUint64(slot, BigInt(hpa + at) | PRESENT | USER | ACCESSED_DIRTY | rights, true);
    }
  }

  #registers(root: number): void {
    const { state } = this.#executor;
    state.set(REG.CR0, CR0);
    state.set(REG.CR3, BigInt(root));
    state.set(REG.CR4, CR4);
    state.set(REG.EFER, EFER);
    state.set(REG.XCR0, 3n);
    state.set32(REG.CPL, 3);
    state.set32(REG.XINUSE, 3);
    const flat = { base: 0n, limit: 0xffff_ffff };
    for (const n of [SEGMENT.ES, SEGMENT.SS, SEGMENT.DS])
      state.setSegment(n, { ...flat, selector: SELECTOR.DATA, rights: RIGHTS.DATA });
  }

  #enter(compatibility: number): void {
    if (compatibility === this.#mode) return;
    this.#mode = compatibility;
    const { state } = this.#executor;
    const flat = { base: 0n, limit: 0xffff_ffff };
    if (compatibility) state.setSegment(SEGMENT.CS, { ...flat, selector: SELECTOR.CODE32, rights: RIGHTS.CODE32 });
    else state.setSegment(SEGMENT.CS, { ...flat, selector: SELECTOR.CODE64, rights: RIGHTS.CODE64 });
    const based = (base: number) => ({
      selector: 0,
      base: compatibility ? 0n : BigInt(base),
      limit: 0,
      rights: RIGHTS.UNUSABLE,
    });
    state.setSegment(SEGMENT.FS, based(ARENA.FS_BASE));
    state.setSegment(SEGMENT.GS, based(ARENA.GS_BASE));
    this.#executor.modeChanged();
  }

  /** Runs a case and writes its result; the record has no trap, signal and error fields: those are the ending. */
  run(record: Uint8Array, result: Uint8Array): Ending {
    const view = new DataView(record.buffer, record.byteOffset, CASE.SIZE);
    this.#enter(record[CASE.COMPATIBILITY] as number);
    const { state } = this.#executor;
    const codeOffset = view.getUint16(CASE.CODE_OFFSET, true);
    const codeLength = record[CASE.CODE_LENGTH] as number;
    this.#writeCode(codeOffset, record.subarray(CASE.CODE, CASE.CODE + codeLength));
    const patch = view.getUint16(CASE.PATCH_OFFSET, true);
    const patchLength = view.getUint16(CASE.PATCH_LENGTH, true);
    const contents = record.subarray(CASE.PATCH, CASE.PATCH + patchLength);
    this.#data.set(contents, patch);
    this.#before.set(contents, patch);
    this.#bytes.set(record.subarray(CASE.GPR, CASE.GPR + 128), REG.GPR);
    state.rflags = view.getBigUint64(CASE.RFLAGS, true);
    state.rip = BigInt(ARENA.CODE + codeOffset);
    this.#loadFx(record.subarray(CASE.FX, CASE.FX + FX_BYTES));

    const ending = this.#execute(record[CASE.STEP] as number);

    result.set(this.#bytes.subarray(REG.GPR, REG.GPR + 128), RESULT.GPR);
    const out = new DataView(result.buffer, result.byteOffset, RESULT.SIZE);
    out.setBigUint64(RESULT.RIP, state.rip, true);
    out.setBigUint64(RESULT.RFLAGS, state.rflags, true);
    this.#storeFx(result.subarray(RESULT.FX, RESULT.FX + FX_BYTES));
    this.#collect(out, result);
    this.#data.set(this.#pattern.subarray(patch, patch + patchLength), patch);
    this.#before.set(this.#pattern.subarray(patch, patch + patchLength), patch);
    this.#writeCode(codeOffset, new Uint8Array(codeLength).fill(CODE_FILLER));
    return ending;
  }

  #writeCode(offset: number, bytes: Uint8Array): void {
    this.#bytes.set(bytes, RAM_BASE + HPA.CODE + offset);
    this.#executor.invalidateCode(HPA.CODE + offset, bytes.length);
  }

  #execute(step: number): Ending {
    const before = this.#executor.retired;
    const end = this.#executor.slice(step ? 1 : LONG);
    // The executor may have looked at the next instruction already.
    if (step && this.#executor.retired !== before) return DONE;
    switch (end.kind) {
      case "budget":
        return DONE;
      case "system":
        // The INT3 behind a repeated instruction.
        return step ? this.#operate(end.record) : DONE;
      case "fault": {
        const { fault } = end;
        if (!(fault instanceof CpuException)) throw new Error("a VM exit of the bare executor");
        return { vector: fault.vector, errorCode: fault.errorCode ?? 0, address: fault.address };
      }
      default:
        throw new Error(`the executor stopped for ${end.kind}`);
    }
  }

  /** Carries out a system instruction as the core does. */
  #operate(record: number): Ending {
    const { state, code } = this.#executor;
    const instruction = code.systemInstruction(record);
    try {
      const operation = systemOperations[instruction.system];
      if (operation?.(this.#environment, instruction) === "next") state.rip += BigInt(instruction.length);
      return DONE;
    } catch (thrown) {
      if (!(thrown instanceof CpuException)) throw thrown;
      return { vector: thrown.vector, errorCode: thrown.errorCode ?? 0, address: thrown.address };
    }
  }

  #collect(out: DataView, result: Uint8Array): void {
    const data = this.#data;
    const before = this.#before;
    let first = 0;
    let end = 0;
    if (Buffer.compare(data, before) !== 0) {
      while (data[first] === before[first]) first++;
      end = ARENA.DATA_SIZE;
      while (data[end - 1] === before[end - 1]) end--;
    }
    let hash = 0x811c9dc5;
    for (let n = first; n < end; n++) hash = Math.imul(hash ^ (data[n] as number), 0x01000193);
    out.setUint32(RESULT.FIRST, first, true);
    out.setUint32(RESULT.END, end, true);
    out.setUint32(RESULT.HASH, hash >>> 0, true);
    result.set(data.subarray(first, Math.min(end, first + RESULT.CHANGED_BYTES)), RESULT.CHANGED);
    data.set(this.#pattern.subarray(first, end), first);
  }

  #loadFx(fx: Uint8Array): void {
    const view = this.#view;
    const image = new DataView(fx.buffer, fx.byteOffset, FX_BYTES);
    const status = image.getUint16(FX.FSW, true);
    const top = (status >> 11) & 7;
    const abridged = fx[FX.FTW] as number;
    this.#bytes.set(fx.subarray(FX.XMM), REG.XMM);
    let tags = 0;
    for (let n = 0; n < 8; n++) {
      const physical = (top + n) & 7;
      const from = FX.ST + n * 16;
      this.#bytes.set(fx.subarray(from, from + 10), REG.FPR + physical * 16);
      const tag =
        abridged & (1 << physical) ? tagOf(image.getUint16(from + 8, true), image.getBigUint64(from, true)) : EMPTY;
      tags |= tag << (2 * physical);
    }
    view.setUint16(REG.FCW, image.getUint16(FX.FCW, true), true);
    view.setUint16(REG.FSW, status, true);
    view.setUint16(REG.FTW, tags, true);
    view.setUint16(REG.FOP, 0, true);
    view.setBigUint64(REG.FIP, 0n, true);
    view.setBigUint64(REG.FDP, 0n, true);
    view.setUint32(REG.FCS, 0, true);
    view.setUint32(REG.MXCSR, image.getUint32(FX.MXCSR, true), true);
  }

  #storeFx(fx: Uint8Array): void {
    const view = this.#view;
    const image = new DataView(fx.buffer, fx.byteOffset, FX_BYTES);
    const status = view.getUint16(REG.FSW, true);
    const top = (status >> 11) & 7;
    const tags = view.getUint16(REG.FTW, true);
    let abridged = 0;
    fx.fill(0, 0, FX.XMM);
    for (let n = 0; n < 8; n++) {
      const physical = (top + n) & 7;
      fx.set(this.#bytes.subarray(REG.FPR + physical * 16, REG.FPR + physical * 16 + 10), FX.ST + n * 16);
      if (((tags >> (2 * n)) & 3) !== EMPTY) abridged |= 1 << n;
    }
    image.setUint16(FX.FCW, view.getUint16(REG.FCW, true), true);
    image.setUint16(FX.FSW, status, true);
    fx[FX.FTW] = abridged;
    image.setUint32(FX.MXCSR, view.getUint32(REG.MXCSR, true), true);
    fx.set(this.#bytes.subarray(REG.XMM, REG.XMM + 256), FX.XMM);
  }
}

/** What a system instruction works with, outside any TD. */
function environmentOf(executor: Executor, memory: WebAssembly.Memory): CpuEnvironment {
  const { state, linear } = executor;
  return {
    state,
    linear,
    physical: new DataView(memory.buffer, RAM_BASE),
    controls: null,
    linearAddress: (instruction, bytes) => linearAddress(state, instruction, bytes),
    tsc: () => 0n,
    random64: () => 0n,
    flushPage: () => executor.flushNonGlobal(),
    flushNonGlobal: () => executor.flushNonGlobal(),
    flushAll: () => executor.flushAll(),
    modeChanged: () => executor.modeChanged(),
  };
}

/** The two-bit tag of a register that is in use: 0 valid, 1 zero, 2 special. */
function tagOf(high: number, significand: bigint): number {
  const exponent = high & 0x7fff;
  if (exponent === 0 && significand === 0n) return 1;
  return exponent === 0 || exponent === 0x7fff || significand >> 63n === 0n ? 2 : 0;
}
