/** Names of the host kernels that a machine can be created with (facts README, "Where the sources disagree"). */
export type HostProfile = "fixed" | "linux-6.16";

/** What differs between host kernels in machine check and memory failure. */
export interface MemoryErrorQuirks {
  /** The #MC handler takes the KeyID out of MCi_ADDR before it looks for the page (smi-mca facts 3.8). */
  readonly masksKeyId: boolean;
  /** Truncation of a poisoned page understands MF_DELAYED; else it is taken for a failure (kvm-tdx-host facts 5.8). */
  readonly truncationKnowsDelayed: boolean;
}

export const MEMORY_ERROR_QUIRKS: Readonly<Record<HostProfile, MemoryErrorQuirks>> = {
  fixed: { masksKeyId: true, truncationKnowsDelayed: true },
  "linux-6.16": { masksKeyId: false, truncationKnowsDelayed: false },
};
