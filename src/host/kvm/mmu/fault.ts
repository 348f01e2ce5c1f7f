import { ERRNO } from "../../../arch/errno.js";
import { SI_CODE } from "../../../arch/siginfo.js";
import { PAGE_SIZE } from "../../mm/page.js";
import { memoryErrorSignal, type Task } from "../../mm/task.js";
import type { VmMmu } from "./vm-mmu.js";

/** RET_PF_*: what became of a fault. Negative numbers are errors for KVM_RUN. */
export const PF = { RETRY: 0, FIXED: 1, SPURIOUS: 2, EMULATE: 3 } as const;

/** One fault of a TD. */
export interface Fault {
  /** Without the SHARED bit. */
  gfn: number;
  isPrivate: boolean;
  /** The VMM's thread that the vCPU runs on: SIGBUS goes there. */
  task: Task | null;
  /** KVM_EXIT_MEMORY_FAULT is to be filled in. */
  memoryFault: boolean;
}

/**
 * The fault handler that private and shared accesses have in common, and KVM_PRE_FAULT_MEMORY (kvm-tdx-host 5.3). Order matters:
 * attribute first, then slot, then backing page, then map.
 */
export function handleFault(mmu: VmMmu, fault: Fault): number {
  const { gfn, isPrivate } = fault;
  fault.memoryFault = false;
  if (mmu.attributes.has(gfn) !== isPrivate) return memoryFault(fault, -ERRNO.EFAULT);
  const slot = mmu.slots.find(gfn);
  if (slot === undefined) {
    if (isPrivate) return memoryFault(fault, -ERRNO.EFAULT);
    return mmu.mapMmio(gfn) ? PF.EMULATE : -ERRNO.ENOMEM;
  }
  if (!isPrivate) return mapShared(mmu, fault, slot.userspaceAddr + (gfn - slot.baseGfn) * PAGE_SIZE);
  if (slot.gmem === null) return memoryFault(fault, -ERRNO.EFAULT);
  if (mmu.mirror.lookup(gfn) !== null) return PF.SPURIOUS;
  const hpa = slot.gmem.getPage(slot.gmemStart + gfn - slot.baseGfn);
  if (hpa < 0) return memoryFault(fault, hpa);
  const error = mmu.mirror.map(gfn, hpa);
  if (error === 0) return PF.FIXED;
  return error === -ERRNO.EBUSY ? PF.RETRY : error;
}

function mapShared(mmu: VmMmu, fault: Fault, hva: number): number {
  if (mmu.isSharedMapped(fault.gfn)) return PF.SPURIOUS;
  const hpa = mmu.userMemory.hvaToHpa(hva, true);
  if (hpa === null || hpa === -ERRNO.ENOMEM) return -ERRNO.ENOMEM;
  if (hpa === -ERRNO.EHWPOISON) {
    fault.task?.sendSignal(memoryErrorSignal(SI_CODE.BUS_MCEERR_AR, hva));
    return PF.RETRY;
  }
  if (hpa < 0) return memoryFault(fault, -ERRNO.EFAULT);
  return mmu.mapShared(fault.gfn, hpa) ? PF.FIXED : -ERRNO.ENOMEM;
}

function memoryFault(fault: Fault, error: number): number {
  fault.memoryFault = true;
  return error;
}
