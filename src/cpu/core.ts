import { EXIT_REASON, INTERRUPTION } from "../arch/vmx.js";
import { RFLAGS } from "../arch/x86.js";
import {
  breakpointsEnabled,
  clearAccessLog,
  dataHits,
  instructionHits,
  reportDebug,
  SINGLE_STEP,
  watchesData,
} from "./debug.js";
import { Executor, type SliceEnd } from "./executor.js";
import { CpuException, VECTOR, VmExitSignal } from "./faults.js";
import { type GuestControls, initialControls } from "./guest-cpu.js";
import { type DeliveredEvent, deliverEvent } from "./interrupts/deliver.js";
import { syncPostedInterrupts } from "./interrupts/posted.js";
import { acceptVirtualInterrupt, pendingVirtualInterrupt, returnVirtualInterrupt } from "./interrupts/virtual-apic.js";
import { raiseVirtualizationException } from "./interrupts/virtualization-exception.js";
import { LOCAL, ODD_PASSES_MAX, RAM_BASE, REG, WALK } from "./layout.js";
import { linearAddress } from "./linear-address.js";
import { OddPageSignal } from "./linear-memory.js";
import { nextRandom } from "./random.js";
import type { CpuState } from "./state.js";
import type { CpuEnvironment, LinearMemory } from "./system/environment.js";
import { systemOperations } from "./system/operations.js";
import { SoftwareEvent } from "./system/software-event.js";
import type { EntryEvent, VmExit } from "./vm-exit.js";

/** Why `run` returned. */
export type CoreStop =
  | { readonly kind: "budget" }
  | { readonly kind: "vm-exit"; readonly exit: VmExit }
  | { readonly kind: "triple-fault" }
  | {
      readonly kind: "odd-access";
      readonly hpa: number;
      readonly length: number;
      readonly access: "load" | "store" | "fetch" | "walk";
      readonly keyId: number;
    }
  | { readonly kind: "watch"; readonly gpa: number; readonly hpa: number; readonly access: "load" | "fetch" };

const SHADOWS = 3;
const MOV_SS_SHADOW = 2;
/** Pending debug exceptions that ask for #DB: B0 to B3 and BS. */
const PENDING_CAUSES = SINGLE_STEP | 15;
const LINE = 64;
const ACCESS_FETCH = 4;
const FINAL_ACCESS = 0x100;
/** Bit 31 of FAULT_CODE: the shared EPT entry lets the processor deliver #VE. */
const CONVERTIBLE = 0x8000_0000;
const WATCH_FETCH = 2;
const PASS_BYTES = 64;

/** `#lastSystem` of an instruction that ended in the delivery of an event. */
const SOFTWARE_EVENT = "event";

/**
 * One x86-64 core: the executor, and on top of it system instructions, exceptions and event delivery, the virtual APIC and
 * the VM exits of SEAM non-root. Without `applyControls` it runs bare: no EPT, no VM exits.
 */
export class Core {
  readonly state: CpuState;
  readonly linear: LinearMemory;
  readonly physical: DataView;
  readonly entryEvent: EntryEvent = { interruptionInfo: 0, errorCode: 0, instructionLength: 0 };
  readonly controls: GuestControls = initialControls();
  /** The machine's clock in ns when the next `run` begins. */
  clock = 0;
  readonly executor: Executor;
  readonly #environment: CpuEnvironment;
  #guest = false;
  /** What the address spaces in force were made of. */
  #entered: { readonly keyId: number; readonly septRoot: number; readonly sharedRoot: number } | null = null;
  /** Where RIP will be if the instruction of the last exit gets carried out, else null. */
  #exitNext: bigint | null = null;
  /** Clock less ticks of the executor, during `run`. */
  #clockBase = 0;
  #onBreak: ((rip: bigint) => void) | null = null;
  /** System operation of the instruction just done, else empty. */
  #lastSystem = "";

  /** @param interpreter compiled for this kind of memory; default: generated now. */
  constructor(memory: WebAssembly.Memory, interpreter?: WebAssembly.Module) {
    this.executor = new Executor(memory, interpreter);
    this.state = this.executor.state;
    this.linear = this.executor.linear;
    this.physical = new DataView(memory.buffer, RAM_BASE);
    this.#environment = this.#makeEnvironment();
  }

  #makeEnvironment(): CpuEnvironment {
    const core = this;
    return {
      state: this.state,
      linear: this.linear,
      physical: this.physical,
      get controls(): GuestControls | null {
        return core.guest ? core.controls : null;
      },
      linearAddress: (instruction, bytes) => linearAddress(core.state, instruction, bytes),
      tsc: () => core.tsc(),
      random64: () => nextRandom(core.state),
      // Translations of large pages are cached in pieces of 4 KiB: to drop them all, drop everything.
      flushPage: () => core.executor.flushNonGlobal(),
      flushNonGlobal: () => core.executor.flushNonGlobal(),
      flushAll: () => core.executor.flushNonGlobal(),
      modeChanged: () => core.executor.modeChanged(),
    };
  }

  get retired(): number {
    return this.executor.retired;
  }
  get ticks(): number {
    return this.executor.ticks;
  }

  /** True in SEAM non-root; false when the core runs bare. */
  get guest(): boolean {
    return this.#guest;
  }

  /** Enters SEAM non-root with `controls`, or takes changed ones in. */
  applyControls(): void {
    const { state, controls } = this;
    this.#guest = true;
    const { keyId, septRoot, sharedRoot, gpaw } = controls;
    const entered = this.#entered;
    const changed =
      entered === null || entered.keyId !== keyId || entered.septRoot !== septRoot || entered.sharedRoot !== sharedRoot;
    if (changed) {
      this.#entered = { keyId, septRoot, sharedRoot };
      state.set32(LOCAL.EPT_ENABLED, 1);
      state.set32(LOCAL.KEY_ID, controls.keyId);
      state.set(LOCAL.SEPT_ROOT, BigInt(controls.septRoot));
      state.set(LOCAL.SHARED_ROOT, BigInt(controls.sharedRoot));
      state.set(LOCAL.SHARED_MASK, BigInt(2 ** (gpaw - 1)));
      state.set32(LOCAL.EPT_LEVELS, gpaw === 52 ? 5 : 4);
      this.executor.flushAll();
    }
  }

  flushAll(): void {
    this.executor.flushAll();
  }
  invalidateCode(hpa: number, length: number): void {
    this.executor.invalidateCode(hpa, length);
  }
  /** A host physical page changed its owner or its lines. */
  pageChanged(hpa: number): void {
    this.executor.pageChanged(hpa);
  }
  /** Calls back, once, before the instruction at this linear address is executed for the first time; null: not any more. */
  breakAt(address: bigint | null, callback: ((rip: bigint) => void) | null): void {
    this.#onBreak = callback;
    this.executor.setBreak(address);
  }

  /** Clock in ns at the boundary that execution has reached. */
  now(): number {
    return this.#clockBase + this.executor.ticks;
  }

  tsc(): bigint {
    const now = BigInt(Math.floor(this.now()));
    if (!this.#guest) return now;
    return BigInt.asUintN(64, ((now * this.controls.tscMultiplier) >> 48n) + this.controls.tscOffset);
  }

  /** Lets the access of the last "odd-access" pass once; `bytes` are found instead of what memory holds. */
  passOddAccess(bytes: Uint8Array | undefined): void {
    const { state } = this;
    const n = state.get32(LOCAL.ODD_PASSES);
    if (n >= ODD_PASSES_MAX) throw new Error("more accesses to odd pages than an instruction can make");
    const hpa = state.get(LOCAL.FAULT_HPA);
    let found = BigInt(RAM_BASE) + hpa;
    if (bytes) {
      found = BigInt(LOCAL.ODD_BYTES_FOUND + n * PASS_BYTES);
      new Uint8Array(this.executor.memory.buffer).set(bytes.subarray(0, PASS_BYTES), Number(found));
    }
    state.set(LOCAL.ODD_PASS_LINES + n * 16, hpa);
    state.set(LOCAL.ODD_PASS_LINES + n * 16 + 8, found);
    state.set32(LOCAL.ODD_PASSES, n + 1);
  }

  syncPostedInterrupts(): void {
    if (this.#guest) syncPostedInterrupts(this.#environment);
  }

  /** Delivers `entryEvent` if there is one, then executes for at most `ticks` clock ticks. */
  run(ticks: number): CoreStop {
    const { executor, state } = this;
    this.#clockBase = this.clock - executor.ticks;
    executor.modeChanged();
    const end = executor.ticks + ticks;
    // An instruction that exited and that the module has carried out counts as any other.
    if (this.#exitNext !== null && state.rip === this.#exitNext && !this.entryEvent.interruptionInfo) {
      this.#completed();
      this.#clearFlag(RFLAGS.RF);
    }
    this.#exitNext = null;
    const injected = this.#injectEntryEvent();
    if (injected) return injected;
    for (;;) {
      const rest = end - executor.ticks;
      if (rest <= 0) return { kind: "budget" };
      const shadow = state.get32(REG.INTERRUPTIBILITY) & SHADOWS;
      // In the order of the architecture: traps of the instruction before, interrupts, then what this instruction meets.
      if (state.get32(REG.PENDING_DEBUG) & PENDING_CAUSES && !(shadow & MOV_SS_SHADOW)) {
        const trapped = this.#pendingDebug();
        if (trapped) return trapped;
        continue;
      }
      const interrupted = this.#virtualInterrupt();
      if (interrupted === "delivered") continue;
      if (interrupted) return interrupted;
      const stepping = breakpointsEnabled(state) || (state.get32(REG.FLAGS) & RFLAGS.TF) !== 0;
      if (stepping || state.get32(LOCAL.LOG_ACCESSES)) {
        const met = this.#beforeStep(shadow);
        if (met === "delivered") continue;
        if (met) return met;
      } else this.#clearFlag(RFLAGS.RF);
      const passing = state.get32(LOCAL.ODD_PASSES) !== 0;
      if (state.get32(LOCAL.WATCH_LOAD) === WATCH_FETCH) {
        const watched = this.#watchFetch();
        if (watched) return watched;
      }
      const retired = executor.retired;
      const spent = executor.ticks;
      const trapping = (state.get32(REG.FLAGS) & RFLAGS.TF) !== 0;
      this.#lastSystem = "";
      const stop = this.#act(executor.slice(shadow || stepping || passing ? 1 : rest));
      if (executor.ticks !== spent) {
        if (passing) state.set32(LOCAL.ODD_PASSES, 0);
        if (shadow && executor.retired !== retired) executor.endShadows(shadow);
        if (stepping) this.#afterStep(trapping);
      }
      if (stop) return stop;
    }
  }

  /** What the end of a slice asks for; null: go on. */
  #act(end: SliceEnd): CoreStop | null {
    switch (end.kind) {
      case "budget":
        return null;
      case "system":
        return this.#system(end.record);
      case "fault":
        return this.#fault(end.fault);
      case "odd-page":
        return this.#oddAccess(end.fetch);
      case "watch":
        return this.#watched("load");
      case "break": {
        const callback = this.#onBreak;
        this.breakAt(null, null);
        callback?.(this.state.rip);
        // Back to the platform: what the callback raised belongs to this boundary.
        return { kind: "budget" };
      }
    }
  }

  #system(record: number): CoreStop | null {
    const { state, executor } = this;
    const instruction = executor.code.systemInstruction(record);
    const operation = systemOperations[instruction.system];
    if (!operation) throw new Error(`no operation ${instruction.system}`);
    this.#lastSystem = instruction.system;
    try {
      const result = operation(this.#environment, instruction);
      if (result instanceof VmExitSignal) return this.#vmExit(result);
      if (result === "next") {
        const next = state.rip + BigInt(instruction.length);
        state.rip = state.longMode ? BigInt.asUintN(64, next) : next & 0xffff_ffffn;
      }
    } catch (thrown) {
      return this.#thrown(thrown);
    }
    this.#completed();
    return null;
  }

  /** One instruction outside the executor is done. */
  #completed(): void {
    this.executor.ticks++;
    this.executor.retired++;
  }

  #thrown(thrown: unknown): CoreStop | null {
    if (thrown instanceof CpuException || thrown instanceof VmExitSignal) return this.#fault(thrown);
    if (thrown instanceof OddPageSignal) return this.#oddAccess(false);
    if (thrown instanceof SoftwareEvent) {
      this.#lastSystem = SOFTWARE_EVENT;
      const stop = this.#deliver(thrown.event);
      if (!stop) this.#completed();
      return stop;
    }
    throw thrown;
  }

  #fault(fault: CpuException | VmExitSignal): CoreStop | null {
    if (fault instanceof VmExitSignal) return this.#vmExit(fault);
    const info = fault.vector | INTERRUPTION.TYPE_HARDWARE_EXCEPTION;
    return this.#deliver({ info, errorCode: fault.errorCode, address: fault.address, instructionLength: 0 });
  }

  #vmExit(signal: VmExitSignal): CoreStop | null {
    const { exit } = signal;
    const convertible =
      exit.reason === EXIT_REASON.EPT_VIOLATION && (this.state.get32(LOCAL.FAULT_CODE) & CONVERTIBLE) !== 0;
    if (convertible && raiseVirtualizationException(this.#environment, exit)) {
      return this.#deliver({
        info: VECTOR.VE | INTERRUPTION.TYPE_HARDWARE_EXCEPTION,
        errorCode: null,
        address: 0n,
        instructionLength: 0,
      });
    }
    if (exit.instructionLength !== 0 && exit.idtVectoringInfo === 0) {
      this.#exitNext = BigInt.asUintN(64, this.state.rip + BigInt(exit.instructionLength));
    }
    return { kind: "vm-exit", exit };
  }

  /** Delivers an event through the IDT; what happens on the way is the core's next stop. */
  #deliver(event: DeliveredEvent, undo?: () => void): CoreStop | null {
    try {
      if (deliverEvent(this.#environment, event) === "triple-fault") {
        if (!this.#guest) return { kind: "triple-fault" };
        return { kind: "vm-exit", exit: new VmExitSignal({ reason: EXIT_REASON.TRIPLE_FAULT }).exit };
      }
      return null;
    } catch (thrown) {
      // The platform decides on an odd page first: until then the event is where it came from.
      if (thrown instanceof OddPageSignal) undo?.();
      return this.#thrown(thrown);
    }
  }

  #injectEntryEvent(): CoreStop | null {
    const { interruptionInfo: info, errorCode, instructionLength } = this.entryEvent;
    if (!(info & INTERRUPTION.VALID)) return null;
    this.entryEvent.interruptionInfo = 0;
    // An event that VM entry delivers takes the place of debug exceptions that were pending.
    this.state.set(REG.PENDING_DEBUG, 0n);
    return this.#deliver(
      {
        info: info & (INTERRUPTION.VECTOR_MASK | INTERRUPTION.TYPE_MASK),
        errorCode: info & INTERRUPTION.ERROR_CODE_VALID ? errorCode : null,
        address: this.state.get(REG.CR2),
        instructionLength,
      },
      () => {
        this.entryEvent.interruptionInfo = info;
      },
    );
  }

  #virtualInterrupt(): CoreStop | "delivered" | null {
    const { state } = this;
    state.set32(LOCAL.INTERRUPT_WINDOW, 0);
    if (!this.#guest) return null;
    const pending = pendingVirtualInterrupt(this.#environment) >= 0;
    if (!pending) return null;
    if (!(state.get32(REG.FLAGS) & RFLAGS.IF) || state.get32(REG.INTERRUPTIBILITY) & SHADOWS) {
      state.set32(LOCAL.INTERRUPT_WINDOW, 1);
      return null;
    }
    const vector = acceptVirtualInterrupt(this.#environment);
    const stop = this.#deliver(
      {
        info: vector | INTERRUPTION.TYPE_EXTERNAL,
        errorCode: null,
        address: 0n,
        instructionLength: 0,
      },
      () => returnVirtualInterrupt(this.#environment, vector),
    );
    return stop ?? "delivered";
  }

  #debugException(undo?: () => void): CoreStop | null {
    const info = VECTOR.DB | INTERRUPTION.TYPE_HARDWARE_EXCEPTION;
    return this.#deliver({ info, errorCode: null, address: 0n, instructionLength: 0 }, undo);
  }

  /** Debug traps of the instruction before. */
  #pendingDebug(): CoreStop | null {
    const { state } = this;
    const pending = state.get(REG.PENDING_DEBUG);
    reportDebug(state, Number(pending) & PENDING_CAUSES);
    state.set(REG.PENDING_DEBUG, 0n);
    return this.#debugException(() => state.set(REG.PENDING_DEBUG, pending));
  }

  /** Before an instruction that is watched or stepped: instruction breakpoints, unless RF or a MOV SS before it holds them off. */
  #beforeStep(shadow: number): CoreStop | "delivered" | null {
    const { state, executor } = this;
    const log = watchesData(state) ? 1 : 0;
    if (state.get32(LOCAL.LOG_ACCESSES) !== log) {
      state.set32(LOCAL.LOG_ACCESSES, log);
      executor.flushNonGlobal();
    }
    clearAccessLog(state);
    if (state.get32(REG.FLAGS) & RFLAGS.RF || shadow & MOV_SS_SHADOW) return null;
    const hits = instructionHits(state, this.#linearRip());
    if (!hits) return null;
    reportDebug(state, hits);
    return this.#debugException() ?? "delivered";
  }

  /** After an instruction or one iteration of it: RF ends, traps become pending. */
  #afterStep(trapping: boolean): void {
    const { state } = this;
    const last = this.#lastSystem;
    if (last !== "iret") this.#clearFlag(RFLAGS.RF);
    // Delivery of an event through the IDT has cleared TF: its instruction is not trapped any more.
    if (last === SOFTWARE_EVENT) return;
    const stepped = last === "syscall" || last === "sysret" ? (state.get32(REG.FLAGS) & RFLAGS.TF) !== 0 : trapping;
    const causes = dataHits(state) | (stepped ? SINGLE_STEP : 0);
    if (causes) state.set(REG.PENDING_DEBUG, state.get(REG.PENDING_DEBUG) | BigInt(causes));
  }

  #clearFlag(flag: number): void {
    const flags = this.state.get32(REG.FLAGS);
    if (flags & flag) this.state.set32(REG.FLAGS, flags & ~flag);
  }

  #linearRip(): bigint {
    const { state } = this;
    return state.longMode ? state.rip : (state.rip + state.get(LOCAL.CODE_BASE)) & 0xffff_ffffn;
  }

  #oddAccess(fetch: boolean): CoreStop {
    const { state } = this;
    const code = state.get32(LOCAL.FAULT_CODE);
    const access = !(code & FINAL_ACCESS) ? "walk" : fetch || code & 4 ? "fetch" : code & 2 ? "store" : "load";
    const hpa = Number(state.get(LOCAL.FAULT_HPA));
    // Code is fetched by lines.
    const length = access === "walk" ? 8 : access === "fetch" ? LINE - (hpa % LINE) : state.get32(LOCAL.ACCESS_BYTES);
    return {
      kind: "odd-access",
      hpa,
      length,
      access,
      keyId: state.get(LOCAL.FAULT_GPA) & state.get(LOCAL.SHARED_MASK) ? 0 : state.get32(LOCAL.KEY_ID),
    };
  }

  #watched(access: "load" | "fetch"): CoreStop {
    const { state } = this;
    return { kind: "watch", gpa: Number(state.get(LOCAL.FAULT_GPA)), hpa: Number(state.get(LOCAL.FAULT_HPA)), access };
  }

  /** The fetch of the instruction at RIP, if it is from a private page. */
  #watchFetch(): CoreStop | null {
    const { state } = this;
    const at = this.executor.exports.translate(this.#linearRip(), ACCESS_FETCH) >>> 0;
    if (at === 0 || state.get32(LOCAL.WALK) & WALK.SHARED) return null;
    state.set(LOCAL.FAULT_HPA, BigInt(at - RAM_BASE));
    return this.#watched("fetch");
  }
}
