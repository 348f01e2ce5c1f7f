import {
  KVM_EXIT,
  KVM_EXIT_IO_IN,
  KVM_EXIT_IO_OUT,
  KVM_MP_STATE,
  KVM_MSR_EXIT_REASON_INVAL,
  KVM_SYSTEM_EVENT_TDX_FATAL,
} from "../../arch/kvm-uapi.js";
import { TDVMCALL, TDVMCALL_STATUS } from "../../arch/tdx-abi.js";
import { GPR } from "../../platform/seam.js";
import { handleMapGpa } from "./map-gpa.js";
import { traceCpuid, traceMmio, traceMsr, tracePio } from "./trace.js";
import type { Vcpu } from "./vcpu.js";

/**
 * TDG.VP.VMCALL as KVM answers it (kvm-tdx-host 2). The guest's registers are edited in place and go back with the next
 * TDH.VP.ENTER: what is not written here, the guest gets back as it sent it, R10 = 0 for success included.
 */

const RESUME = 1;
const TO_USER = 0;
const ENTRY = { eax: 0, ebx: 0, ecx: 0, edx: 0, found: false, usedMaxBasic: false };
const SIZE_OF_IO: ReadonlySet<number> = new Set([1, 2, 4]);
const SIZE_OF_MMIO: ReadonlySet<number> = new Set([1, 2, 4, 8]);

export function refuse(vcpu: Vcpu, status: bigint): number {
  vcpu.regs[GPR.R10] = status;
  return RESUME;
}

export function handleCpuid(vcpu: Vcpu): number {
  const leaf = vcpu.low(GPR.R12);
  const index = vcpu.low(GPR.R13);
  vcpu.cpuid.query(leaf, index, ENTRY);
  vcpu.setNumber(GPR.R12, ENTRY.eax);
  vcpu.setNumber(GPR.R13, ENTRY.ebx);
  vcpu.setNumber(GPR.R14, ENTRY.ecx);
  vcpu.setNumber(GPR.R15, ENTRY.edx);
  if (vcpu.wants("kvm-cpuid")) traceCpuid(vcpu, leaf, index, ENTRY);
  return RESUME;
}

/** The run loop puts the thread to sleep. */
export function handleHlt(vcpu: Vcpu): number {
  vcpu.stats.haltExits++;
  vcpu.mpState = vcpu.hasEvents() ? KVM_MP_STATE.RUNNABLE : KVM_MP_STATE.HALTED;
  return RESUME;
}

export function handleIo(vcpu: Vcpu): number {
  vcpu.stats.ioExits++;
  const size = vcpu.low(GPR.R12);
  const write = vcpu.low(GPR.R13);
  const wide = vcpu.high(GPR.R12) !== 0 || vcpu.high(GPR.R13) !== 0;
  if (wide || write > 1 || !SIZE_OF_IO.has(size)) return refuse(vcpu, TDVMCALL_STATUS.INVALID_OPERAND);
  const { kvmRun } = vcpu;
  const { io } = kvmRun;
  kvmRun.exitReason = KVM_EXIT.IO;
  io.direction = write === 1 ? KVM_EXIT_IO_OUT : KVM_EXIT_IO_IN;
  io.size = size;
  io.port = vcpu.low(GPR.R14) & 0xffff;
  io.count = 1;
  if (write === 1) {
    io.data.setUint32(0, vcpu.low(GPR.R15), true);
    if (vcpu.wants("kvm-pio")) tracePio(vcpu, vcpu.low(GPR.R15));
    vcpu.completion = null;
  } else {
    io.data.setUint32(0, 0, true);
    vcpu.completion = completeIoIn;
  }
  return TO_USER;
}

function completeIoIn(vcpu: Vcpu): number {
  const { io } = vcpu.kvmRun;
  const value =
    io.size === 1 ? io.data.getUint8(0) : io.size === 2 ? io.data.getUint16(0, true) : io.data.getUint32(0, true);
  vcpu.setNumber(GPR.R11, value);
  if (vcpu.wants("kvm-pio")) tracePio(vcpu, value);
  return RESUME;
}

/** TDVMCALL MMIO, by the name of the exit that it stands for in an ordinary VM. No device is emulated in the kernel. */
export function handleMmio(vcpu: Vcpu): number {
  const size = vcpu.low(GPR.R12);
  const write = vcpu.low(GPR.R13);
  if (write > 1 || !SIZE_OF_MMIO.has(size)) return refuse(vcpu, TDVMCALL_STATUS.INVALID_OPERAND);
  const { sharedBit } = vcpu.vm.td;
  const gpa = vcpu.number(GPR.R14);
  // Both ends must be shared; the bit is the highest of a legal address.
  if (!isShared(gpa, sharedBit) || !isShared(gpa + size - 1, sharedBit)) {
    return refuse(vcpu, TDVMCALL_STATUS.INVALID_OPERAND);
  }
  const { kvmRun } = vcpu;
  const { mmio } = kvmRun;
  kvmRun.exitReason = KVM_EXIT.MMIO;
  mmio.physAddr = gpa - sharedBit;
  mmio.len = size;
  mmio.isWrite = write === 1;
  if (write === 1) {
    mmio.data.setUint32(0, vcpu.low(GPR.R15), true);
    mmio.data.setUint32(4, vcpu.high(GPR.R15), true);
    if (vcpu.wants("kvm-mmio")) traceMmio(vcpu, "write", vcpu.regs[GPR.R15] ?? 0n);
    vcpu.completion = null;
  } else {
    mmio.data.setBigUint64(0, 0n, true);
    if (vcpu.wants("kvm-mmio")) traceMmio(vcpu, "unsatisfied-read", 0n);
    vcpu.completion = completeMmioRead;
  }
  return TO_USER;
}

const isShared = (gpa: number, sharedBit: number): boolean => Math.floor(gpa / sharedBit) % 2 === 1;

function completeMmioRead(vcpu: Vcpu): number {
  const { mmio } = vcpu.kvmRun;
  const bits = BigInt(8 * mmio.len);
  const value = BigInt.asUintN(Number(bits), mmio.data.getBigUint64(0, true));
  vcpu.regs[GPR.R11] = value;
  if (vcpu.wants("kvm-mmio")) traceMmio(vcpu, "read", value);
  return RESUME;
}

export function handleRdmsr(vcpu: Vcpu): number {
  const index = vcpu.low(GPR.R12);
  const value = vcpu.msrs.read(index, false);
  if (vcpu.wants("kvm-msr")) traceMsr(vcpu, "read", index, value ?? 0n, value === null);
  if (value !== null) {
    vcpu.regs[GPR.R11] = value;
    return RESUME;
  }
  if ((vcpu.vm.userSpaceMsrMask & KVM_MSR_EXIT_REASON_INVAL) === 0) {
    return refuse(vcpu, TDVMCALL_STATUS.INVALID_OPERAND);
  }
  exitForMsr(vcpu, KVM_EXIT.X86_RDMSR, index, 0n);
  vcpu.completion = completeUserMsrRead;
  return TO_USER;
}

export function handleWrmsr(vcpu: Vcpu): number {
  const index = vcpu.low(GPR.R12);
  const value = vcpu.regs[GPR.R13] ?? 0n;
  const done = vcpu.msrs.write(index, value, false);
  if (vcpu.wants("kvm-msr")) traceMsr(vcpu, "write", index, value, !done);
  if (done) return RESUME;
  if ((vcpu.vm.userSpaceMsrMask & KVM_MSR_EXIT_REASON_INVAL) === 0) {
    return refuse(vcpu, TDVMCALL_STATUS.INVALID_OPERAND);
  }
  exitForMsr(vcpu, KVM_EXIT.X86_WRMSR, index, value);
  vcpu.completion = completeUserMsrWrite;
  return TO_USER;
}

function exitForMsr(vcpu: Vcpu, exitReason: number, index: number, data: bigint): void {
  const { kvmRun } = vcpu;
  kvmRun.exitReason = exitReason;
  kvmRun.msr.error = 0;
  kvmRun.msr.reason = KVM_MSR_EXIT_REASON_INVAL;
  kvmRun.msr.index = index;
  kvmRun.msr.data = data;
}

function completeUserMsrRead(vcpu: Vcpu): number {
  const { msr } = vcpu.kvmRun;
  if (msr.error !== 0) return refuse(vcpu, TDVMCALL_STATUS.INVALID_OPERAND);
  vcpu.regs[GPR.R11] = msr.data;
  return RESUME;
}

function completeUserMsrWrite(vcpu: Vcpu): number {
  return vcpu.kvmRun.msr.error === 0 ? RESUME : refuse(vcpu, TDVMCALL_STATUS.INVALID_OPERAND);
}

/** Leaves of their own (reason 77), by R11. */
const LEAVES = new Map<number, (vcpu: Vcpu) => number>([
  [TDVMCALL.GET_TD_VM_CALL_INFO, handleGetTdVmCallInfo],
  [TDVMCALL.MAP_GPA, handleMapGpa],
  [TDVMCALL.GET_QUOTE, handleGetQuote],
  [TDVMCALL.REPORT_FATAL_ERROR, handleReportFatalError],
  [TDVMCALL.SETUP_EVENT_NOTIFY_INTERRUPT, handleSetupEventNotify],
]);

export function handleTdvmcall(vcpu: Vcpu): number {
  const handler = vcpu.high(GPR.R11) === 0 ? LEAVES.get(vcpu.low(GPR.R11)) : undefined;
  return handler === undefined ? refuse(vcpu, TDVMCALL_STATUS.SUBFUNCTION_UNSUPPORTED) : handler(vcpu);
}

function exitForTdx(vcpu: Vcpu, nr: number, ret: bigint): number {
  const { kvmRun } = vcpu;
  kvmRun.exitReason = KVM_EXIT.TDX;
  kvmRun.tdx.flags = 0n;
  kvmRun.tdx.nr = nr;
  // What the guest gets if user space does not know the exit.
  kvmRun.tdx.ret = ret;
  vcpu.completion = completeTdx;
  return TO_USER;
}

function completeTdx(vcpu: Vcpu): number {
  vcpu.regs[GPR.R10] = vcpu.kvmRun.tdx.ret;
  return RESUME;
}

function handleGetTdVmCallInfo(vcpu: Vcpu): number {
  const subleaf = vcpu.regs[GPR.R12];
  if (subleaf === 0n) {
    for (const register of [GPR.R10, GPR.R11, GPR.R12, GPR.R13, GPR.R14]) vcpu.regs[register] = 0n;
    return RESUME;
  }
  if (subleaf !== 1n) return refuse(vcpu, TDVMCALL_STATUS.INVALID_OPERAND);
  const info = vcpu.kvmRun.tdx.getTdvmcallInfo;
  info.leaf = subleaf;
  info.r11 = info.r12 = info.r13 = info.r14 = 0n;
  exitForTdx(vcpu, TDVMCALL.GET_TD_VM_CALL_INFO, TDVMCALL_STATUS.SUCCESS);
  vcpu.completion = completeGetTdVmCallInfo;
  return TO_USER;
}

function completeGetTdVmCallInfo(vcpu: Vcpu): number {
  const { getTdvmcallInfo: info, ret } = vcpu.kvmRun.tdx;
  vcpu.regs[GPR.R10] = ret;
  vcpu.regs[GPR.R11] = info.r11;
  vcpu.regs[GPR.R12] = info.r12;
  vcpu.regs[GPR.R13] = info.r13;
  vcpu.regs[GPR.R14] = info.r14;
  return RESUME;
}

function handleGetQuote(vcpu: Vcpu): number {
  const { sharedBit } = vcpu.vm.td;
  const gpa = vcpu.regs[GPR.R12] ?? 0n;
  if ((gpa & BigInt(sharedBit)) === 0n) return refuse(vcpu, TDVMCALL_STATUS.INVALID_OPERAND);
  vcpu.kvmRun.tdx.getQuote.gpa = gpa & ~BigInt(sharedBit);
  vcpu.kvmRun.tdx.getQuote.size = vcpu.regs[GPR.R13] ?? 0n;
  return exitForTdx(vcpu, TDVMCALL.GET_QUOTE, TDVMCALL_STATUS.SUBFUNCTION_UNSUPPORTED);
}

function handleSetupEventNotify(vcpu: Vcpu): number {
  const vector = vcpu.regs[GPR.R12] ?? 0n;
  if (vector < 32n || vector > 255n) return refuse(vcpu, TDVMCALL_STATUS.INVALID_OPERAND);
  vcpu.kvmRun.tdx.setupEventNotify.vector = vector;
  return exitForTdx(vcpu, TDVMCALL.SETUP_EVENT_NOTIFY_INTERRUPT, TDVMCALL_STATUS.SUBFUNCTION_UNSUPPORTED);
}

/** All registers go to user space, in the order of their numbers; RSP and RBP of a TD are not to be seen. */
function handleReportFatalError(vcpu: Vcpu): number {
  const { kvmRun, regs } = vcpu;
  const { systemEvent } = kvmRun;
  kvmRun.exitReason = KVM_EXIT.SYSTEM_EVENT;
  systemEvent.type = KVM_SYSTEM_EVENT_TDX_FATAL;
  systemEvent.ndata = 16;
  systemEvent.data.set(regs);
  systemEvent.data[GPR.RAX] = vcpu.status;
  systemEvent.data[GPR.RSP] = 0n;
  systemEvent.data[GPR.RBP] = 0n;
  vcpu.completion = null;
  return TO_USER;
}
