import { ERRNO } from "../../../arch/errno.js";
import { KVM_MP_STATE } from "../../../arch/kvm-uapi.js";
import { LINUX_TDX_STATUS } from "../../../arch/linux-tdx-errno.js";
import { VP_FIELD } from "../../../arch/linux-tdx-fields.js";
import { APIC_BASE } from "../../../arch/msr.js";
import { PIN_POSTED_INTERRUPTS } from "../../../arch/vmx.js";
import type { HardwareLp } from "../../hardware.js";
import { POSTED_INTR_VECTOR } from "../posted-interrupts.js";
import type { Vcpu } from "../vcpu.js";
import { statusClass } from "./td.js";
import { reclaimControlPage } from "./td-teardown.js";

/** `data` of KVM_TDX_INIT_VCPU: the guest's first RCX. */
export type KvmTdxInitVcpu = bigint;

const X2APIC_ECX = 1 << 21;
const MASK_64 = 0xffff_ffff_ffff_ffffn;
const MASK_16 = 0xffffn;

/** The module's side of a vCPU (struct vcpu_tdx). */
export class TdVcpu {
  /** HPA of the TDVPR page, 0 before INIT_VCPU. */
  tdvpr = 0;
  tdcxPages: number[] = [];
  initialized = false;
  /** The processor that the module has the vCPU associated with. */
  associatedWith: HardwareLp | null = null;
}

/** KVM_TDX_INIT_VCPU: VP.CREATE, ADDCX, INIT, then the posted-interrupt fields of the VMCS. */
export function initVcpu(vcpu: Vcpu, flags: number, initialRcx: KvmTdxInitVcpu): number {
  const { tdVcpu, vm } = vcpu;
  if (flags !== 0 || tdVcpu.initialized) return -ERRNO.EINVAL;
  if (((vcpu.cpuid.find(1, 0)?.ecx ?? 0) & X2APIC_ECX) === 0) return -ERRNO.EINVAL;
  vcpu.apicBase =
    APIC_BASE.ADDRESS | APIC_BASE.ENABLE | APIC_BASE.EXTD | (vcpu.id === vm.bootCpuId ? APIC_BASE.BSP : 0n);
  const error = vm.kernel.tdxOn(vcpu.cpu.lp, () => createTdVcpu(vcpu, initialRcx));
  if (error !== 0) return error;
  tdVcpu.initialized = true;
  // There is no INIT and no SIPI: every vCPU starts at the reset vector.
  vcpu.mpState = KVM_MP_STATE.RUNNABLE;
  return 0;
}

function createTdVcpu(vcpu: Vcpu, initialRcx: bigint): number {
  const { tdVcpu, vm } = vcpu;
  const { td, kernel } = vm;
  const count = td.tdx.info.tdvpsPages;
  const pages = Array.from({ length: count }, () => kernel.pages.allocPage());
  const [tdvpr, ...tdcx] = pages.filter((page) => page !== null);
  const free = (unused: readonly number[]): void => {
    for (const page of unused) kernel.pages.freePage(page, td.tdx.lp.id);
  };
  if (tdvpr === undefined || tdcx.length !== count - 1) {
    free(tdvpr === undefined ? [] : [tdvpr, ...tdcx]);
    return -ERRNO.ENOMEM;
  }
  let status = td.leaves.vpCreate(tdvpr, td.tdr);
  if (status !== 0n) {
    free([tdvpr, ...tdcx]);
    return fail(vcpu, "TDH.VP.CREATE", status);
  }
  tdVcpu.tdvpr = tdvpr;
  for (const [i, page] of tdcx.entries()) {
    status = td.leaves.vpAddcx(page, tdvpr);
    if (status !== 0n) {
      free(tdcx.slice(i));
      return fail(vcpu, "TDH.VP.ADDCX", status);
    }
    tdVcpu.tdcxPages.push(page);
  }
  status = td.leaves.vpInit(tdvpr, initialRcx, vcpu.id);
  if (status !== 0n) return fail(vcpu, "TDH.VP.INIT", status);
  tdVcpu.associatedWith = td.tdx.lp;
  const written =
    vcpu.writeVp(VP_FIELD.POSTED_INTR_NV, BigInt(POSTED_INTR_VECTOR), MASK_16) &&
    vcpu.writeVp(VP_FIELD.POSTED_INTR_DESC_ADDR, BigInt(vcpu.pi.hpa), MASK_64) &&
    vcpu.writeVp(VP_FIELD.PIN_BASED_CONTROLS, BigInt(PIN_POSTED_INTERRUPTS), BigInt(PIN_POSTED_INTERRUPTS));
  return written ? 0 : -ERRNO.EIO;
}

function fail(vcpu: Vcpu, leaf: string, status: bigint): number {
  vcpu.vm.td.bugOn(leaf, status);
  return -ERRNO.EIO;
}

/** VP.FLUSH on the processor that the vCPU is associated with (tdx_flush_vp). */
export function flushVcpu(vcpu: Vcpu): void {
  const { tdVcpu, vm } = vcpu;
  const lp = tdVcpu.associatedWith;
  if (lp === null) return;
  const status = vm.kernel.tdxOn(lp, () => vm.td.leaves.vpFlush(tdVcpu.tdvpr));
  tdVcpu.associatedWith = null;
  if (status === 0n || statusClass(status) === LINUX_TDX_STATUS.VCPU_NOT_ASSOCIATED) return;
  vm.td.bugOn("TDH.VP.FLUSH", status);
}

/** The vCPU's pages at the end of the TD (tdx_vcpu_free). With the KeyID still assigned they are lost. */
export function freeVcpu(vcpu: Vcpu): void {
  const { tdVcpu, vm } = vcpu;
  if (vm.td.hkidAssigned || tdVcpu.tdvpr === 0) return;
  for (const page of tdVcpu.tdcxPages.splice(0)) reclaimControlPage(vm.td, page);
  reclaimControlPage(vm.td, tdVcpu.tdvpr);
  tdVcpu.tdvpr = 0;
  tdVcpu.initialized = false;
}
