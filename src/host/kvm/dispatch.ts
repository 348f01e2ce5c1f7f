import { ERRNO } from "../../arch/errno.js";
import { KVM_EXIT, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON } from "../../arch/kvm-uapi.js";
import { LINUX_TDX_STATUS, TDX_ERROR, TDX_NON_RECOVERABLE, TDX_SW_ERROR } from "../../arch/linux-tdx-errno.js";
import { EXIT_FLAG, EXIT_REASON, INTERRUPTION } from "../../arch/vmx.js";
import { handleEptViolation } from "./ept-violation.js";
import { basicReason, INVALID_EXIT_REASON } from "./exit-reason.js";
import { handleHypercall } from "./hypercall.js";
import { handleCpuid, handleHlt, handleIo, handleMmio, handleRdmsr, handleTdvmcall, handleWrmsr } from "./tdvmcall.js";
import type { Vcpu } from "./vcpu.js";

/** 1: resume the guest. 0: KVM_RUN returns with kvm_run filled in. Negative: KVM_RUN fails with that error number. */
export type ExitVerdict = number;
export const RESUME = 1;
export const TO_USER = 0;

const MACHINE_CHECK_VECTOR = 18;
const HIGH = 2 ** 32;
const ERROR_HIGH = Number(TDX_ERROR >> 32n);
const NON_RECOVERABLE_HIGH = Number(TDX_NON_RECOVERABLE >> 32n);
const SW_ERROR_HIGH = Number(TDX_SW_ERROR >> 32n);
const BUSY_HIGH = Number(LINUX_TDX_STATUS.OPERAND_BUSY >> 32n);

/** True if the interruption information tells of an event of this type. */
export function isEvent(info: number, type: number): boolean {
  return (info & INTERRUPTION.VALID) !== 0 && (info & INTERRUPTION.TYPE_MASK) === type;
}
export const isNmi = (info: number): boolean => isEvent(info, INTERRUPTION.TYPE_NMI);
export const isMachineCheck = (info: number): boolean =>
  isEvent(info, INTERRUPTION.TYPE_HARDWARE_EXCEPTION) && (info & INTERRUPTION.VECTOR_MASK) === MACHINE_CHECK_VECTOR;

/** One row of the exit table (kvm-tdx-host 1.7). */
interface ExitRow {
  readonly reason: number;
  readonly handle: (vcpu: Vcpu) => ExitVerdict;
}

const EXIT_TABLE: readonly ExitRow[] = [
  { reason: EXIT_REASON.EXCEPTION_NMI, handle: handleException },
  { reason: EXIT_REASON.EXTERNAL_INTERRUPT, handle: handleExternalInterrupt },
  { reason: EXIT_REASON.TRIPLE_FAULT, handle: handleTripleFault },
  // SMM has served the SMI before KVM's next instruction. An MSMI does not get here: its status is not recoverable.
  { reason: EXIT_REASON.OTHER_SMI, handle: () => RESUME },
  { reason: EXIT_REASON.CPUID, handle: handleCpuid },
  { reason: EXIT_REASON.HLT, handle: handleHlt },
  { reason: EXIT_REASON.VMCALL, handle: handleHypercall },
  { reason: EXIT_REASON.IO_INSTRUCTION, handle: handleIo },
  { reason: EXIT_REASON.MSR_READ, handle: handleRdmsr },
  { reason: EXIT_REASON.MSR_WRITE, handle: handleWrmsr },
  { reason: EXIT_REASON.EPT_VIOLATION, handle: handleEptViolation },
  { reason: EXIT_REASON.EPT_MISCONFIG, handle: handleMmio },
  { reason: EXIT_REASON.TDCALL, handle: handleTdvmcall },
];
const HANDLERS: ((vcpu: Vcpu) => ExitVerdict)[] = [];
for (const { reason, handle } of EXIT_TABLE) HANDLERS[reason] = handle;

/** True if TDH.VP.ENTER was turned away by a lock: KVM goes round the loop and tries again (the only fast path of a TD). */
export function isBusyEntry(statusHigh: number): boolean {
  return statusHigh === BUSY_HIGH;
}

/** True if the SEAMCALL instruction itself failed. */
export function isSoftwareError(statusHigh: number): boolean {
  // Both class bit and all of bits 47:40, which are bits 15:8 of the upper half.
  return (statusHigh & SW_ERROR_HIGH) >>> 0 === SW_ERROR_HIGH >>> 0;
}

/** RAX as it is after success with an EPT misconfiguration. */
export function isTrueMisconfig(statusHigh: number, statusLow: number): boolean {
  return statusHigh === 0 && statusLow === EXIT_REASON.EPT_MISCONFIG;
}

export function isFailedEntry(reason: number): boolean {
  return reason !== INVALID_EXIT_REASON && reason >= EXIT_FLAG.VM_ENTRY_FAILURE;
}

/** tdx_handle_exit: the status first, in this order, and only then the reason. */
export function handleExit(vcpu: Vcpu): ExitVerdict {
  const { statusHigh, statusLow, exitReason } = vcpu;
  if (vcpu.fastpathHandled) return RESUME;
  if (isTrueMisconfig(statusHigh, statusLow)) {
    vcpu.vm.bug();
    return -ERRNO.EIO;
  }
  if (isSoftwareError(statusHigh)) {
    vcpu.vm.bug();
    return unhandled(vcpu);
  }
  if (isFailedEntry(exitReason)) return failedEntry(vcpu);
  const basic = basicReason(exitReason);
  const bad = (statusHigh & (ERROR_HIGH | NON_RECOVERABLE_HIGH)) !== 0;
  if (bad && basic !== EXIT_REASON.TRIPLE_FAULT) {
    vcpu.vm.kernel.printk(`kvm: vcpu${vcpu.id}, guest rIP: 0x0 TD vp_enter_ret 0x${vcpu.status.toString(16)}`);
    return unhandled(vcpu);
  }
  const handler = HANDLERS[basic];
  return handler === undefined ? unhandled(vcpu) : handler(vcpu);
}

/** The whole of RAX goes to user space, not the reason that KVM made of it. */
function unhandled(vcpu: Vcpu): ExitVerdict {
  const { kvmRun } = vcpu;
  kvmRun.exitReason = KVM_EXIT.INTERNAL_ERROR;
  kvmRun.internal.suberror = KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON;
  kvmRun.internal.ndata = 2;
  kvmRun.internal.data[0] = vcpu.status;
  kvmRun.internal.data[1] = BigInt(vcpu.lastEntryCpu);
  return TO_USER;
}

function failedEntry(vcpu: Vcpu): ExitVerdict {
  const { kvmRun } = vcpu;
  kvmRun.exitReason = KVM_EXIT.FAIL_ENTRY;
  kvmRun.failEntry.hardwareEntryFailureReason = BigInt(vcpu.exitReason);
  kvmRun.failEntry.cpu = vcpu.lastEntryCpu;
  return TO_USER;
}

/** NMI and #MC were served with interrupts off. */
function handleException(vcpu: Vcpu): ExitVerdict {
  const info = vcpu.interruptionInfo;
  if (isNmi(info) || isMachineCheck(info)) return RESUME;
  vcpu.kvmRun.exitReason = KVM_EXIT.EXCEPTION;
  vcpu.kvmRun.ex.exception = info & INTERRUPTION.VECTOR_MASK;
  vcpu.kvmRun.ex.errorCode = 0;
  return TO_USER;
}

function handleExternalInterrupt(vcpu: Vcpu): ExitVerdict {
  vcpu.stats.irqExits++;
  return RESUME;
}

function handleTripleFault(vcpu: Vcpu): ExitVerdict {
  vcpu.kvmRun.exitReason = KVM_EXIT.SHUTDOWN;
  return TO_USER;
}

/** RAX of TDH.VP.ENTER. */
export const statusOf = (high: number, low: number): bigint => BigInt(high) * BigInt(HIGH) + BigInt(low);
