import { ERRNO } from "../../arch/errno.js";
import {
  KVM_EXIT,
  KVM_EXIT_HYPERCALL_LONG_MODE,
  KVM_HC,
  KVM_MAP_GPA_RANGE_DECRYPTED,
  KVM_MAP_GPA_RANGE_ENCRYPTED,
} from "../../arch/kvm-uapi.js";
import { TDVMCALL_STATUS } from "../../arch/tdx-abi.js";
import { GPR } from "../../platform/seam.js";
import type { Vcpu } from "./vcpu.js";

/** One exit converts at most this much, counted from the start (TDX_MAP_GPA_MAX_LEN). */
const CHUNK = 0x20_0000n;
const PAGE_MASK = 0xfffn;
const PAGE_SHIFT = 12n;
const RESUME = 1;
const TO_USER = 0;

/** TDVMCALL MapGPA: the guest wants a range shared or private; user space does it, chunk by chunk (kvm-tdx-host 2.8). */
export function handleMapGpa(vcpu: Vcpu): number {
  const gpa = vcpu.regs[GPR.R12] ?? 0n;
  const size = vcpu.regs[GPR.R13] ?? 0n;
  const refusal = check(vcpu, gpa, size);
  if (refusal !== null) return stop(vcpu, refusal, gpa);
  vcpu.mapGpaNext = gpa;
  vcpu.mapGpaEnd = gpa + size;
  return mapChunk(vcpu);
}

function check(vcpu: Vcpu, gpa: bigint, size: bigint): bigint | null {
  if ((vcpu.vm.hypercallExits & (1 << KVM_HC.MAP_GPA_RANGE)) === 0) return TDVMCALL_STATUS.SUBFUNCTION_UNSUPPORTED;
  const end = BigInt.asUintN(64, gpa + size);
  const last = BigInt.asUintN(64, end - 1n);
  const legal = (address: bigint): boolean => address >> BigInt(vcpu.cpuid.maxPhysicalAddressBits) === 0n;
  const shared = BigInt(vcpu.vm.td.sharedBit);
  if (end <= gpa || !legal(gpa) || !legal(last) || ((gpa ^ last) & shared) !== 0n) {
    return TDVMCALL_STATUS.INVALID_OPERAND;
  }
  return ((gpa | size) & PAGE_MASK) !== 0n ? TDVMCALL_STATUS.ALIGN_ERROR : null;
}

function mapChunk(vcpu: Vcpu): number {
  const { kvmRun, mapGpaNext: gpa } = vcpu;
  const left = vcpu.mapGpaEnd - gpa;
  const size = left < CHUNK ? left : CHUNK;
  const shared = BigInt(vcpu.vm.td.sharedBit);
  const isPrivate = (gpa & shared) === 0n;
  const { hypercall } = kvmRun;
  kvmRun.exitReason = KVM_EXIT.HYPERCALL;
  hypercall.nr = KVM_HC.MAP_GPA_RANGE;
  hypercall.ret = 0n;
  hypercall.args[0] = gpa & ~shared;
  hypercall.args[1] = size >> PAGE_SHIFT;
  hypercall.args[2] = BigInt(isPrivate ? KVM_MAP_GPA_RANGE_ENCRYPTED : KVM_MAP_GPA_RANGE_DECRYPTED);
  hypercall.flags = KVM_EXIT_HYPERCALL_LONG_MODE;
  vcpu.completion = completeChunk;
  return TO_USER;
}

function completeChunk(vcpu: Vcpu): number {
  const { ret } = vcpu.kvmRun.hypercall;
  if (ret !== 0n) return chunkFailed(vcpu, ret);
  const done = vcpu.mapGpaEnd - vcpu.mapGpaNext;
  vcpu.mapGpaNext += done < CHUNK ? done : CHUNK;
  if (vcpu.mapGpaNext >= vcpu.mapGpaEnd) return RESUME;
  // An interrupt waits: the guest takes it and asks again for the rest.
  if (vcpu.hasEvents()) return stop(vcpu, TDVMCALL_STATUS.RETRY, vcpu.mapGpaNext);
  return mapChunk(vcpu);
}

function chunkFailed(vcpu: Vcpu, ret: bigint): number {
  if (vcpu.vm.kernel.profile === "linux-6.16") return stop(vcpu, TDVMCALL_STATUS.INVALID_OPERAND, vcpu.mapGpaNext);
  switch (ret) {
    case BigInt(ERRNO.EAGAIN):
      return stop(vcpu, TDVMCALL_STATUS.RETRY, vcpu.mapGpaNext);
    case BigInt(ERRNO.EINVAL):
      return stop(vcpu, TDVMCALL_STATUS.INVALID_OPERAND, vcpu.mapGpaNext);
    default:
      return -ERRNO.EINVAL;
  }
}

/** R11 tells how far it went. */
function stop(vcpu: Vcpu, status: bigint, gpa: bigint): number {
  vcpu.regs[GPR.R10] = status;
  vcpu.regs[GPR.R11] = gpa;
  return RESUME;
}
