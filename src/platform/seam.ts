import type { GuestCpu } from "../cpu/guest-cpu.js";
import type { VmExit } from "../cpu/vm-exit.js";
import type { EventFields } from "./event-bus.js";

/**
 * The seam between platform and TDX module: what the module may ask of the logical processor that it runs on, and the one
 * door by which the host reaches it. Unit tests and fuzzers of the module implement `SeamContext` themselves.
 */

/** General-purpose registers, RAX..R15 in the order of the encoding. */
export type Gprs = BigUint64Array;
export const GPR = {
  RAX: 0,
  RCX: 1,
  RDX: 2,
  RBX: 3,
  RSP: 4,
  RBP: 5,
  RSI: 6,
  RDI: 7,
  R8: 8,
  R9: 9,
  R10: 10,
  R11: 11,
  R12: 12,
  R13: 13,
  R14: 14,
  R15: 15,
} as const;

/**
 * Physical memory as SEAM root sees it. Every access names the KeyID it is made with (0 and other shared KeyIDs: the
 * host's view). Reading with a private KeyID a line that is not the KeyID's own, or that is poisoned, consumes poison in
 * SEAM root: it throws SeamShutdown. Addresses are host physical, in bytes; scalars are little-endian and aligned.
 */
export interface SeamMemory {
  /** Bytes of host physical memory. */
  readonly size: number;
  read8(hpa: number, keyId: number): number;
  read16(hpa: number, keyId: number): number;
  read32(hpa: number, keyId: number): number;
  read64(hpa: number, keyId: number): bigint;
  write8(hpa: number, value: number, keyId: number): void;
  write16(hpa: number, value: number, keyId: number): void;
  write32(hpa: number, value: number, keyId: number): void;
  write64(hpa: number, value: bigint, keyId: number): void;
  /** A copy of `length` bytes. */
  read(hpa: number, length: number, keyId: number): Uint8Array;
  write(hpa: number, bytes: Uint8Array, keyId: number): void;
  /** Fills whole 64-byte lines (MOVDIR64B): owner, integrity and poison of each are made anew. */
  fill(hpa: number, length: number, value: number, keyId: number): void;
  /** Copies whole lines (MOVDIR64B) from one view to another. */
  copy(fromHpa: number, fromKeyId: number, toHpa: number, toKeyId: number, length: number): void;
}

/** One logical processor in SEAM root. */
export interface SeamContext {
  readonly lp: { readonly id: number; readonly package: number; readonly x2apicId: number };
  readonly platform: {
    readonly packages: number;
    readonly logicalProcessors: number;
    /** KeyIDs: 0..firstPrivateKeyId-1 are shared (0 = TME), the rest up to keyIdCount-1 are private. */
    readonly firstPrivateKeyId: number;
    readonly keyIdCount: number;
    /** Lowest bit of the KeyID field in a physical address; physical address bits below are the address. */
    readonly keyIdShift: number;
    readonly maxPhysicalAddressBits: number;
    /** Convertible memory ranges in bytes. */
    readonly cmrs: readonly { readonly base: number; readonly size: number }[];
  };
  readonly memory: SeamMemory;
  readonly guest: GuestCpu;
  /** RFLAGS.IF of the SEAMCALL's caller. */
  readonly callerInterruptFlag: boolean;
  readMsr(index: number): bigint;
  writeMsr(index: number, value: bigint): void;
  /** Native CPUID: EAX, EBX, ECX, EDX. */
  cpuid(leaf: number, subleaf: number): readonly [number, number, number, number];
  /** RDRAND; deterministic, from the machine's seed. */
  random64(): bigint;
  /** The platform's TSC. */
  tsc(): bigint;
  /** IA32_INTR_PENDING (0x9A): bit 0 INTR, 1 NMI, 2 SMI, whatever is blocked. */
  pendingInterrupts(): number;
  /** VM entry into SEAM non-root; returns at the VM exit. */
  enterGuest(): VmExit;
  /** Sends an interrupt to the own local APIC: fixed vector, or NMI or INIT. */
  selfIpi(kind: "fixed" | "nmi" | "init", vector: number): void;
  /** For observers; `vcpu` is the TD's vCPU index or null. */
  emit(event: string, vcpu: number | null, fields: EventFields): void;
  /** True if somebody listens to this event. */
  wants(event: string): boolean;
}

/** The TDX module: where SEAMCALL lands. It changes `gprs` into what SEAMRET gives back. */
export interface SeamModule {
  seamcall(context: SeamContext, gprs: Gprs): void;
}

/** The processor shut down in SEAM root (poison consumed, or the module's own sanity check): TDX is gone platform-wide. */
export class SeamShutdown extends Error {
  override readonly name = "SeamShutdown";
}
