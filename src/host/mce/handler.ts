import { MCG_CAP, MCG_STATUS, MCI, MCI_STATUS } from "../../arch/mca.js";
import { MSR } from "../../arch/msr.js";
import type { EventBus } from "../../platform/event-bus.js";
import { type HostProfile, MEMORY_ERROR_QUIRKS } from "../mm/host-profile.js";
import type { MemoryFailure } from "../mm/memory-failure.js";
import { hpaOf } from "../mm/page.js";
import type { PageAllocator } from "../mm/page-allocator.js";
import type { Task } from "../mm/task.js";
import { HostPanic } from "./host-panic.js";
import { MachineCheckLog, type MachineCheckLogState } from "./log.js";
import { bankCount, bankMsr, bankStatus, type MachineCheckProcessor } from "./processor.js";
import {
  type AddressReading,
  canRestart,
  framePfn,
  hasUsableAddress,
  isMemoryError,
  type MachineCheckRecord,
  type RecordBase,
  readAuxiliary,
  recordOfStatus,
  withoutKeyId,
} from "./record.js";
import { Rendezvous } from "./rendezvous.js";
import { type MachineCheckSetup, setUpProcessor } from "./setup.js";
import { type ErrorContext, gradeRecord, SEVERITY, type SeverityRow, severityName } from "./severity.js";
import { queueTaskWork } from "./task-work.js";

/** What the #MC interrupted; platform's `HostFrame` satisfies it. */
export interface MachineCheckFrame {
  readonly cs: number;
  readonly rip: bigint;
}

/** The frame that KVM makes up for a #MC that a VM exit consumed: user mode, nothing else (kvm_machine_check). */
export const KVM_MACHINE_CHECK_FRAME: MachineCheckFrame = { cs: 3, rip: 0n };

/** How kernel code at some address gets over a machine check (types of the exception table). */
export type Fixup = "copy-from-user" | "mce-safe";

/** What the handler did beyond logging. */
export type MachineCheckAction =
  /** Nothing was asked for. */
  | "none"
  /** Error in SEAM non-root: the page has the hwpoison flag now. */
  | "page-poisoned"
  /** The same, but the record named no page of this kernel. */
  | "page-not-found"
  /** User mode: the current task handles the page before it goes on. */
  | "task-work"
  /** Kernel code with a fix-up goes on there. */
  | "fixed-up";

/** How a #MC ended that the host survived. */
export interface MachineCheckOutcome {
  readonly action: MachineCheckAction;
  readonly context: ErrorContext;
  /** The worst record and its row, one that the handler leaves alone if there is no other; null if no bank has one. */
  readonly record: MachineCheckRecord | null;
  readonly row: SeverityRow | null;
  /** Frame of the page that was acted upon. */
  readonly pfn: number | null;
}

export interface MachineCheckConfig {
  /** All processors of the host. */
  readonly processors: readonly MachineCheckProcessor[];
  readonly events: EventBus;
  readonly allocator: PageAllocator;
  readonly memoryFailure: MemoryFailure;
  readonly hostProfile: HostProfile;
  /** Lowest bit of the KeyID field in a physical address. */
  readonly keyIdShift: number;
  /** The user task that runs on a processor. */
  readonly currentTask: (lp: number) => Task | null;
  /** Exception table: how kernel code at an address gets over a machine check, null if it does not. */
  readonly fixupOf?: (ip: bigint) => Fixup | null;
  /** False for a processor that takes no #MC any more. */
  readonly canArrive?: (lp: MachineCheckProcessor) => boolean;
  /** Kernel parameter mce=no_lmce is absent. */
  readonly lmce?: boolean;
  /** 0: processors do not wait for each other. */
  readonly monarchTimeoutNs?: number;
  readonly skylakeX?: boolean;
  /** What the kernel adds to a panic about memory that belongs to TDX; null if it does not. */
  readonly tdxNote?: (hpa: number) => string | null;
}

/** All that the machine-check code remembers, as a value. */
export interface MachineCheckState {
  readonly tainted: boolean;
  /** Processors that have taken a broadcast #MC which others have yet to take. */
  readonly arrived: readonly number[];
  readonly setups: readonly (readonly [lp: number, setup: MachineCheckSetup])[];
  readonly log: MachineCheckLogState;
}

/** Default of the kernel on Intel processors. */
const MONARCH_TIMEOUT_NS = 1_000_000_000;

interface Graded {
  readonly record: MachineCheckRecord;
  readonly row: SeverityRow;
}

interface ScanResult {
  /** What the kernel acts upon. */
  readonly worst: Graded | null;
  /** The first error that it leaves in its bank, signaled though it is. */
  readonly untouched: Graded | null;
  /** Banks to clear. */
  readonly handledBanks: readonly number[];
}

/** What one #MC is about, as far as the frame and MCG_STATUS tell. */
interface Event extends RecordBase {
  readonly context: ErrorContext;
  readonly fixup: Fixup | null;
  readonly ser: boolean;
}

/** The host kernel's machine-check code: do_machine_check() of Linux (smi-mca facts 3.4) and polling. */
export class MachineCheck {
  readonly log: MachineCheckLog;
  readonly #config: MachineCheckConfig;
  readonly #rendezvous: Rendezvous;
  readonly #setups = new Map<number, MachineCheckSetup>();
  /** TAINT_MACHINE_CHECK: a machine check has happened since boot. */
  tainted = false;

  constructor(config: MachineCheckConfig) {
    this.#config = config;
    this.#rendezvous = new Rendezvous(config.processors, config.canArrive ?? (() => true));
    this.log = new MachineCheckLog(config);
  }

  /** Brings a processor's banks into use and logs what they hold from before. */
  setUp(lp: MachineCheckProcessor): MachineCheckSetup {
    const { ser, banks } = this.#setupOf(lp);
    this.log.poll(lp, this.#addressReading(ser), banks, "all");
    const setup = setUpProcessor(lp, this.#config.lmce ?? true);
    this.#setups.set(lp.id, setup);
    return setup;
  }

  /** CMCI: logs and clears what #MC does not signal, in the banks whose interrupt the processor owns. */
  handleCmci(lp: MachineCheckProcessor): readonly MachineCheckRecord[] {
    const setup = this.#setupOf(lp);
    return this.log.poll(lp, this.#addressReading(setup.ser), setup.cmciBanks);
  }

  /** machine_check_poll() over all banks in use, as by the kernel's timer. */
  machineCheckPoll(lp: MachineCheckProcessor): readonly MachineCheckRecord[] {
    const setup = this.#setupOf(lp);
    return this.log.poll(lp, this.#addressReading(setup.ser), setup.banks);
  }

  /** The #MC handler. Throws HostPanic where the kernel stops. */
  doMachineCheck(lp: MachineCheckProcessor, frame: MachineCheckFrame): MachineCheckOutcome {
    const event = this.#gather(lp, frame);
    const fatal = this.#noWayOut(lp, event);
    const killCurrentTask = !canRestart(event.mcgStatus);
    const local = (event.mcgStatus & MCG_STATUS.LMCE_S) !== 0n;
    if (local && fatal !== null) this.#panic(event, fatal, "Fatal local machine check");
    if (!local) this.#meetOthers(lp, event);
    const { worst, untouched, handledBanks } = this.#scanBanks(lp, event, fatal !== null);
    if (fatal === null) for (const bank of handledBanks) lp.writeMsr(bankMsr(bank, MCI.STATUS), 0n);
    if (worst !== null && worst.row.severity >= SEVERITY.PANIC) {
      this.#panic(event, worst, local ? "Fatal local machine check" : "Fatal machine check");
    }
    this.tainted = true;
    this.#emit(event, worst ?? untouched);
    const outcome = this.#act(event, worst, killCurrentTask);
    lp.writeMsr(MSR.IA32_MCG_STATUS, 0n);
    return worst === null && untouched !== null ? { ...outcome, ...untouched } : outcome;
  }

  get state(): MachineCheckState {
    const { tainted, log } = this;
    return { tainted, arrived: this.#rendezvous.arrived, setups: [...this.#setups], log: log.state };
  }

  restore(state: MachineCheckState): void {
    this.tainted = state.tainted;
    this.#rendezvous.restore(state.arrived);
    this.#setups.clear();
    for (const [lp, setup] of state.setups) this.#setups.set(lp, setup);
    this.log.restore(state.log);
  }

  #gather(lp: MachineCheckProcessor, frame: MachineCheckFrame): Event {
    const mcgStatus = lp.readMsr(MSR.IA32_MCG_STATUS);
    const known = (mcgStatus & (MCG_STATUS.RIPV | MCG_STATUS.EIPV)) !== 0n;
    const base = { lp: lp.id, mcgStatus, cs: known ? frame.cs : 0, ip: known ? frame.rip : 0n };
    const ser = (lp.readMsr(MSR.IA32_MCG_CAP) & MCG_CAP.SER_P) !== 0n;
    if ((base.cs & 3) === 3) return { ...base, ser, context: "user", fixup: null };
    const recoverable = MCG_STATUS.RIPV | MCG_STATUS.EIPV;
    const fixup = (mcgStatus & recoverable) === recoverable ? (this.#config.fixupOf?.(base.ip) ?? null) : null;
    return { ...base, ser, context: fixup === null ? "kernel" : "kernel-recoverable", fixup };
  }

  /** mce_no_way_out(): the first error that leaves no choice, before anything is touched. */
  #noWayOut(lp: MachineCheckProcessor, event: Event): Graded | null {
    for (let bank = 0; bank < bankCount(lp); bank++) {
      const status = bankStatus(lp, bank);
      if ((status & MCI_STATUS.VAL) === 0n) continue;
      const record = recordOfStatus(baseOf(event), bank, status);
      const row = this.#grade(record, event);
      if (row.severity >= SEVERITY.PANIC) return { record: this.#readAuxiliary(lp, record, event), row };
    }
    return null;
  }

  #meetOthers(lp: MachineCheckProcessor, event: Event): void {
    if ((this.#config.monarchTimeoutNs ?? MONARCH_TIMEOUT_NS) === 0) return;
    const holdouts = this.#rendezvous.arrive(lp);
    if (holdouts.length === 0) return;
    const message = `Not all processors entered the broadcast machine check: missing ${holdouts.join(", ")}`;
    this.#panic(event, null, message);
  }

  /** __mc_scan_banks(): logs what this #MC is about and finds the worst of it. */
  #scanBanks(lp: MachineCheckProcessor, event: Event, panicking: boolean): ScanResult {
    const handledBanks: number[] = [];
    let worst: Graded | null = null;
    let untouched: Graded | null = null;
    const signaled = event.ser ? MCI_STATUS.S : MCI_STATUS.UC;
    for (const bank of this.#setupOf(lp).banks) {
      const status = bankStatus(lp, bank);
      if ((status & MCI_STATUS.VAL) === 0n) continue;
      // What is not signaled by #MC is left for polling.
      if ((status & signaled) === 0n && !panicking) continue;
      const found = recordOfStatus(baseOf(event), bank, status);
      const row = this.#grade(found, event);
      if ((row.severity === SEVERITY.KEEP || row.severity === SEVERITY.UCNA) && !panicking) {
        untouched ??= { record: this.#readAuxiliary(lp, found, event), row };
        continue;
      }
      handledBanks.push(bank);
      if (row.severity === SEVERITY.NO) continue;
      const record = this.#readAuxiliary(lp, found, event);
      this.log.add(record, row, "exception");
      if (worst === null || row.severity > worst.row.severity) worst = { record, row };
    }
    return { worst, untouched, handledBanks };
  }

  #act(event: Event, worst: Graded | null, killCurrentTask: boolean): MachineCheckOutcome {
    const context = event.context;
    const outcome = {
      action: "none",
      context,
      record: worst?.record ?? null,
      row: worst?.row ?? null,
      pfn: null,
    } as const;
    if (worst?.row.severity !== SEVERITY.AR && !killCurrentTask) return outcome;
    const record = worst?.record ?? recordOfStatus(baseOf(event), -1, 0n);
    if (context === "user") return { ...outcome, ...this.#punishTask(event, worst?.row ?? null, record) };
    if ((event.mcgStatus & MCG_STATUS.SEAM_NR) !== 0n) return { ...outcome, ...this.#poisonPage(record) };
    if (event.fixup === null) this.#panic(event, worst, "Machine check in kernel code that cannot go on");
    if (event.fixup === "copy-from-user") this.#queue(event, worst?.row ?? null, record, "kill-never");
    return { ...outcome, action: "fixed-up", pfn: this.#pfnOf(record) };
  }

  /**
   * The error happened in SEAM non-root: the TD is dead already, and all that is left is to keep the page from being used
   * again (commit 7911f145de5f).
   */
  #poisonPage(record: MachineCheckRecord): { action: MachineCheckAction; pfn: number | null } {
    const pfn = framePfn(record.addr);
    // With the KeyID left in, no such frame is online, and the mark is lost (smi-mca facts 3.8).
    if (!hasUsableAddress(record) || !this.#config.allocator.isOnline(pfn))
      return { action: "page-not-found", pfn: null };
    this.#config.allocator.setHwPoison(hpaOf(pfn), record.lp);
    return { action: "page-poisoned", pfn };
  }

  #punishTask(
    event: Event,
    row: SeverityRow | null,
    record: MachineCheckRecord,
  ): { action: MachineCheckAction; pfn: number | null } {
    this.#queue(event, row, record, hasUsableAddress(record) ? "kill-maybe" : "kill-now");
    return { action: "task-work", pfn: this.#pfnOf(record) };
  }

  #queue(
    event: Event,
    row: SeverityRow | null,
    record: MachineCheckRecord,
    work: "kill-now" | "kill-maybe" | "kill-never",
  ): void {
    const task = this.#config.currentTask(event.lp);
    if (task === null) throw new Error(`machine check in user mode on processor ${event.lp}, which runs no task`);
    const pfn = framePfn(withoutKeyId(record.addr, this.#config.keyIdShift));
    const refused = queueTaskWork({ task, record, pfn, work, memoryFailure: this.#config.memoryFailure });
    if (refused !== null) this.#panic(event, row === null ? null : { record, row }, refused);
  }

  #pfnOf(record: MachineCheckRecord): number | null {
    return hasUsableAddress(record) ? framePfn(withoutKeyId(record.addr, this.#config.keyIdShift)) : null;
  }

  #grade(record: MachineCheckRecord, event: Event): SeverityRow {
    const { context, ser } = event;
    return gradeRecord(record, { context, ser, exception: true, skylakeX: this.#config.skylakeX ?? false });
  }

  #readAuxiliary(lp: MachineCheckProcessor, record: MachineCheckRecord, event: Event): MachineCheckRecord {
    return readAuxiliary(lp, record, this.#addressReading(event.ser));
  }

  #addressReading(ser: boolean): AddressReading {
    const { masksKeyId } = MEMORY_ERROR_QUIRKS[this.#config.hostProfile];
    return { ser, keyIdShift: this.#config.keyIdShift, masksKeyId };
  }

  /** A processor that was never set up has its banks as RESET left them: all in use. */
  #setupOf(lp: MachineCheckProcessor): MachineCheckSetup {
    const setup = this.#setups.get(lp.id);
    if (setup !== undefined) return setup;
    const ser = (lp.readMsr(MSR.IA32_MCG_CAP) & MCG_CAP.SER_P) !== 0n;
    return { banks: Array.from({ length: bankCount(lp) }, (_, bank) => bank), ser, lmce: false, cmciBanks: [] };
  }

  #emit(event: Event, graded: Graded | null): void {
    const record = graded?.record;
    this.#config.events.emit("mce", "machine-check", event.lp, null, {
      bank: record?.bank ?? null,
      status: record?.status ?? null,
      addr: record?.rawAddr ?? null,
      misc: record?.misc ?? null,
      mcgStatus: event.mcgStatus,
      severity: severityName(graded?.row.severity ?? SEVERITY.NO),
      row: graded?.row.row ?? null,
      name: graded?.row.name ?? null,
      context: event.context,
    });
  }

  #panic(event: Event, graded: Graded | null, message: string): never {
    this.tainted = true;
    this.#emit(event, graded);
    const record = graded?.record ?? null;
    const full = graded === null ? message : `${message}: ${graded.row.name}`;
    const note = record === null ? null : this.#tdxNote(record);
    this.#config.events.emit("mce", "host-panic", event.lp, null, { message: full, tdxNote: note });
    throw new HostPanic(full, event.lp, graded?.row ?? null, record, note);
  }

  #tdxNote(record: MachineCheckRecord): string | null {
    if (!isMemoryError(record) || !hasUsableAddress(record)) return null;
    return this.#config.tdxNote?.(Number(withoutKeyId(record.addr, this.#config.keyIdShift))) ?? null;
  }
}

function baseOf({ lp, mcgStatus, cs, ip }: Event): RecordBase {
  return { lp, mcgStatus, cs, ip };
}
