import type { EventBus } from "../../platform/event-bus.js";
import type { ConsumingAccess } from "./grammar.js";

/** Takes back what was asked for; does nothing when it has already happened. */
export type Cancel = () => void;

/** What an injection needs of a machine. */
export interface InjectionTarget {
  /** Retired instructions, summed over vCPUs. */
  readonly retired: number;
  readonly logicalProcessors: number;
  readonly events: EventBus;
  /** The logical processor that runs this vCPU; without a vCPU, the one that runs now. */
  processorOf(vcpu: number | undefined): number;
  /** The vCPU that this logical processor runs, null if none. */
  vcpuOn(lp: number): number | null;
  /** The event becomes pending at this logical processor. Where the processor takes it at once, it has when this returns. */
  raise(lp: number, event: "smi" | "nmi"): void;
  /** An NMI waits at this logical processor. */
  nmiPending(lp: number): boolean;
  /** The memory controller logs a corrected error and signals it: a CSMI. */
  correctedError(lp: number): void;
  /** Runs the action at the boundary after this many retired instructions, before the next one begins. */
  at(retired: number, action: () => void): Cancel;
  /** Runs the action once, before the instruction at this linear address executes. */
  atRip(address: bigint, action: () => void): Cancel;
  /** Runs the action once, before the next access of this kind to a private page completes. */
  watchAccess(kind: ConsumingAccess, action: (gpa: number, hpa: number) => void): Cancel;
  /** Host physical address behind a guest physical one, if the TD has private memory there. */
  translate(gpa: number): number | undefined;
  poisonLine(hpa: number): void;
  /** The memory address in MCi_ADDR, without its KeyID. */
  memoryAddress(mciAddr: bigint): number;
}
