import type { InjectionTarget } from "../observe/injection/target.js";
import type { PageReport, RunConfig, VcpuReport } from "../observe/outcome.js";
import type { EventBus } from "../platform/event-bus.js";
import type { Step } from "../vmm/machine.js";

/** What a machine boots. */
export type Payload =
  | { readonly kind: "kernel"; readonly kernel: Uint8Array; readonly initrd: Uint8Array | undefined }
  /** One of the small TDs of src/guests, by name. */
  | { readonly kind: "small-td"; readonly name: string };

/** Everything that decides what a machine does. */
export interface MachineConfig extends RunConfig {
  readonly payload: Payload;
  /** What the machine's real-time clock shows at power-on, in seconds since 1970. */
  readonly rtc: number;
}

/** Where the guest is, for a message. */
export interface Whereabouts {
  readonly rip: bigint;
  readonly cpl: number;
  readonly lastExit: string;
}

/** A machine as the command drives it: in slices, so that signals, the terminal and limits get their turn. */
export interface Machine {
  readonly events: EventBus;
  readonly injectionTarget: InjectionTarget;
  readonly retired: number;
  readonly clockNs: number;
  /** The guest's console driver listens and has taken what it was given: bytes given earlier are lost when it starts. */
  readonly wantsInput: boolean;
  /** Runs about this many instructions, less when something needs the caller. */
  step(instructions: number): Step;
  /** Ends the current step at this very boundary; to be called from a boundary action. */
  pause(): void;
  /** One byte into the console's receive FIFO. */
  feed(byte: number): void;
  /** Idle: time skips to the next timer. */
  skipIdle(): void;
  /** Idle: this much time passes. */
  passIdle(ns: number): void;
  onConsole(listener: (bytes: Uint8Array) => void): void;
  whereabouts(): Whereabouts;
  /** Closes the VM if it is still open, and says where the TD's pages went. */
  teardown(): PageReport;
  vcpus(): VcpuReport[];
}

/** Makes machines. Throws UserError for a payload or configuration that cannot be run. */
export type MachineFactory = (config: MachineConfig) => Machine;
