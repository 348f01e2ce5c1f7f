import type { Clock } from "../platform/clock.js";
import type { EventBus } from "../platform/event-bus.js";
import type { MachineCheckFrame } from "./mce/handler.js";
import type { HostMemory } from "./mm/host-memory.js";

/**
 * The machine as the host kernel needs it: the part of the platform's API that kernel and KVM use. `Platform` satisfies it;
 * the unit tests' machine in kvm/testing.ts is another one.
 */

/** How the SEAMCALL instruction itself ended: in the module, or as CF = 1, #GP or #UD. */
export type SeamcallOutcome = "ok" | "vmfailinvalid" | "gp" | "ud";

/** Handlers of a processor's events in the host. */
export interface HardwareIdt {
  machineCheck(frame: MachineCheckFrame): void;
  nmi(): void;
  interrupt(vector: number): void;
}

export interface HardwareLp {
  readonly id: number;
  readonly package: number;
  /** SEAMCALL with RAX..R15; what SEAMRET gives back is in `gprs`, unless the instruction itself failed. */
  seamcall(gprs: BigUint64Array): SeamcallOutcome;
  /** An interrupt for this processor, from a device or another processor. */
  raiseInterrupt(vector: number): void;
  selfIpi(vector: number): void;
  /** RFLAGS.IF of the host; setting it delivers what is pending. */
  hostInterruptFlag: boolean;
  /** The host waits in HLT. */
  hostHalted: boolean;
  /** Where the host's handlers are entered; the kernel installs them. */
  hostIdt: HardwareIdt;
  readMsr(index: number): bigint;
  writeMsr(index: number, value: bigint): void;
}

/** Physical memory as host software reads and writes it, KeyID 0. */
export interface HardwareMemory extends HostMemory {
  read32(hpa: number): number;
  read64(hpa: number): bigint;
  write32(hpa: number, value: number): void;
  write64(hpa: number, value: bigint): void;
}

/** What CPUID and the firmware tell the host about the machine. */
export interface HardwareTopology {
  readonly packages: number;
  readonly firstPrivateKeyId: number;
  readonly keyIdCount: number;
  /** Lowest bit of the KeyID field in a physical address. */
  readonly keyIdShift: number;
  /** Convertible memory ranges. */
  readonly cmrs: readonly { readonly base: number; readonly size: number }[];
}

export interface Hardware {
  readonly lps: readonly HardwareLp[];
  readonly clock: Clock;
  readonly events: EventBus;
  readonly memory: { readonly size: number; readonly host: HardwareMemory };
  readonly topology: HardwareTopology;
  /** INVEPT of all contexts on a logical processor (single TLB here: of the machine). */
  invept(): void;
}
