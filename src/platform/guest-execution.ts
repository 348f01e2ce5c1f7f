import { INTERRUPTION } from "../arch/vmx.js";
import { REG } from "../cpu/layout.js";
import type { VmExit } from "../cpu/vm-exit.js";
import type { CoreStop, GuestCore, OddAccess, WatchedAccess } from "./guest-core.js";
import type { LogicalProcessor } from "./logical-processor.js";
import type { Platform } from "./platform.js";
import { consumePoison } from "./poison.js";
import { eventExit } from "./vm-exits.js";

/** Most clock ticks between two looks at the world. */
const LONGEST_SLICE = 0x10_0000;
/** Interruptibility state of the guest (SDM 3C table 25-3). */
const MOV_SS_BLOCKING = 2;
const NMI_BLOCKING = 8;
const CR4_MCE = 1n << 6n;

/**
 * SEAM non-root on one logical processor: runs the core in slices that end at timers and wanted boundaries, and turns pending
 * events into VM exits before the next instruction.
 */
export class GuestExecution {
  readonly #platform: Platform;
  readonly #lp: LogicalProcessor;
  readonly #core: GuestCore;
  /** The monitor trap flag asks for an exit at this boundary. */
  #trapPending = false;
  /** The instruction at RIP has consumed poison: its event waits for no MOV-SS shadow. */
  #consumed = false;

  constructor(platform: Platform, lp: LogicalProcessor) {
    this.#platform = platform;
    this.#lp = lp;
    this.#core = platform.core;
  }

  /** From VM entry to VM exit. */
  run(): VmExit {
    const core = this.#core;
    this.#trapPending = false;
    this.#consumed = false;
    core.applyControls();
    let exit = this.#vmEntry();
    while (!exit) {
      this.#platform.boundaries.runDue(core.retired);
      this.#platform.clock.runDue();
      this.#platform.current = this.#lp;
      this.#postedInterrupts();
      exit = this.#eventExit() ?? this.#outcome(this.#slice());
    }
    return exit;
  }

  /**
   * Event injection is part of VM entry: it comes before whatever is pending. With nothing pending the first slice does it on its
   * way.
   */
  #vmEntry(): VmExit | null {
    const core = this.#core;
    if (!(core.entryEvent.interruptionInfo & INTERRUPTION.VALID)) return null;
    if (this.#lp.latches.empty && !core.controls.monitorTrapFlag) return null;
    const exit = this.#outcome(this.#execute(0));
    if (core.controls.monitorTrapFlag) this.#trapPending = true;
    return exit;
  }

  #slice(): CoreStop {
    const { clock, boundaries } = this.#platform;
    const core = this.#core;
    const toTimer = Math.ceil(clock.nextDeadline() - clock.now);
    const toBoundary = boundaries.next() - core.retired;
    const single = this.#singleStep();
    const before = core.ticks;
    const stop = this.#execute(single ? 1 : Math.min(LONGEST_SLICE, toTimer, toBoundary));
    const moved = stop.kind === "budget" && core.ticks !== before;
    if (core.controls.monitorTrapFlag && moved) this.#trapPending = true;
    return stop;
  }

  /** One instruction at a time where the next boundary matters: monitor trap, events in a MOV-SS shadow, a closed NMI window. */
  #singleStep(): boolean {
    const { controls } = this.#core;
    if (controls.monitorTrapFlag) return true;
    const blocked = this.#core.state.get32(REG.INTERRUPTIBILITY);
    if (blocked & MOV_SS_BLOCKING) return !this.#lp.latches.empty || controls.nmiWindowExiting;
    return controls.nmiWindowExiting && (blocked & NMI_BLOCKING) !== 0;
  }

  #execute(ticks: number): CoreStop {
    const { clock } = this.#platform;
    const core = this.#core;
    core.clock = clock.now;
    const before = core.ticks;
    const stop = core.run(ticks);
    clock.advance(core.ticks - before);
    return stop;
  }

  /** What a stop of the core means; null: go on. */
  #outcome(stop: CoreStop): VmExit | null {
    switch (stop.kind) {
      case "budget":
        return null;
      case "vm-exit":
        return stop.exit;
      case "triple-fault":
        return eventExit.tripleFault();
      case "watch":
        this.#watched(stop);
        return null;
      case "odd-access":
        this.#oddAccess(stop);
        return null;
    }
  }

  #watched({ gpa, hpa, access }: WatchedAccess): void {
    this.#platform.takeWatch()?.(gpa, hpa, access);
  }

  /** Owner and poison decide on an access to a page that is not plainly the accessor's. */
  #oddAccess({ hpa, length, access, keyId }: OddAccess): void {
    const { memory } = this.#platform;
    const verdict = memory.guestLineAccess(hpa, length, access === "store", keyId);
    if (verdict.kind !== "poison-consumed") {
      this.#core.passOddAccess(verdict.kind === "zeros" ? memory.guestBytes(hpa, length, keyId) : undefined);
      return;
    }
    if (!(this.#core.state.get(REG.CR4) & CR4_MCE)) {
      this.#lp.shutdown("mce-disabled", "machine check in a TD with CR4.MCE = 0");
    }
    this.#consumed = true;
    const { hpa: line, cause } = verdict;
    consumePoison(this.#platform, this.#lp, { hpa: line, keyId, cause, access });
  }

  /** The notification vector does not leave the TD: the virtual APIC takes up what is posted. */
  #postedInterrupts(): void {
    const { latches } = this.#lp;
    const { controls } = this.#core;
    if (!controls.postedInterrupts) return;
    while (latches.highestVector() === controls.notificationVector) {
      latches.acknowledge();
      this.#core.syncPostedInterrupts();
    }
  }

  /** The most urgent event that ends SEAM non-root at this boundary (order: smi-mca facts 1.2). */
  #eventExit(): VmExit | null {
    const { latches } = this.#lp;
    const { controls, state } = this.#core;
    const trap = this.#trapPending;
    if (latches.empty && !trap && !controls.nmiWindowExiting) return null;
    if (latches.has("mc")) {
      latches.clear("mc");
      return eventExit.machineCheck();
    }
    const blocked = state.get32(REG.INTERRUPTIBILITY);
    const open = (blocked & MOV_SS_BLOCKING) === 0 || this.#consumed;
    if (open && latches.has("smi")) return eventExit.smi(latches.msmi);
    if (open && latches.has("init")) {
      latches.clear("init");
      return eventExit.init();
    }
    if (trap) {
      this.#trapPending = false;
      return eventExit.monitorTrap();
    }
    if (!open) return null;
    if (latches.has("nmi")) {
      latches.clear("nmi");
      return eventExit.nmi();
    }
    if (controls.nmiWindowExiting && (blocked & NMI_BLOCKING) === 0) return eventExit.nmiWindow();
    return latches.has("intr") ? eventExit.interrupt(latches.acknowledge()) : null;
  }
}
