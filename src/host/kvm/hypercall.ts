import { DELIVERY_MODE, DELIVERY_MODE_SHIFT, ICR } from "../../arch/apic.js";
import {
  KVM_CPUID_FEATURES,
  KVM_ENOSYS,
  KVM_EXIT,
  KVM_EXIT_HYPERCALL_LONG_MODE,
  KVM_FEATURE,
  KVM_HC,
} from "../../arch/kvm-uapi.js";
import { GPR } from "../../platform/seam.js";
import { traceHypercall } from "./trace.js";
import type { Vcpu } from "./vcpu.js";

const RESUME = 1;
const TO_USER = 0;
const NO_SUCH_CALL = BigInt.asUintN(64, BigInt(-KVM_ENOSYS));
/** KVM_HC_SEND_IPI in a 64-bit guest: 128 destinations in two bitmaps. */
const IPI_BITMAP_BITS = 64;

/** Hypercalls with the feature bit of CPUID 0x40000001 that offers them; null: always there. */
const FEATURE_OF_HYPERCALL = new Map<number, number | null>([
  [KVM_HC.VAPIC_POLL_IRQ, null],
  [KVM_HC.KICK_CPU, KVM_FEATURE.PV_UNHALT],
  [KVM_HC.SEND_IPI, KVM_FEATURE.PV_SEND_IPI],
  [KVM_HC.SCHED_YIELD, KVM_FEATURE.PV_SCHED_YIELD],
]);

/** TDVMCALL with R10 != 0: KVM's own hypercalls. Number in R10, arguments from R11 on, result in R10 (kvm-tdx-host 2.9). */
export function handleHypercall(vcpu: Vcpu): number {
  vcpu.stats.hypercalls++;
  const { regs } = vcpu;
  const nr = regs[GPR.R10] ?? 0n;
  const args = [regs[GPR.R11] ?? 0n, regs[GPR.R12] ?? 0n, regs[GPR.R13] ?? 0n, regs[GPR.R14] ?? 0n] as const;
  if (vcpu.wants("kvm-hypercall")) traceHypercall(vcpu, nr, args);
  if (nr === BigInt(KVM_HC.MAP_GPA_RANGE)) return mapGpaRange(vcpu, args);
  regs[GPR.R10] = isOffered(vcpu, Number(nr)) ? perform(vcpu, Number(nr), args) : NO_SUCH_CALL;
  return RESUME;
}

function isOffered(vcpu: Vcpu, nr: number): boolean {
  const feature = FEATURE_OF_HYPERCALL.get(nr);
  if (feature === undefined) return false;
  if (feature === null) return true;
  const eax = vcpu.cpuid.find(KVM_CPUID_FEATURES, 0)?.eax ?? 0;
  return ((eax >>> feature) & 1) === 1;
}

function perform(vcpu: Vcpu, nr: number, args: readonly [bigint, bigint, bigint, bigint]): bigint {
  switch (nr) {
    case KVM_HC.KICK_CPU:
      vcpu.vm.vcpuById(Number(args[1]))?.unhalt();
      return 0n;
    case KVM_HC.SEND_IPI:
      return sendIpi(vcpu, args);
    default:
      return 0n;
  }
}

/** How many of the destinations accepted the interrupt. */
function sendIpi(vcpu: Vcpu, [low, high, first, icr]: readonly [bigint, bigint, bigint, bigint]): bigint {
  const icrLow = Number(icr & 0xffff_ffffn);
  const mode = (icrLow >>> DELIVERY_MODE_SHIFT) & 7;
  if (mode !== DELIVERY_MODE.FIXED && mode !== DELIVERY_MODE.NMI) return NO_SUCH_CALL;
  let delivered = 0n;
  for (const [i, bitmap] of [low, high].entries()) {
    for (let bit = 0; bit < IPI_BITMAP_BITS; bit++) {
      if (((bitmap >> BigInt(bit)) & 1n) === 0n) continue;
      const target = vcpu.vm.vcpuById(Number(first) + IPI_BITMAP_BITS * i + bit);
      if (target?.acceptIrq(mode, icrLow & ICR.VECTOR_MASK) === true) delivered++;
    }
  }
  return delivered;
}

/** As MapGPA, but user space sees the arguments as they are. */
function mapGpaRange(vcpu: Vcpu, args: readonly [bigint, bigint, bigint, bigint]): number {
  const { kvmRun, regs } = vcpu;
  if ((vcpu.vm.hypercallExits & (1 << KVM_HC.MAP_GPA_RANGE)) === 0) {
    regs[GPR.R10] = NO_SUCH_CALL;
    return RESUME;
  }
  kvmRun.exitReason = KVM_EXIT.HYPERCALL;
  kvmRun.hypercall.nr = KVM_HC.MAP_GPA_RANGE;
  kvmRun.hypercall.ret = 0n;
  args.forEach((arg, i) => {
    kvmRun.hypercall.args[i] = arg;
  });
  kvmRun.hypercall.flags = KVM_EXIT_HYPERCALL_LONG_MODE;
  vcpu.completion = completeMapGpaRange;
  return TO_USER;
}

function completeMapGpaRange(vcpu: Vcpu): number {
  vcpu.regs[GPR.R10] = vcpu.kvmRun.hypercall.ret;
  return RESUME;
}
