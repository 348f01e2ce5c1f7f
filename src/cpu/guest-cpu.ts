import type { CpuState } from "./state.js";
import type { EntryEvent } from "./vm-exit.js";

/** Controls of SEAM non-root that the module sets before VM entry: the part of the TD VMCS that the core acts on. */
export interface GuestControls {
  /** KeyID with which the TD's private memory is accessed. */
  keyId: number;
  /** Host physical address of the Secure EPT root and of the shared EPT root (0: none yet). */
  septRoot: number;
  sharedRoot: number;
  /** 48 or 52: the SHARED bit is bit gpaw - 1. */
  gpaw: number;
  /** Host physical page of the 4 KiB MSR bitmap (SDM 3C 26.6.9 layout), read with keyId. */
  msrBitmap: number;
  /** Host physical page of the virtual-APIC page, read and written with keyId. */
  virtualApicPage: number;
  /** Host physical address of the #VE information area (at the start of the TDVPR page), accessed with keyId. */
  veInfo: number;
  /** Posted-interrupt descriptor (host memory, KeyID 0) and notification vector; `postedInterrupts` false: not processed. */
  postedInterrupts: boolean;
  postedInterruptDescriptor: number;
  notificationVector: number;
  /** Guest/host masks and read shadows of CR0 and CR4. */
  cr0Mask: bigint;
  cr0Shadow: bigint;
  cr4Mask: bigint;
  cr4Shadow: bigint;
  /** TD TSC = clock in ns * tscMultiplier / 2^48 + tscOffset. */
  tscOffset: bigint;
  tscMultiplier: bigint;
  /** NMI-window exiting, monitor trap flag. */
  nmiWindowExiting: boolean;
  monitorTrapFlag: boolean;
  /** Attributes that decide between #GP, #UD and native execution: XFAM and whether features are virtualised. */
  xfam: bigint;
}

/** Controls before the module has set any: nothing exits that a control decides, and the TSC is the clock. */
export const initialControls = (): GuestControls => ({
  keyId: 0,
  septRoot: 0,
  sharedRoot: 0,
  gpaw: 48,
  msrBitmap: 0,
  virtualApicPage: 0,
  veInfo: 0,
  postedInterrupts: false,
  postedInterruptDescriptor: 0,
  notificationVector: 0,
  cr0Mask: 0n,
  cr0Shadow: 0n,
  cr4Mask: 0n,
  cr4Shadow: 0n,
  tscOffset: 0n,
  tscMultiplier: 1n << 48n,
  nmiWindowExiting: false,
  monitorTrapFlag: false,
  xfam: 3n,
});

/** The core in SEAM non-root, as the module drives it. */
export interface GuestCpu {
  /** Architectural state; valid between VM exits. Private to the TD: the module saves and clears it on TD exit. */
  readonly state: CpuState;
  readonly controls: GuestControls;
  /** Event to inject at the next VM entry; the core clears it when delivered. */
  readonly entryEvent: EntryEvent;
  /** Copies the register block (STATE_SIZE bytes) into the page at this host physical address, owned by keyId; and back. */
  save(hpa: number, keyId: number): void;
  load(hpa: number, keyId: number): void;
  /** Sets the register block to what the module leaves behind for the host (no TD value remains). */
  clear(): void;
  /** Drops every cached translation (INVEPT / INVVPID of all contexts). */
  flushTlb(): void;
}
