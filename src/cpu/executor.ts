import { PAGE_SIZE } from "../arch/page.js";
import { RFLAGS } from "../arch/x86.js";
import { CodeCache } from "./decoder/code-cache.js";
import type { CodeMode } from "./decoder/decode.js";
import { decode } from "./decoder/decode.js";
import { CpuException, VECTOR, type VmExitSignal } from "./faults.js";
import { compiledInterpreter } from "./interpreter/compiled.js";
import type { InterpreterExports } from "./interpreter/generate.js";
import {
  EXIT,
  FAULT,
  LOCAL,
  PAGE_META,
  RAM_BASE,
  REG,
  SEG,
  SEG_SIZE,
  SEGMENT,
  STATE_BASE,
  STATE_SIZE,
  WALK,
} from "./layout.js";
import { operandCovers } from "./linear-address.js";
import { recordedFault, TranslatedMemory } from "./linear-memory.js";
import { enterMode } from "./mode.js";
import { CpuState } from "./state.js";

const LINE = 64;
/** All that the mode of the executor follows from. */
const MODE_REGISTERS: readonly { readonly register: number; readonly mask: number }[] = [
  ...[REG.CPL, REG.CR0, REG.CR4, REG.EFER].map((register) => ({ register, mask: -1 })),
  { register: REG.FLAGS, mask: RFLAGS.AC },
  ...[SEGMENT.CS, SEGMENT.SS].flatMap((index) =>
    [SEG.BASE, SEG.RIGHTS].map((at) => ({ register: REG.SEGMENTS + index * SEG_SIZE + at, mask: -1 })),
  ),
];
/** Longest instruction in bytes. */
const INSTRUCTION_LENGTH = 15;

const wrapped = (mode: CodeMode, address: bigint): bigint => (mode === 64 ? address : address & 0xffff_ffffn);
const ACCESS_FETCH = 4;
const SHADOWS = 3;
const STI_SHADOW = 1;

/** What ended a slice of execution, before anybody has acted on it. */
export type SliceEnd =
  | { readonly kind: "budget" }
  /** The system instruction of this record is at RIP. */
  | { readonly kind: "system"; readonly record: number }
  /** An exception or a VM exit of the instruction at RIP. */
  | { readonly kind: "fault"; readonly fault: CpuException | VmExitSignal }
  /** The platform must decide on an access of the instruction at RIP (LOCAL.FAULT_* say which). */
  | { readonly kind: "odd-page" | "watch"; readonly fetch: boolean }
  | { readonly kind: "break" };

/**
 * The generated executor with its decoded code and TLBs: runs instructions until something outside it is needed. It knows
 * nothing of event delivery, system instructions or VM exits; `core.ts` adds them.
 */
export class Executor {
  readonly state: CpuState;
  readonly exports: InterpreterExports;
  readonly code: CodeCache;
  readonly linear: TranslatedMemory;
  /** Completed instructions and clock ticks since creation. */
  retired = 0;
  ticks = 0;
  /** Linear address at which execution stops, null for none. */
  #breakAt: bigint | null = null;
  #mode: CodeMode = 32;
  #legacyMode: CodeMode = 32;
  /** Values of MODE_REGISTERS when the mode was last taken in. */
  readonly #modeKey: number[] = [];
  readonly #view: DataView;

  /** @param interpreter compiled for this kind of memory; default: generated now. */
  constructor(
    readonly memory: WebAssembly.Memory,
    interpreter?: WebAssembly.Module,
  ) {
    this.state = new CpuState(memory);
    this.#view = new DataView(memory.buffer);
    const shared = typeof SharedArrayBuffer !== "undefined" && memory.buffer instanceof SharedArrayBuffer;
    const module = interpreter ?? compiledInterpreter(shared);
    this.exports = new WebAssembly.Instance(module, { m: { m: memory } }).exports as unknown as InterpreterExports;
    this.code = new CodeCache(
      memory,
      () => this.flushNonGlobal(),
      () => this.flushNonGlobal(),
    );
    this.linear = new TranslatedMemory(memory, this.state, this.exports);
    this.state.set(LOCAL.RAM_SIZE, BigInt(memory.buffer.byteLength - RAM_BASE));
    new Uint8Array(memory.buffer, STATE_BASE, STATE_SIZE).fill(0);
    this.state.rflags = 2n;
    this.flushAll();
  }

  /** Drops linear translations. */
  flushNonGlobal(): void {
    this.exports.flushLinear();
  }

  /** Drops linear and guest physical translations. */
  flushAll(): void {
    this.flushNonGlobal();
    this.exports.flushGuestPhysical();
  }

  /** Drops what was decoded from a range of host physical memory. */
  invalidateCode(hpa: number, length: number): void {
    for (let at = hpa; at < hpa + length; ) {
      const here = Math.min(hpa + length - at, PAGE_SIZE - (at % PAGE_SIZE));
      const meta = this.#view.getUint32(PAGE_META.BASE + Math.floor(at / PAGE_SIZE) * 4, true);
      if (meta & PAGE_META.CODE) this.exports.invalidate((RAM_BASE + at) | 0, here);
      at += here;
    }
  }

  /** A host physical page changed owner or has become odd: cached translations to it must go. */
  pageChanged(hpa: number): void {
    const at = PAGE_META.BASE + Math.floor(hpa / PAGE_SIZE) * 4;
    const meta = this.#view.getUint32(at, true);
    if (!(meta & PAGE_META.CACHED)) return;
    this.#view.setUint32(at, meta & ~PAGE_META.CACHED, true);
    this.flushAll();
  }

  /** Stops before the instruction at this linear address is executed; null: no more. */
  setBreak(address: bigint | null): void {
    if (this.#breakAt === address) return;
    this.#breakAt = address;
    this.code.flush();
  }

  /** To be called when the mode of the processor may have changed. */
  modeChanged(): void {
    const key = this.#modeKey;
    let changed = false;
    for (let n = 0; n < MODE_REGISTERS.length; n++) {
      const { register, mask } = MODE_REGISTERS[n] as (typeof MODE_REGISTERS)[number];
      const value = this.state.get32(register) & mask;
      if (key[n] === value) continue;
      key[n] = value;
      changed = true;
    }
    if (!changed) return;
    const before = this.#mode;
    this.#mode = enterMode(this.state);
    // The fetch TLB holds offset indexes, of which 64-bit code has its own.
    if ((before === 64) !== (this.#mode === 64)) this.flushNonGlobal();
    if (this.#mode !== 64 && this.#mode !== this.#legacyMode) {
      // The table of 16- and 32-bit code holds one of the two at a time.
      this.#legacyMode = this.#mode;
      this.code.flush();
    }
  }

  /** Runs for at most so many ticks. */
  slice(ticks: number): SliceEnd {
    const { state } = this;
    let rest = ticks;
    for (;;) {
      this.exports.run(rest);
      const left = state.get32(LOCAL.BUDGET) + state.get32(LOCAL.BUDGET_REST);
      const spent = rest - left;
      this.ticks += spent;
      this.retired += spent - state.get32(LOCAL.REP_TICKS);
      rest = left;
      this.#passShadow(left);
      switch (state.get32(LOCAL.EXIT)) {
        case EXIT.BUDGET:
          return { kind: "budget" };
        case EXIT.SYSTEM:
          return { kind: "system", record: state.get32(LOCAL.RECORD) };
        case EXIT.DECODE: {
          const failed = this.#decode();
          if (failed) return failed;
          break;
        }
        case EXIT.EXCEPTION: {
          const code = state.get32(LOCAL.EXCEPTION_CODE) | 0;
          return {
            kind: "fault",
            fault: new CpuException(state.get32(LOCAL.EXCEPTION_VECTOR), code < 0 ? null : code),
          };
        }
        case EXIT.FAULT:
          return this.#fault(false);
        case EXIT.FETCH_FAULT:
          return this.#fault(true);
        default:
          return { kind: "break" };
      }
    }
  }

  #fault(fetch: boolean): SliceEnd {
    const kind = this.state.get32(LOCAL.FAULT_KIND);
    if (kind === FAULT.ODD_PAGE) return { kind: "odd-page", fetch };
    if (kind === FAULT.WATCH) return { kind: "watch", fetch };
    if (!fetch && kind === FAULT.GENERAL) return { kind: "fault", fault: new CpuException(this.#addressVector(), 0) };
    return { kind: "fault", fault: recordedFault(this.state) as CpuException | VmExitSignal };
  }

  /** #SS for an access through the stack segment or the stack pointer, else #GP. */
  #addressVector(): number {
    const { state, linear } = this;
    // Reading the instruction translates addresses, too.
    const address = state.get(LOCAL.FAULT_ADDRESS);
    const start = wrapped(this.#mode, state.rip + state.get(LOCAL.CODE_BASE));
    const read = (length: number): ReturnType<typeof decode> =>
      decode(linear.readBytes(start, length), 0, length, this.#mode);
    const inPage = read(Math.min(INSTRUCTION_LENGTH, PAGE_SIZE - Number(start & BigInt(PAGE_SIZE - 1))));
    const instruction = inPage === "truncated" ? read(INSTRUCTION_LENGTH) : inPage;
    if (typeof instruction === "string") return VECTOR.GP;
    const viaOperand = instruction.memory !== null && operandCovers(state, instruction, address);
    if (viaOperand) return instruction.memory?.segment === SEGMENT.SS ? VECTOR.SS : VECTOR.GP;
    return instruction.row.source.stack ? VECTOR.SS : VECTOR.GP;
  }

  /** Decodes at RIP. */
  #decode(): SliceEnd | null {
    const { state, exports } = this;
    const legacy = this.#mode !== 64;
    const wrap = (address: bigint): bigint => (legacy ? address & 0xffff_ffffn : address);
    const linear = wrap(state.rip + state.get(LOCAL.CODE_BASE));
    const address = exports.translate(linear, ACCESS_FETCH) >>> 0;
    if (address === 0) return this.#fault(true);
    if (this.#isOdd()) return this.#decodeOdd(linear);
    const breakOffset =
      this.#breakAt !== null && this.#breakAt >> 12n === linear >> 12n ? Number(this.#breakAt & 0xfffn) : -1;
    const beyond = wrap((linear & ~0xfffn) + 4096n);
    const done = this.code.decodeRun(
      address,
      this.#mode,
      () => {
        const second = exports.translate(beyond, ACCESS_FETCH) >>> 0;
        return second !== 0 && this.#isOdd() ? 0 : second;
      },
      breakOffset,
    );
    if (done) return null;
    return this.#isOdd() ? this.#decodeOdd(linear) : this.#fault(true);
  }

  /** The last translation found an odd page whose access the platform has let pass. */
  #isOdd(): boolean {
    return (this.state.get32(LOCAL.WALK) & WALK.ODD) !== 0;
  }

  /** Decodes one instruction with bytes in an odd page, line by line, for one execution. */
  #decodeOdd(linear: bigint): SliceEnd | null {
    const { state, exports } = this;
    const memory = new Uint8Array(this.memory.buffer);
    const bytes = new Uint8Array(INSTRUCTION_LENGTH);
    let length = 0;
    for (;;) {
      const from = wrapped(this.#mode, linear + BigInt(length));
      const at = exports.translate(from, ACCESS_FETCH) >>> 0;
      if (at === 0) return this.#fault(true);
      const part = Math.min(INSTRUCTION_LENGTH - length, LINE - Number(from & BigInt(LINE - 1)));
      bytes.set(memory.subarray(at, at + part), length);
      length += part;
      const decoded = decode(bytes, 0, length, this.#mode);
      if (decoded === "truncated") continue;
      const offset = Number(linear & BigInt(PAGE_SIZE - 1));
      const { record, index } = this.code.decodeOnce(decoded, offset, this.#mode);
      state.set(LOCAL.PAGE_BASE, state.rip - BigInt(offset));
      state.set32(LOCAL.PAGE_INDEX, index);
      state.set32(LOCAL.ODD_RECORD, record);
      return null;
    }
  }

  /** The shadow of an STI in this slice has passed if ticks have been spent since. */
  #passShadow(left: number): void {
    const blocked = this.state.get32(REG.INTERRUPTIBILITY);
    if (blocked & STI_SHADOW && this.state.get32(LOCAL.SHADOW_BUDGET) > left) {
      this.state.set32(REG.INTERRUPTIBILITY, blocked & ~STI_SHADOW);
    }
  }

  /** STI and MOV SS shadows end with the next instruction; one that this instruction begins stays. */
  endShadows(ended = SHADOWS): void {
    const blocked = this.state.get32(REG.INTERRUPTIBILITY);
    if (blocked & ended) this.state.set32(REG.INTERRUPTIBILITY, blocked & ~ended);
  }
}
