import { ERRNO } from "../../arch/errno.js";
import { KVM_EXIT, KVM_MEMORY_EXIT_FLAG_PRIVATE } from "../../arch/kvm-uapi.js";
import { EXTENDED_QUALIFICATION } from "../../arch/tdx-abi.js";
import { EPT_VIOLATION } from "../../arch/vmx.js";
import { GPR } from "../../platform/seam.js";
import { PAGE_SIZE } from "../mm/page.js";
import { type Fault, handleFault, PF } from "./mmu/fault.js";
import { tracePageFault } from "./trace.js";
import type { Vcpu } from "./vcpu.js";

const RESUME = 1;
const EXTENDED_TYPE_MASK = 0xf;
const PERMISSIONS = EPT_VIOLATION.ENTRY_READABLE | EPT_VIOLATION.ENTRY_WRITABLE | EPT_VIOLATION.ENTRY_EXECUTABLE;

/** A true EPT violation (kvm-tdx-host 5.3). */
export function handleEptViolation(vcpu: Vcpu): number {
  const { vm } = vcpu;
  const gpa = vcpu.number(GPR.R8);
  let qualification = vcpu.low(GPR.RCX);
  const { sharedBit } = vm.td;
  const isPrivate = gpa < sharedBit;
  if (isPrivate) {
    if (isAccessBeforeAccept(vcpu)) {
      vm.kernel.printk(`kvm: Guest access before accepting 0x${gpa.toString(16)} on vCPU ${vcpu.id}`);
      vm.markDead();
      return -ERRNO.EIO;
    }
    // Whatever it was: private memory is always mapped for writing.
    qualification = EPT_VIOLATION.WRITE;
  } else if ((qualification & EPT_VIOLATION.FETCH) !== 0) {
    vm.bug();
    return -ERRNO.EIO;
  }
  vcpu.stats.pfTaken++;
  if (vcpu.wants("kvm-page-fault")) tracePageFault(vcpu, gpa, BigInt(qualification));
  const fault: Fault = {
    gfn: Math.floor((isPrivate ? gpa : gpa - sharedBit) / PAGE_SIZE),
    isPrivate,
    task: vcpu.task,
    memoryFault: false,
  };
  // Private faults are retried here and not by entering again: entering too often at one RIP alarms the module.
  for (;;) {
    const result = handleFault(vm.mmu, fault);
    if (result !== PF.RETRY) return conclude(vcpu, fault, result);
    if (!isPrivate || vcpu.hasEvents() || vcpu.hasSignal) return RESUME;
    if (vm.vmDead) return -ERRNO.EIO;
  }
}

function isAccessBeforeAccept(vcpu: Vcpu): boolean {
  const type = vcpu.low(GPR.RDX) & EXTENDED_TYPE_MASK;
  return type === EXTENDED_QUALIFICATION.PENDING_EPT_VIOLATION && (vcpu.low(GPR.RCX) & PERMISSIONS) === 0;
}

function conclude(vcpu: Vcpu, fault: Fault, result: number): number {
  if (result === PF.FIXED) vcpu.stats.pfFixed++;
  if (result === PF.SPURIOUS) vcpu.stats.pfSpurious++;
  if (result >= 0) return RESUME;
  if (fault.memoryFault) fillMemoryFault(vcpu, fault);
  return result;
}

/** KVM_EXIT_MEMORY_FAULT; KVM_RUN fails beside it. */
export function fillMemoryFault(vcpu: Vcpu, fault: Fault): void {
  const { kvmRun } = vcpu;
  kvmRun.exitReason = KVM_EXIT.MEMORY_FAULT;
  kvmRun.memoryFault.flags = fault.isPrivate ? KVM_MEMORY_EXIT_FLAG_PRIVATE : 0;
  kvmRun.memoryFault.gpa = fault.gfn * PAGE_SIZE;
  kvmRun.memoryFault.size = PAGE_SIZE;
}
