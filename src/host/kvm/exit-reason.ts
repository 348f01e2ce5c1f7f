import { LINUX_TDX_STATUS } from "../../arch/linux-tdx-errno.js";
import { TDVMCALL } from "../../arch/tdx-abi.js";
import { EXIT_REASON } from "../../arch/vmx.js";

/** KVM's exit reason where RAX says nothing that can be one (-1). */
export const INVALID_EXIT_REASON = 0xffff_ffff;

const high32 = (status: bigint): number => Number(status >> 32n);

/** Status classes whose low half is an exit reason, by their upper 32 bits (kvm-tdx-host 1.2). */
const REASON_CLASSES: ReadonlySet<number> = new Set(
  [
    LINUX_TDX_STATUS.SUCCESS,
    LINUX_TDX_STATUS.NON_RECOVERABLE_VCPU,
    LINUX_TDX_STATUS.NON_RECOVERABLE_TD,
    LINUX_TDX_STATUS.NON_RECOVERABLE_TD_NON_ACCESSIBLE,
    LINUX_TDX_STATUS.NON_RECOVERABLE_TD_WRONG_APIC_MODE,
  ].map(high32),
);

/** TDVMCALLs that KVM treats as the exit of the instruction that they stand for; MMIO goes by EPT_MISCONFIG. */
const REASON_OF_TDVMCALL = new Map<number, number>([
  [TDVMCALL.CPUID, EXIT_REASON.CPUID],
  [TDVMCALL.HLT, EXIT_REASON.HLT],
  [TDVMCALL.IO, EXIT_REASON.IO_INSTRUCTION],
  [TDVMCALL.RDMSR, EXIT_REASON.MSR_READ],
  [TDVMCALL.WRMSR, EXIT_REASON.MSR_WRITE],
  [TDVMCALL.MMIO, EXIT_REASON.EPT_MISCONFIG],
]);

/**
 * The exit reason that KVM makes of TDH.VP.ENTER's outputs (tdx_to_vmx_exit_reason), by halves of RAX, R10 and R11. A true EPT
 * misconfiguration is no reason for the table, because 49 stands for MMIO there.
 */
export function synthesizeExitReason(
  raxHigh: number,
  raxLow: number,
  r10IsZero: boolean,
  r11High: number,
  r11Low: number,
): number {
  if (raxHigh !== 0 && !REASON_CLASSES.has(raxHigh)) return INVALID_EXIT_REASON;
  if (raxLow === EXIT_REASON.TDCALL) {
    if (!r10IsZero) return EXIT_REASON.VMCALL;
    return (r11High === 0 ? REASON_OF_TDVMCALL.get(r11Low) : undefined) ?? EXIT_REASON.TDCALL;
  }
  return raxLow === EXIT_REASON.EPT_MISCONFIG ? INVALID_EXIT_REASON : raxLow;
}

/** Basic reason of a synthesized one: bits 15:0. */
export const basicReason = (reason: number): number => reason & 0xffff;
