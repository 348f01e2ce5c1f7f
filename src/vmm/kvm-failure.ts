import { errnoName } from "../arch/errno.js";
import { VmmError } from "./vmm-error.js";

/** Throws if an ioctl failed; otherwise gives its result. */
export function succeed<T>(ioctl: string, result: T | number): T {
  if (typeof result === "number" && result < 0) throw failure(ioctl, result);
  return result as T;
}

function failure(ioctl: string, result: number): VmmError {
  return new VmmError(
    "KVM_FAILED",
    `${ioctl} failed: ${errnoName(-result)}`,
    "this is an internal error unless the host's memory is too small for the guest",
  );
}
