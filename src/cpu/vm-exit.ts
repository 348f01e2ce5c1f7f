/**
 * What a VM exit tells SEAM root: the fields of the VMCS exit-information area, with the architecture's layouts.
 * One object is reused by the core; a handler that keeps it copies it.
 */
export interface VmExit {
  /** Exit reason, 32 bits: basic reason 15:0, flags above (SDM 3C 25.9.1). */
  reason: number;
  /** Exit qualification. */
  qualification: bigint;
  /** Guest linear address, where the reason gives one. */
  guestLinearAddress: bigint;
  /** Guest physical address (EPT violation and misconfiguration), SHARED bit included. */
  guestPhysicalAddress: number;
  /** VM-exit interruption information: vector 7:0, type 10:8, error code valid 11, valid 31. */
  interruptionInfo: number;
  interruptionErrorCode: number;
  /** IDT-vectoring information: the event that was being delivered, same layout. */
  idtVectoringInfo: number;
  idtVectoringErrorCode: number;
  /** VM-exit instruction length in bytes. */
  instructionLength: number;
  /** VM-exit instruction information. */
  instructionInfo: number;
}

/** No field says anything: what an exit starts from. */
export const NO_EXIT: Readonly<VmExit> = {
  reason: 0,
  qualification: 0n,
  guestLinearAddress: 0n,
  guestPhysicalAddress: 0,
  interruptionInfo: 0,
  interruptionErrorCode: 0,
  idtVectoringInfo: 0,
  idtVectoringErrorCode: 0,
  instructionLength: 0,
  instructionInfo: 0,
};

/** An event that VM entry injects (VM-entry interruption information and its companions). */
export interface EntryEvent {
  /** Vector 7:0, type 10:8, deliver error code 11, valid 31; 0: nothing to inject. */
  interruptionInfo: number;
  errorCode: number;
  /** For software interrupts and exceptions. */
  instructionLength: number;
}
