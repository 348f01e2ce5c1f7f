import type { VmExitSignal } from "../faults.js";
import type { GuestControls } from "../guest-cpu.js";
import type { Instruction } from "../isa/instruction.js";
import type { CpuState } from "../state.js";

/** Memory by linear address, with the faults of an access by the running program. */
export interface LinearMemory {
  /**
   * Reads 1, 2, 4 or 8 bytes, zero-extended. `supervisor`: an implicit supervisor access (descriptor tables, TSS), whatever
   * the CPL. Throws CpuException (#PF, #GP, #SS) or VmExitSignal (EPT violation, machine check).
   */
  read(address: bigint, bytes: number, supervisor?: boolean): bigint;
  write(address: bigint, bytes: number, value: bigint, supervisor?: boolean): void;
  /** Reads so many 64-bit words, with the faults of reading them one by one. */
  readWords(address: bigint, into: BigUint64Array, count: number, supervisor?: boolean): void;
  /** Writes so many 64-bit words; nothing is written if one of them cannot be. */
  writeWords(address: bigint, words: BigUint64Array, count: number, supervisor?: boolean): void;
  readBytes(address: bigint, length: number): Uint8Array;
  /** Probes every page for writing before the first byte is written. */
  writeBytes(address: bigint, bytes: Uint8Array): void;
  /** Throws what a write of this range would throw, and changes nothing. */
  probeWrite(address: bigint, length: number, supervisor?: boolean): void;
}

/** What a system instruction and event delivery work with. */
export interface CpuEnvironment {
  readonly state: CpuState;
  readonly linear: LinearMemory;
  /** Controls of SEAM non-root; null when the core runs bare (tests of the core): then nothing causes a VM exit. */
  readonly controls: GuestControls | null;
  /** Physical memory (u8 view over host physical memory: index = hpa), for structures named by physical address. */
  readonly physical: DataView;
  /** Linear address of the instruction's memory operand (segment base added, canonicality or limit checked for `bytes`). */
  linearAddress(instruction: Instruction, bytes: number): bigint;
  /** The TD's TSC now. */
  tsc(): bigint;
  random64(): bigint;
  /** Drops cached translations: of one page, of all but global pages, of everything. */
  flushPage(address: bigint): void;
  flushNonGlobal(): void;
  flushAll(): void;
  /**
   * To be called after a change of CPL, CS, CR0, CR3, CR4, EFER or RFLAGS.AC: takes the new mode into the executor
   * (TLB in use, code table, paging mode).
   */
  modeChanged(): void;
}

/**
 * Carries out one system instruction. RIP is the instruction's own address while it runs. It throws before any change, or
 * makes all its changes and returns.
 */
export type SystemOperation = (environment: CpuEnvironment, instruction: Instruction) => SystemResult;

/**
 * "next": go on behind the instruction (the core advances RIP). "jump": RIP has been set by the operation. A VM exit: the instruction
 * exits instead (it may be thrown as well).
 */
export type SystemResult = "next" | "jump" | VmExitSignal;
