import { kvmExitName } from "../../arch/kvm-uapi.js";
import { linuxExitSymbol } from "../../arch/linux-vmx-reasons.js";
import { GPR } from "../../platform/seam.js";
import type { CpuidResult } from "./cpuid.js";
import { basicReason, INVALID_EXIT_REASON } from "./exit-reason.js";
import type { Vcpu } from "./vcpu.js";

/**
 * KVM's trace points as events of the layer "kvm" (kvm-tdx-host 7): same names with hyphens, same values. Callers ask `wants`
 * first.
 */
type Fields = Readonly<Record<string, string | number | bigint | boolean | null>>;

function emit(vcpu: Vcpu, event: string, fields: Fields): void {
  vcpu.vm.kernel.hardware.events.emit("kvm", event, vcpu.cpu.lp.id, vcpu.id, fields);
}

/** RIP of a TD is nobody's business: 0. */
export function traceEntry(vcpu: Vcpu): void {
  emit(vcpu, "kvm-entry", { rip: 0n });
}

export function traceExit(vcpu: Vcpu): void {
  const { exitReason: reason, regs } = vcpu;
  const known = reason !== INVALID_EXIT_REASON;
  emit(vcpu, "kvm-exit", {
    reason,
    name: linuxExitSymbol(basicReason(reason)),
    rip: 0n,
    info1: known ? (regs[GPR.RCX] ?? 0n) : 0n,
    info2: known ? (regs[GPR.RDX] ?? 0n) : 0n,
    intrInfo: known ? BigInt(vcpu.interruptionInfo) : 0n,
    errorCode: 0n,
    status: vcpu.status,
  });
}

export function traceUserspaceExit(vcpu: Vcpu, errno: number): void {
  const { exitReason: reason } = vcpu.kvmRun;
  const name = errno === 0 ? kvmExitName(reason) : errno === -4 ? "restart" : "error";
  emit(vcpu, "kvm-userspace-exit", { reason, name, errno });
}

export function tracePio(vcpu: Vcpu, value: number): void {
  const { io } = vcpu.kvmRun;
  const direction = io.direction === 1 ? "write" : "read";
  const val = BigInt(io.size === 4 ? value >>> 0 : value & (io.size === 2 ? 0xffff : 0xff));
  emit(vcpu, "kvm-pio", { direction, port: io.port, size: io.size, count: 1, val });
}

export function traceMmio(vcpu: Vcpu, type: "read" | "write" | "unsatisfied-read", val: bigint): void {
  const { mmio } = vcpu.kvmRun;
  emit(vcpu, "kvm-mmio", { type, len: mmio.len, gpa: BigInt(mmio.physAddr), val });
}

export function traceMsr(vcpu: Vcpu, direction: "read" | "write", index: number, data: bigint, refused: boolean): void {
  emit(vcpu, "kvm-msr", { direction, index, data, refused });
}

export function traceCpuid(vcpu: Vcpu, func: number, index: number, result: CpuidResult): void {
  const { eax, ebx, ecx, edx, found, usedMaxBasic } = result;
  emit(vcpu, "kvm-cpuid", {
    func,
    index,
    rax: BigInt(eax),
    rbx: BigInt(ebx),
    rcx: BigInt(ecx),
    rdx: BigInt(edx),
    found,
    usedMaxBasic,
  });
}

export function tracePageFault(vcpu: Vcpu, address: number, errorCode: bigint): void {
  emit(vcpu, "kvm-page-fault", { rip: 0n, address: BigInt(address), errorCode });
}

export function traceAcceptIrq(vcpu: Vcpu, vector: number, deliveryMode: number): void {
  emit(vcpu, "kvm-apicv-accept-irq", { vector, deliveryMode });
}

export function traceHypercall(vcpu: Vcpu, nr: bigint, args: readonly [bigint, bigint, bigint, bigint]): void {
  const [a0, a1, a2, a3] = args;
  emit(vcpu, "kvm-hypercall", { nr, a0, a1, a2, a3 });
}
