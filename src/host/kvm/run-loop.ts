import { ERRNO } from "../../arch/errno.js";
import { KVM_EXIT, KVM_MP_STATE } from "../../arch/kvm-uapi.js";
import { VP_FIELD } from "../../arch/linux-tdx-fields.js";
import { X2APIC_MSR } from "../../arch/msr.js";
import { TDH } from "../../arch/tdx-abi.js";
import { EXIT_REASON, INTERRUPTION } from "../../arch/vmx.js";
import { GPR } from "../../platform/seam.js";
import type { SigBus } from "../mm/task.js";
import { failedInstructionStatus } from "../tdx/seamcaller.js";
import {
  handleExit,
  isBusyEntry,
  isEvent,
  isFailedEntry,
  isMachineCheck,
  isNmi,
  isSoftwareError,
  isTrueMisconfig,
} from "./dispatch.js";
import { basicReason, synthesizeExitReason } from "./exit-reason.js";
import { POSTED_INTR_VECTOR } from "./posted-interrupts.js";
import { TD_STATE } from "./tdx/td.js";
import { flushVcpu } from "./tdx/td-vcpu.js";
import { traceEntry, traceExit, traceUserspaceExit } from "./trace.js";
import { MODE, REQUEST, type Vcpu } from "./vcpu.js";

const RESUME = 1;
const MASK_64 = 0xffff_ffff_ffff_ffffn;

/** KVM_RUN (kvm-tdx-host 4): 0 with kvm_run filled in, or an error number, negated. */
export function runVcpu(vcpu: Vcpu): number {
  const { vm } = vcpu;
  if (vm.vmDead) return -ERRNO.EIO;
  const { kernel, td } = vm;
  const { cpu } = vcpu;
  const { current } = cpu;
  const { lp } = td.tdx;
  cpu.current = vcpu.task;
  td.tdx.lp = cpu.lp;
  let signal: SigBus | null;
  let result: number;
  try {
    load(vcpu);
    result = runLoaded(vcpu);
    put(vcpu);
    signal = vcpu.task.returnToUser();
  } finally {
    // A processor or a host that stopped leaves by an exception.
    vcpu.mode = MODE.OUTSIDE_GUEST;
    cpu.current = current;
    td.tdx.lp = lp;
  }
  if (vcpu.wants("kvm-userspace-exit")) traceUserspaceExit(vcpu, result);
  if (signal !== null) kernel.deliverSignal(vcpu.task, signal);
  return result;
}

function runLoaded(vcpu: Vcpu): number {
  const { kvmRun, vm } = vcpu;
  if (vcpu.mpState === KVM_MP_STATE.UNINITIALIZED) return vcpu.hasSignal ? interrupted(vcpu) : -ERRNO.EAGAIN;
  const { completion } = vcpu;
  if (completion !== null) {
    vcpu.completion = null;
    const verdict = completion(vcpu);
    if (verdict <= 0) return verdict;
  }
  if (kvmRun.immediateExit) return interrupted(vcpu);
  if (!vcpu.tdVcpu.initialized || vm.td.state !== TD_STATE.RUNNABLE) return -ERRNO.EINVAL;
  vcpu.hasRun = true;
  kvmRun.exitReason = KVM_EXIT.UNKNOWN;
  for (;;) {
    const verdict = vcpu.mpState === KVM_MP_STATE.RUNNABLE ? enterGuest(vcpu) : block(vcpu);
    if (verdict <= 0) return verdict;
    vcpu.requests &= ~REQUEST.UNBLOCK;
    if (vcpu.apic.timer.pending > 0) injectPendingTimer(vcpu);
    if (vcpu.hasSignal) return interrupted(vcpu);
  }
}

function interrupted(vcpu: Vcpu): number {
  vcpu.signalPending = false;
  vcpu.kvmRun.exitReason = KVM_EXIT.INTR;
  vcpu.stats.signalExits++;
  return -ERRNO.EINTR;
}

/** The thread comes to its processor; a vCPU that the module has on another one is flushed there. */
function load(vcpu: Vcpu): void {
  const { tdVcpu, cpu, vm } = vcpu;
  if (tdVcpu.associatedWith !== null && tdVcpu.associatedWith !== cpu.lp && vm.td.hkidAssigned) flushVcpu(vcpu);
  vcpu.pi.suppressed = false;
  vm.kernel.startTick(cpu);
}

function put(vcpu: Vcpu): void {
  vcpu.pi.suppressed = true;
}

function injectPendingTimer(vcpu: Vcpu): void {
  vcpu.apic.deliverLocal(X2APIC_MSR.LVT_TIMER);
  vcpu.apic.timer.delivered();
}

/** One round through the guest (vcpu_enter_guest): requests, entry, host events, exit handler. */
function enterGuest(vcpu: Vcpu): number {
  const { vm, cpu } = vcpu;
  if (vcpu.requests !== 0) {
    const verdict = serveRequests(vcpu);
    if (verdict <= 0) return verdict;
  }
  if (vcpu.nmiPending > 0) injectNmi(vcpu);
  if (!vcpu.sharedEptLoaded) {
    const error = loadSharedEpt(vcpu);
    if (error !== 0) return error;
  }
  const { lp } = cpu;
  lp.hostInterruptFlag = false;
  vcpu.mode = MODE.IN_GUEST;
  if (vcpu.requests !== 0 || vcpu.hasSignal) {
    vcpu.mode = MODE.OUTSIDE_GUEST;
    lp.hostInterruptFlag = true;
    return RESUME;
  }
  if (vm.td.waitForSeptZap) vcpu.fastpathHandled = true;
  else enterTd(vcpu);
  vcpu.mode = MODE.OUTSIDE_GUEST;
  handleExitIrqsOff(vcpu);
  lp.hostInterruptFlag = true;
  vcpu.stats.exits++;
  return handleExit(vcpu);
}

function serveRequests(vcpu: Vcpu): number {
  if ((vcpu.requests & REQUEST.VM_DEAD) !== 0) return -ERRNO.EIO;
  if ((vcpu.requests & REQUEST.TLB_FLUSH) !== 0) {
    vcpu.stats.tlbFlush++;
    vcpu.vm.kernel.hardware.invept();
  }
  vcpu.requests = 0;
  return RESUME;
}

/** The module injects when it can; a second NMI merges into the first. */
function injectNmi(vcpu: Vcpu): void {
  vcpu.nmiPending = 0;
  vcpu.stats.nmiInjections++;
  vcpu.writeVp(VP_FIELD.PEND_NMI, 1n, 0xffn);
}

function loadSharedEpt(vcpu: Vcpu): number {
  const ept = vcpu.vm.mmu.sharedEpt();
  if (ept === null) return -ERRNO.ENOMEM;
  if (!vcpu.writeVp(VP_FIELD.SHARED_EPT_POINTER, BigInt(ept.root), MASK_64)) return -ERRNO.EIO;
  vcpu.sharedEptLoaded = true;
  return 0;
}

/** tdx_vcpu_run: TDH.VP.ENTER with interrupts off, and what KVM makes of its outputs. */
function enterTd(vcpu: Vcpu): void {
  const { cpu, tdVcpu, regs, vm } = vcpu;
  if (vcpu.wants("kvm-entry")) traceEntry(vcpu);
  // With interrupts off the notification is recognised in the guest, where it makes the processor take the descriptor.
  if (vcpu.pi.on) cpu.lp.selfIpi(POSTED_INTR_VECTOR);
  tdVcpu.associatedWith = cpu.lp;
  vcpu.lastEntryCpu = cpu.lp.id;
  vcpu.pvUnhalted = false;
  vcpu.setNumber(GPR.RAX, TDH.VP_ENTER);
  vcpu.setNumber(GPR.RCX, tdVcpu.tdvpr);
  const outcome = cpu.lp.seamcall(regs);
  if (outcome === "ok") {
    vcpu.statusHigh = vcpu.high(GPR.RAX);
    vcpu.statusLow = vcpu.low(GPR.RAX);
  } else {
    const status = failedInstructionStatus(outcome);
    vcpu.statusHigh = Number(status >> 32n);
    vcpu.statusLow = Number(status & 0xffff_ffffn);
  }
  const r10IsZero = vcpu.low(GPR.R10) === 0 && vcpu.high(GPR.R10) === 0;
  vcpu.exitReason = synthesizeExitReason(
    vcpu.statusHigh,
    vcpu.statusLow,
    r10IsZero,
    vcpu.high(GPR.R11),
    vcpu.low(GPR.R11),
  );
  vcpu.fastpathHandled = false;
  if (basicReason(vcpu.exitReason) === EXIT_REASON.EXCEPTION_NMI && isNmi(vcpu.interruptionInfo)) vm.kernel.nmi(cpu);
  if (isTrueMisconfig(vcpu.statusHigh, vcpu.statusLow) || isSoftwareError(vcpu.statusHigh)) return;
  vm.countExit(vcpu.exitReason);
  if (vcpu.wants("kvm-exit")) traceExit(vcpu);
  if (!isFailedEntry(vcpu.exitReason)) vcpu.fastpathHandled = isBusyEntry(vcpu.statusHigh);
}

/**
 * Host events that the exit stands for (vt_handle_exit_irqoff). It goes by the reason alone, so that a machine check that
 * killed the TD is handled by the host as well.
 */
function handleExitIrqsOff(vcpu: Vcpu): void {
  const info = vcpu.interruptionInfo;
  switch (basicReason(vcpu.exitReason)) {
    case EXIT_REASON.EXTERNAL_INTERRUPT:
      if (isEvent(info, INTERRUPTION.TYPE_EXTERNAL)) {
        vcpu.vm.kernel.interrupt(vcpu.cpu, info & INTERRUPTION.VECTOR_MASK);
      } else {
        vcpu.vm.bug();
      }
      break;
    case EXIT_REASON.EXCEPTION_NMI:
      if (isMachineCheck(info)) vcpu.vm.kernel.kvmMachineCheck(vcpu.cpu);
      break;
    case EXIT_REASON.MACHINE_CHECK:
      vcpu.vm.kernel.kvmMachineCheck(vcpu.cpu);
      break;
    default:
      break;
  }
}

/** The vCPU is halted: its thread sleeps until something wakes it (kvm_vcpu_halt). */
function block(vcpu: Vcpu): number {
  const { kernel } = vcpu.vm;
  while (!vcpu.hasEvents()) {
    if (vcpu.apic.timer.pending > 0 || vcpu.hasSignal) return RESUME;
    if (vcpu.vm.vmDead) return -ERRNO.EIO;
    // One thread of ours stands for all: another vCPU that can run gets it, as after a signal.
    if (vcpu.vm.othersRunnable(vcpu) || !kernel.idle(vcpu.cpu, () => isAwake(vcpu))) {
      vcpu.signalPending = true;
      return RESUME;
    }
  }
  vcpu.mpState = KVM_MP_STATE.RUNNABLE;
  vcpu.pvUnhalted = false;
  vcpu.stats.haltWakeup++;
  kernel.startTick(vcpu.cpu);
  return RESUME;
}

function isAwake(vcpu: Vcpu): boolean {
  return vcpu.apic.timer.pending > 0 || vcpu.hasSignal || vcpu.hasEvents();
}
