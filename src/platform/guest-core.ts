import type { GuestControls } from "../cpu/guest-cpu.js";
import type { CpuState } from "../cpu/state.js";
import type { EntryEvent, VmExit } from "../cpu/vm-exit.js";

/** Why the core returned from `run`. */
export type CoreStop =
  /** The ticks are used up. */
  | { readonly kind: "budget" }
  | { readonly kind: "vm-exit"; readonly exit: VmExit }
  | OddAccess
  | WatchedAccess
  | { readonly kind: "triple-fault" };

/** What an access is for. A walk reads page-table entries of the guest. */
export type AccessKind = "load" | "store" | "fetch" | "walk";

/** The instruction at RIP has changed nothing yet and touches a page that is odd or not owned by `keyId`. */
export interface OddAccess {
  readonly kind: "odd-access";
  readonly hpa: number;
  /** Bytes touched in this page. */
  readonly length: number;
  readonly access: AccessKind;
  readonly keyId: number;
}

/** The instruction at RIP has changed nothing yet and makes the load or fetch that was waited for. */
export interface WatchedAccess {
  readonly kind: "watch";
  readonly gpa: number;
  readonly hpa: number;
  readonly access: "load" | "fetch";
}

/** The core as the platform drives it; `cpu/core.ts` satisfies it. */
export interface GuestCore {
  readonly state: CpuState;
  /** Controls of SEAM non-root; in force from `applyControls` on. */
  readonly controls: GuestControls;
  readonly entryEvent: EntryEvent;
  /** Totals since creation: completed instructions; clock ticks (instructions and further `rep` iterations). */
  readonly retired: number;
  readonly ticks: number;
  /** The machine's clock in ns at the start of the next `run`. */
  clock: number;
  /** Takes changed controls in. */
  applyControls(): void;
  /** Drops every cached translation. */
  flushAll(): void;
  /** Drops decoded code of a range of host physical memory. */
  invalidateCode(hpa: number, length: number): void;
  /** Owner or oddness of a page changed: drops cached translations of it. */
  pageChanged(hpa: number): void;
  /**
   * Delivers `entryEvent` if there is one, then executes for at most `ticks` clock ticks. With 0 ticks it executes nothing but the
   * delivery.
   */
  run(ticks: number): CoreStop;
  /** Lets the access of the last "odd-access" pass once; `bytes` replace what a load finds in memory. */
  passOddAccess(bytes: Uint8Array | undefined): void;
  /** Posted-interrupt processing: moves PIR into the virtual IRR. */
  syncPostedInterrupts(): void;
}
