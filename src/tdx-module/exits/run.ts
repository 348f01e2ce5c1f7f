import type { GuestCpu } from "../../cpu/guest-cpu.js";
import { REG } from "../../cpu/layout.js";
import type { VmExit } from "../../cpu/vm-exit.js";
import type { Call } from "../call.js";
import { RegisterFile } from "../registers.js";

/** How a TD exit leaves TD and vCPU (tdx-module facts 4.4). */
export type ExitKind =
  /** The vCPU may be entered again. */
  | "success"
  /** The same, and the host may feed a hint back. */
  | "trap"
  /** The vCPU is disabled; the TD lives. */
  | "vcpu-dead"
  /** The TD is dead. */
  | "td-dead"
  /** The TD is dead and its memory must not be touched any more. */
  | "non-accessible";

/** What the handler of a VM exit decides. */
export const OUTCOME = {
  /** Done: go on behind the instruction. */
  ADVANCE: 0,
  /** Go on where the guest is: an event was injected, or the instruction is to be tried again. */
  STAY: 1,
  /** Leave to the host; `Run.leave` has filled in how. */
  LEAVE: 2,
} as const;
export type Outcome = (typeof OUTCOME)[keyof typeof OUTCOME];

/** One stay in a TD, from TDH.VP.ENTER to its end. The object is reused. */
export class Run {
  /** The guest's registers, where the core keeps them. */
  readonly guest = new RegisterFile();
  cpu!: GuestCpu;
  #cpuOfRegisters: GuestCpu | null = null;

  /** The TD exit to be made: kind, full status of a kind with a choice, VM exit reason, and the outputs' values. */
  kind: ExitKind = "success";
  status = 0n;
  reason = 0;
  qualification = 0;
  extendedType = 0;
  extendedInfo = 0;
  gpa = 0;
  interruptionInfo = 0;

  /** RIP and TSC at TDH.VP.ENTER, for the single-step filter. */
  entryRip = 0n;
  entryTsc = 0;
  /** Instructions that the single-step filter still lets the guest run; 0: it is not stepping. */
  steps = 0;
  savedTaskPriority = 0;
  /** What the filter sends again when it ends. */
  heldNmi = false;
  heldInit = false;

  constructor(readonly call: Call) {}

  attach(cpu: GuestCpu): void {
    this.cpu = cpu;
    if (this.#cpuOfRegisters === cpu) return;
    this.#cpuOfRegisters = cpu;
    this.guest.attach(new BigUint64Array(cpu.state.view.buffer, REG.GPR, 16));
  }

  /** Decides for a TD exit that carries this VM exit's reason, qualification and interruption information. */
  leave(exit: VmExit, kind: ExitKind = "success", status = 0n): Outcome {
    this.kind = kind;
    this.status = status;
    this.reason = exit.reason;
    this.qualification = Number(exit.qualification & 0xffff_ffffn);
    this.extendedType = 0;
    this.extendedInfo = 0;
    this.gpa = 0;
    this.interruptionInfo = exit.interruptionInfo >>> 0;
    return OUTCOME.LEAVE;
  }

  /** The same for an EPT violation or misconfiguration on a page. */
  leaveAtPage(reason: number, qualification: number, gpa: number, extendedType = 0, extendedInfo = 0): Outcome {
    this.kind = "success";
    this.status = 0n;
    this.reason = reason;
    this.qualification = qualification;
    this.extendedType = extendedType;
    this.extendedInfo = extendedInfo;
    this.gpa = gpa - (gpa % 0x1000);
    this.interruptionInfo = 0;
    return OUTCOME.LEAVE;
  }
}

/** Handles one exit reason. */
export type ExitHandler = (run: Run, exit: VmExit) => Outcome;
