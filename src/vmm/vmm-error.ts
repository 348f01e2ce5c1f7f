/** Why a guest cannot be launched, one code per cause. */
export type VmmErrorCode =
  | "KERNEL_NOT_BZIMAGE"
  | "KERNEL_TRUNCATED"
  | "KERNEL_TOO_OLD"
  | "KERNEL_NO_64BIT_ENTRY"
  | "KERNEL_NO_TDX"
  | "INITRD_TOO_LARGE"
  | "CMDLINE_TOO_LONG"
  | "MEMORY_OUT_OF_RANGE"
  | "MEMORY_TOO_SMALL"
  | "VCPUS_OUT_OF_RANGE"
  | "KVM_FAILED";

/** A guest that cannot be launched: what is wrong, and what to do about it. */
export class VmmError extends Error {
  override readonly name = "VmmError";

  constructor(
    readonly code: VmmErrorCode,
    message: string,
    readonly hint: string,
  ) {
    super(message);
  }
}
