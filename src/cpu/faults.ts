import type { VmExit } from "./vm-exit.js";

/** Exception vectors (SDM 3A 6.3.1). */
export const VECTOR = {
  DE: 0,
  DB: 1,
  NMI: 2,
  BP: 3,
  OF: 4,
  BR: 5,
  UD: 6,
  NM: 7,
  DF: 8,
  TS: 10,
  NP: 11,
  SS: 12,
  GP: 13,
  PF: 14,
  MF: 16,
  AC: 17,
  MC: 18,
  XM: 19,
  VE: 20,
} as const;

/**
 * An exception that an instruction raises. It is thrown before the instruction has changed anything, and delivered by the
 * core; it never leaves `cpu/`.
 */
export class CpuException {
  constructor(
    readonly vector: number,
    /** Error code, or null for a vector that pushes none. */
    readonly errorCode: number | null = null,
    /** Linear address for CR2 (#PF only). */
    readonly address: bigint = 0n,
  ) {}
}

export const invalidOpcode = (): CpuException => new CpuException(VECTOR.UD);
export const generalProtection = (errorCode = 0): CpuException => new CpuException(VECTOR.GP, errorCode);

/** A VM exit that an instruction causes instead of completing; thrown like an exception, before any change. */
export class VmExitSignal {
  readonly exit: VmExit;

  constructor({
    reason,
    qualification = 0n,
    guestLinearAddress = 0n,
    guestPhysicalAddress = 0,
    instructionLength = 0,
    instructionInfo = 0,
  }: ExitCause) {
    this.exit = {
      reason,
      qualification,
      guestLinearAddress,
      guestPhysicalAddress,
      interruptionInfo: 0,
      interruptionErrorCode: 0,
      idtVectoringInfo: 0,
      idtVectoringErrorCode: 0,
      instructionLength,
      instructionInfo,
    };
  }
}

/** What an instruction says of the exit that it causes. */
export type ExitCause = Pick<VmExit, "reason"> &
  Partial<
    Pick<
      VmExit,
      "qualification" | "guestLinearAddress" | "guestPhysicalAddress" | "instructionLength" | "instructionInfo"
    >
  >;
