import { MCG_CAP, MCG_STATUS, MCI_CTL2, MCI_STATUS } from "../arch/mca.js";
import { MSR, X2APIC_MSR } from "../arch/msr.js";
import { SMRAM_PER_PROCESSOR } from "./config.js";
import type { EventFields } from "./event-bus.js";
import { ProcessorShutdown, type ShutdownCause } from "./faults.js";
import { HOST_CS, HOST_RIP, type HostFrame, HostRegisters } from "./host-registers.js";
import { EventLatches } from "./latches.js";
import type { ErrorRecord, McaBank } from "./mca/bank.js";
import { MachineCheckUnit } from "./mca/machine-check-unit.js";
import { EVENT_ORDER, type EventKind, MODE_TABLE, type Mode } from "./modes.js";
import { MsrFile } from "./msr-file.js";
import type { Platform } from "./platform.js";
import { defineProcessorMsrs, firmwareSetup, lvtDelivery } from "./processor-msrs.js";
import { GPR, type Gprs, SeamShutdown } from "./seam.js";
import { SeamProcessor } from "./seam-processor.js";
import { SaveState } from "./smm.js";

/** Where a host kernel's exception and interrupt handlers are entered. */
export interface HostIdt {
  machineCheck(frame: HostFrame): void;
  nmi(frame?: HostFrame): void;
  interrupt(vector: number): void;
}

/** How a SEAMCALL instruction ended: in SEAMRET, with CF=1, or in a fault. */
export type SeamcallOutcome = "ok" | "vmfailinvalid" | "gp" | "ud";

const CR4_MCE = 1n << 6n;
/** SEAMCALL with this bit of RAX goes to the P-SEAMLDR, which is not there once the module runs. */
const SEAMLDR_CALL = 1n << 63n;

/**
 * A logical processor. It is in one mode at a time, keeps the events that the mode holds back, and lets them happen where the
 * mode table says: right after SEAMRET, at RSM, when the host enables interrupts, or at once.
 */
export class LogicalProcessor {
  readonly id: number;
  readonly package: number;
  readonly registers = new HostRegisters();
  readonly latches = new EventLatches();
  readonly machineCheckUnit: MachineCheckUnit;
  readonly msrs: MsrFile;
  /** Installed by the host kernel. A machine check that nobody handles is a shutdown. */
  hostIdt: HostIdt;
  /** The host waits in HLT: an SMI tells so in the save state's auto-HALT field. */
  hostHalted = false;
  smbase: number;
  smiCount = 0;
  /** Machine checks signalled to this processor, as #MC or MSMI. */
  machineChecks = 0;
  /** SMIs that came, those that merged with a waiting one included: smiCount + latches.merged + one if one waits. */
  smiLatched = 0;
  #mode: Mode = "root";
  #nmiBlocked = false;
  #holds = 0;
  #machineCheckAtRsm = false;
  readonly #platform: Platform;
  readonly #seam: SeamProcessor;

  constructor(platform: Platform, id: number, packageId: number, uncore: readonly McaBank[]) {
    this.#platform = platform;
    this.id = id;
    this.package = packageId;
    const { config, keyIds, memoryMap } = platform;
    this.msrs = new MsrFile({ config, keyIds, map: memoryMap, lp: id });
    this.machineCheckUnit = new MachineCheckUnit(config, uncore, () => this.msrs.read(MSR.IA32_FEATURE_CONTROL));
    this.smbase = memoryMap.smram.base + id * SMRAM_PER_PROCESSOR;
    this.hostIdt = {
      machineCheck: () => this.shutdown("mce-disabled", "machine check without a handler"),
      nmi: () => undefined,
      interrupt: () => undefined,
    };
    defineProcessorMsrs(this, platform.clock);
    firmwareSetup(this.machineCheckUnit, config);
    this.#seam = new SeamProcessor(platform, this);
  }

  get mode(): Mode {
    return this.#mode;
  }
  /** Mode changes inside SEAM, for `SeamProcessor` only. */
  setSeamMode(mode: "seam-root" | "seam-non-root"): void {
    this.#mode = mode;
  }
  get inSmm(): boolean {
    return this.#mode === "smm";
  }

  // ---- MSRs

  readMsr(index: number): bigint {
    const unit = this.machineCheckUnit;
    return unit.owns(index) ? unit.read(index, this) : this.msrs.read(index);
  }
  writeMsr(index: number, value: bigint): void {
    const unit = this.machineCheckUnit;
    if (unit.owns(index)) unit.write(index, BigInt.asUintN(64, value), this);
    else this.msrs.write(index, value);
  }

  // ---- Events

  /** An event arrives. It happens at once if the mode lets it, else it waits. */
  raise(event: "smi" | "msmi" | "nmi" | "init" | "mc"): void {
    if (this.#mode === "shutdown") return;
    const changed = this.latches.raise(event);
    if (event === "smi" || event === "msmi") {
      this.smiLatched++;
      if (changed) this.emit("platform", "smi-latched", { msmi: event === "msmi" });
    }
    this.openEvents();
  }

  /** Events that arrive in the same instant: none happens before all of them are latched. */
  simultaneously(arrivals: () => void): void {
    this.#holds++;
    try {
      arrivals();
    } finally {
      this.#holds--;
    }
    this.openEvents();
  }

  /** An interrupt arrives at the local APIC. */
  raiseInterrupt(vector: number): void {
    if (this.#mode === "shutdown") return;
    this.latches.raiseInterrupt(vector);
    this.openEvents();
  }

  selfIpi(vector: number): void {
    this.raiseInterrupt(vector);
  }

  /** RFLAGS.IF of the host. Setting it delivers what is pending through `hostIdt`. */
  get hostInterruptFlag(): boolean {
    return this.registers.interruptFlag;
  }
  set hostInterruptFlag(enabled: boolean) {
    this.registers.interruptFlag = enabled;
    if (enabled) this.openEvents();
  }

  /** Lets every event happen that VMX root operation does not hold back, most urgent first. */
  openEvents(): void {
    while (this.#mode === "root" && this.#holds === 0) {
      const kind = EVENT_ORDER.find((candidate) => this.latches.has(candidate) && this.#isOpen(candidate));
      if (!kind) return;
      this.#take(kind);
    }
  }

  #isOpen(kind: EventKind): boolean {
    const disposition = MODE_TABLE[this.#mode][kind];
    if (kind === "nmi" && this.#nmiBlocked) return false;
    return disposition === "take" || (disposition === "take-if-enabled" && this.registers.interruptFlag);
  }

  #take(kind: EventKind): void {
    switch (kind) {
      case "mc":
        this.latches.clear("mc");
        if (!(this.registers.cr4 & CR4_MCE)) this.shutdown("mce-disabled", "machine check with CR4.MCE = 0");
        this.#deliver((frame) => this.hostIdt.machineCheck(frame));
        break;
      case "smi":
        this.#enterSmm();
        break;
      case "nmi":
        this.latches.clear("nmi");
        this.#nmiBlocked = true;
        this.#deliver((frame) => this.hostIdt.nmi(frame));
        this.#nmiBlocked = false;
        break;
      case "intr": {
        const vector = this.latches.acknowledge();
        this.#deliver(() => this.hostIdt.interrupt(vector));
        break;
      }
      case "init":
        throw new Error("INIT is never open in VMX root operation");
    }
  }

  /** Through the IDT and back by IRET: IF is clear meanwhile. */
  #deliver(handler: (frame: HostFrame) => void): void {
    const { registers } = this;
    const frame: HostFrame = { cs: HOST_CS, rip: registers.rip, rflags: registers.rflags };
    const enabled = registers.interruptFlag;
    registers.interruptFlag = false;
    this.hostHalted = false;
    handler(frame);
    registers.interruptFlag = enabled;
  }

  // ---- SEAM

  /**
   * Executes SEAMCALL: the module runs and changes `gprs` into the outputs. Events that SEAM held back and that are open again
   * happen before this returns, as they do before the instruction that follows SEAMCALL.
   */
  seamcall(gprs: Gprs): SeamcallOutcome {
    if (this.#mode !== "root") return "ud";
    const module = this.#platform.seamModule;
    if (!module || (gprs[GPR.RAX] as bigint) & SEAMLDR_CALL) return "vmfailinvalid";
    this.#platform.current = this;
    const leaf = gprs[GPR.RAX] as bigint;
    this.#mode = "seam-root";
    try {
      module.seamcall(this.#seam, gprs);
    } catch (error) {
      if (error instanceof SeamShutdown) this.shutdown("seam-root", error.message);
      // Something outside the architecture ends this run (a limit at a boundary): what is left for the host is teardown.
      if (!(error instanceof ProcessorShutdown)) this.#mode = "root";
      throw error;
    }
    this.#mode = "root";
    this.registers.gprs = gprs;
    this.registers.rip = HOST_RIP.AFTER_SEAMCALL;
    if (this.#platform.events.wants("seamret")) {
      this.emit("platform", "seamret", { leaf, status: this.registers.rax });
    }
    this.openEvents();
    this.registers.rip = HOST_RIP.KERNEL;
    return "ok";
  }

  // ---- Machine check

  /**
   * A machine check because of an error in `bank`: as #MC, or as the SMI that firmware has put in its place. `flags`: RIPV, EIPV
   * and LMCE_S of MCG_STATUS.
   */
  machineCheck(bank: number, flags: bigint): void {
    const unit = this.machineCheckUnit;
    if (this.#mode === "shutdown") return;
    if (this.#mode === "smm") this.shutdown("mce-disabled", "machine check in SMM");
    if (this.#mode === "seam-root") this.shutdown("seam-root", "machine check in SEAM root");
    if (unit.status & MCG_STATUS.MCIP) {
      this.shutdown("machine-check-in-progress", "machine check while another one is in progress");
    }
    this.machineChecks++;
    const inTd = this.#mode === "seam-non-root" && (unit.capability & MCG_CAP.SEAM_NR) !== 0n;
    unit.status = MCG_STATUS.MCIP | flags | (inTd ? MCG_STATUS.SEAM_NR : 0n);
    this.raise(unit.bank(bank).ctl2 & MCI_CTL2.MSMI_EN ? "msmi" : "mc");
  }

  /** Logs an error in a bank. */
  log(bank: number, error: ErrorRecord): void {
    this.machineCheckUnit.bank(bank).log(error);
    this.emit("platform", "mca-logged", { bank, status: error.status, addr: error.addr });
  }

  /** Signals a corrected error, or one that needs no action: to firmware by CSMI, else to the operating system by CMCI. */
  signalLogged(bank: number): void {
    const { ctl2, status, correctedCount } = this.machineCheckUnit.bank(bank);
    const corrected = (status & MCI_STATUS.UC) === 0n;
    if (ctl2 & MCI_CTL2.CSMI_EN) this.raise("smi");
    else if (corrected && correctedCount < (ctl2 & MCI_CTL2.THRESHOLD)) return;
    else if (ctl2 & MCI_CTL2.CMCI_EN) this.signalCmci();
  }

  /** Delivers the corrected machine-check interrupt as LVT CMCI says. */
  signalCmci(): void {
    const delivery = lvtDelivery(this.msrs.read(X2APIC_MSR.LVT_CMCI));
    if (delivery === "smi" || delivery === "nmi") this.raise(delivery);
    else if (delivery !== null) this.raiseInterrupt(delivery);
  }

  /**
   * The processor shuts down. In SEAM the module and its loader are marked not loaded first, on the whole platform. Throws:
   * nothing goes on here.
   */
  shutdown(cause: ShutdownCause, message: string): never {
    const seam = this.#mode === "seam-root" || this.#mode === "seam-non-root";
    this.#mode = "shutdown";
    if (seam) this.#platform.unloadSeam();
    this.emit("platform", "shutdown", { cause, seam });
    this.#platform.smi.leave(this);
    throw new ProcessorShutdown(this.id, cause, message);
  }

  // ---- SMM

  #enterSmm(): void {
    this.latches.clear("smi");
    this.#mode = "smm";
    this.smiCount = (this.smiCount + 1) >>> 0;
    this.saveState().save(this.registers, this.hostHalted, this.#platform.smi.takeIoMisc(this));
    this.emit("smm", "smm-enter", { smiCount: this.smiCount, rip: this.registers.rip, rax: this.registers.rax });
    this.#platform.smi.arrive(this);
  }

  /** The save state in SMRAM at the present SMBASE. */
  saveState(): SaveState {
    return new SaveState(this.#platform.memory.smm, this.smbase);
  }

  /** Firmware wants the host to see #MC when SMM is left. */
  armMachineCheckAtRsm(): void {
    this.#machineCheckAtRsm = true;
  }

  /** RSM: the interrupted context goes on. Events that came meanwhile wait for `openEvents`. */
  resume(): void {
    const state = this.saveState();
    state.restore(this.registers);
    const smbase = Number(state.read("SMBASE"));
    if (smbase % 0x8000 !== 0) this.shutdown("rsm", `SMBASE 0x${smbase.toString(16)} is not aligned`);
    this.smbase = smbase;
    if (this.hostHalted) this.hostHalted = (state.read("AUTO_HALT") & 1n) !== 0n;
    this.#mode = "root";
    this.emit("smm", "smm-exit", { smiCount: this.smiCount });
    if (this.#machineCheckAtRsm) {
      this.#machineCheckAtRsm = false;
      this.latches.raise("mc");
    }
  }

  emit(layer: "platform" | "smm" | "module", event: string, fields: EventFields): void {
    this.#platform.events.emit(layer, event, this.id, null, fields);
  }
}
