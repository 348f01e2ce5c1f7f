import { ERRNO } from "../../../arch/errno.js";
import { KVM_TDX_MEASURE_MEMORY_REGION } from "../../../arch/kvm-uapi.js";
import { isPageAligned, PAGE_SIZE } from "../../mm/page.js";
import type { Vcpu } from "../vcpu.js";
import { isBusy, TD_STATE } from "./td.js";

/** struct kvm_tdx_init_mem_region: advances with what was done, also where the command fails. `sourceAddr` is a user address. */
export interface KvmTdxInitMemRegion {
  sourceAddr: number;
  gpa: number;
  nrPages: number;
}

/** MR.EXTEND takes this many bytes at a time. */
const EXTEND_CHUNK = 256;

/** KVM_TDX_INIT_MEM_REGION: adds pages of user memory to the TD, page by page, and measures them if asked to. */
export function initMemRegion(vcpu: Vcpu, flags: number, region: KvmTdxInitMemRegion): number {
  const { vm } = vcpu;
  if (!vcpu.tdVcpu.initialized || vm.td.state === TD_STATE.RUNNABLE) return -ERRNO.EINVAL;
  if ((flags & ~KVM_TDX_MEASURE_MEMORY_REGION) !== 0) return -ERRNO.EINVAL;
  const { sourceAddr, gpa, nrPages } = region;
  if (!isPageAligned(sourceAddr) || sourceAddr <= 0 || !isPageAligned(gpa) || gpa < 0 || nrPages <= 0)
    return -ERRNO.EINVAL;
  if (gpa + nrPages * PAGE_SIZE > vm.td.sharedBit) return -ERRNO.EINVAL;
  const measure = (flags & KVM_TDX_MEASURE_MEMORY_REGION) !== 0;
  return vm.kernel.tdxOn(vcpu.cpu.lp, () => {
    while (region.nrPages > 0) {
      if (vcpu.hasSignal) return -ERRNO.EINTR;
      const error = addPage(vcpu, region.gpa, region.sourceAddr, measure);
      if (error !== 0) return error;
      region.gpa += PAGE_SIZE;
      region.sourceAddr += PAGE_SIZE;
      region.nrPages--;
    }
    return 0;
  });
}

function addPage(vcpu: Vcpu, gpa: number, sourceAddr: number, measure: boolean): number {
  const { mmu, td, kernel } = vcpu.vm;
  const gfn = gpa / PAGE_SIZE;
  const slot = mmu.slots.find(gfn);
  if (slot === undefined || slot.gmem === null || !mmu.attributes.has(gfn)) return -ERRNO.EINVAL;
  const source = kernel.userMemory.hvaToHpa(sourceAddr, true);
  if (source === null) return -ERRNO.EFAULT;
  if (source < 0) return source;
  if (mmu.mirror.lookup(gfn) !== null) return -ERRNO.EEXIST;
  const page = slot.gmem.getPage(slot.gmemStart + gfn - slot.baseGfn);
  if (page < 0) return page;
  mmu.tdMemory.source = source;
  const error = mmu.mirror.map(gfn, page);
  mmu.tdMemory.source = null;
  if (error !== 0) return error;
  return measure ? extend(vcpu, gpa, td.tdr) : 0;
}

function extend(vcpu: Vcpu, gpa: number, tdr: number): number {
  const { td } = vcpu.vm;
  for (let offset = 0; offset < PAGE_SIZE; offset += EXTEND_CHUNK) {
    const status = td.leaves.mrExtend(gpa + offset, tdr);
    if (status === 0n) continue;
    if (isBusy(status)) return -ERRNO.EBUSY;
    td.bugOnSept("TDH.MR.EXTEND", status);
    return -ERRNO.EIO;
  }
  return 0;
}
