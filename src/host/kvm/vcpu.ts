import { DELIVERY_MODE, FIRST_LEGAL_VECTOR } from "../../arch/apic.js";
import { ERRNO } from "../../arch/errno.js";
import { KVM_MAX_CPUID_ENTRIES, KVM_MP_STATE, KVM_TDX } from "../../arch/kvm-uapi.js";
import { VCPU_STATE_VMXIP, VP_FIELD } from "../../arch/linux-tdx-fields.js";
import { MCG_CAP } from "../../arch/mca.js";
import { EXIT_REASON } from "../../arch/vmx.js";
import { GPR } from "../../platform/seam.js";
import { HrTimer } from "../hrtimer.js";
import type { KernelCpu } from "../kernel.js";
import { isPageAligned, PAGE_SIZE } from "../mm/page.js";
import { Task } from "../mm/task.js";
import { type KvmCpuidEntry2, VcpuCpuid } from "./cpuid.js";
import { statusOf } from "./dispatch.js";
import { basicReason } from "./exit-reason.js";
import type { IrqTarget } from "./irq-delivery.js";
import { KvmRun } from "./kvm-run.js";
import { type LapicHost, LocalApic } from "./lapic.js";
import { type Fault, handleFault, PF } from "./mmu/fault.js";
import { type MsrOwner, MsrValues } from "./msrs.js";
import { POSTED_INTR_VECTOR, PostedInterruptDescriptor } from "./posted-interrupts.js";
import { runVcpu } from "./run-loop.js";
import { VcpuStats } from "./stats.js";
import { initMemRegion, type KvmTdxInitMemRegion } from "./tdx/init-mem-region.js";
import { TD_STATE } from "./tdx/td.js";
import { type KvmTdxGetCpuid, readTdCpuid } from "./tdx/td-cpuid.js";
import { initVcpu, type KvmTdxInitVcpu, TdVcpu } from "./tdx/td-vcpu.js";
import { traceAcceptIrq } from "./trace.js";
import type { KvmTdxCmd, Vm } from "./vm.js";

/** Requests that the run loop serves before it enters the guest (KVM_REQ_*). */
export const REQUEST = { VM_DEAD: 1, TLB_FLUSH: 2, NMI: 4, UNBLOCK: 8 } as const;

/** Where a vCPU is, seen by whoever wants its attention (vcpu->mode). */
export const MODE = { OUTSIDE_GUEST: 0, IN_GUEST: 1 } as const;

/** Vector that makes a processor look up from what it does (RESCHEDULE_VECTOR). */
export const RESCHEDULE_VECTOR = 0xfd;

/** struct kvm_pre_fault_memory: `gpa` and `size` advance by what was done. */
export interface KvmPreFaultMemory {
  gpa: number;
  size: number;
  readonly flags?: number;
}

/** struct kvm_msr_entry. */
export interface KvmMsrEntry {
  readonly index: number;
  data: bigint;
}

/**
 * One vCPU of a TD: the file descriptor that KVM_CREATE_VCPU gives. Methods are its ioctls; they give 0 or an error number,
 * negated, unless said otherwise. The VMM's thread of the vCPU runs on one processor, `vcpu_id` modulo their number.
 */
export class Vcpu implements IrqTarget, LapicHost, MsrOwner {
  readonly kvmRun = new KvmRun();
  readonly stats = new VcpuStats();
  readonly cpuid = new VcpuCpuid();
  readonly apic: LocalApic;
  readonly msrs: MsrValues;
  readonly pi: PostedInterruptDescriptor;
  readonly tdVcpu = new TdVcpu();
  /** The VMM's thread. */
  readonly task: Task;

  /** Registers of the last and the next TDH.VP.ENTER (vp_enter_args), RAX..R15, and the same by 32-bit halves. */
  readonly regs = new BigUint64Array(16);
  readonly #halves = new Uint32Array(this.regs.buffer);
  /** RAX of the last entry, by halves; also where the instruction itself failed. */
  statusHigh = 0;
  statusLow = 0;
  /** The reason that KVM made of it. */
  exitReason = 0;
  /** The last entry was turned away by a lock. */
  fastpathHandled = false;
  /** Processor of the last entry. */
  lastEntryCpu = -1;
  /** What is left to do for an exit to user space, at the next KVM_RUN. 1: go on; otherwise KVM_RUN returns it. */
  completion: ((vcpu: Vcpu) => number) | null = null;

  mpState: number = KVM_MP_STATE.RUNNABLE;
  mode: number = MODE.OUTSIDE_GUEST;
  requests = 0;
  nmiPending = 0;
  pvUnhalted = false;
  /** The VMM's signal: KVM_RUN comes back with -EINTR. */
  signalPending = false;
  hasRun = false;
  mapGpaNext = 0n;
  mapGpaEnd = 0n;
  apicBase = 0n;
  /** SHARED_EPT_POINTER has been written. */
  sharedEptLoaded = false;
  #cpu: KernelCpu;

  constructor(
    readonly vm: Vm,
    readonly id: number,
    piDescriptor: number,
  ) {
    const { kernel } = vm;
    this.#cpu = kernel.cpu(id % kernel.cpus.length);
    this.task = new Task(`vcpu${id}`, kernel.userMemory);
    kernel.vmmThreads.push(this.task);
    this.pi = new PostedInterruptDescriptor(kernel.hardware.memory.host, piDescriptor);
    this.pi.reset(POSTED_INTR_VECTOR);
    this.apic = new LocalApic(this);
    this.msrs = new MsrValues(this);
    this.mpState = id === 0 ? KVM_MP_STATE.RUNNABLE : KVM_MP_STATE.UNINITIALIZED;
  }

  // The ioctls

  /** KVM_RUN. */
  run(): number {
    return runVcpu(this);
  }

  /** KVM_MEMORY_ENCRYPT_OP. The command is not copied back. */
  memoryEncryptOp(command: KvmTdxCmd): number {
    const { vm } = this;
    if (vm.vmDead) return -ERRNO.EIO;
    if ((command.hwError ?? 0n) !== 0n) return -ERRNO.EINVAL;
    if (!vm.td.hkidAssigned || vm.td.state === TD_STATE.RUNNABLE) return -ERRNO.EINVAL;
    switch (command.id) {
      case KVM_TDX.INIT_VCPU:
        return initVcpu(this, command.flags ?? 0, command.data as KvmTdxInitVcpu);
      case KVM_TDX.INIT_MEM_REGION:
        return initMemRegion(this, command.flags ?? 0, command.data as KvmTdxInitMemRegion);
      case KVM_TDX.GET_CPUID:
        return readTdCpuid(vm.td, command.data as KvmTdxGetCpuid);
      default:
        return -ERRNO.EINVAL;
    }
  }

  /** KVM_SET_CPUID2. */
  setCpuid2(entries: readonly KvmCpuidEntry2[]): number {
    if (this.vm.vmDead) return -ERRNO.EIO;
    if (entries.length > KVM_MAX_CPUID_ENTRIES) return -ERRNO.E2BIG;
    if (this.hasRun) return -ERRNO.EINVAL;
    this.cpuid.set(entries);
    return 0;
  }

  /** KVM_NMI. */
  nmi(): number {
    if (this.vm.vmDead) return -ERRNO.EIO;
    this.queueNmi();
    return 0;
  }

  /** KVM_SMI: SMM is not emulated for a TD. */
  smi(): number {
    return this.vm.vmDead ? -ERRNO.EIO : -ERRNO.ENOTTY;
  }

  /** KVM_INTERRUPT: nothing can be injected into a TD, and the local APIC is in the kernel. */
  interrupt(_vector: number): number {
    return -ERRNO.ENXIO;
  }

  /** KVM_GET_REGS and its kin: a TD's state is its own. */
  getRegs(): number {
    return -ERRNO.EINVAL;
  }
  setRegs(): number {
    return -ERRNO.EINVAL;
  }
  getSregs(): number {
    return -ERRNO.EINVAL;
  }
  setSregs(): number {
    return -ERRNO.EINVAL;
  }
  getLapic(): number {
    return -ERRNO.EINVAL;
  }
  setLapic(): number {
    return -ERRNO.EINVAL;
  }

  /** KVM_GET_MP_STATE: the state itself. */
  getMpState(): number {
    return this.vm.vmDead ? -ERRNO.EIO : this.mpState;
  }

  /** KVM_SET_MP_STATE. */
  setMpState(state: number): number {
    if (this.vm.vmDead) return -ERRNO.EIO;
    if (state !== KVM_MP_STATE.RUNNABLE && state !== KVM_MP_STATE.HALTED) return -ERRNO.EINVAL;
    this.mpState = state;
    return 0;
  }

  /** KVM_GET_MSRS: how many were read, up to the first that is refused. */
  getMsrs(entries: readonly KvmMsrEntry[]): number {
    if (this.vm.vmDead) return -ERRNO.EIO;
    let done = 0;
    for (const entry of entries) {
      const value = this.msrs.read(entry.index, true);
      if (value === null) break;
      entry.data = value;
      done++;
    }
    return done;
  }

  /** KVM_SET_MSRS: how many were written, up to the first that is refused. */
  setMsrs(entries: readonly KvmMsrEntry[]): number {
    if (this.vm.vmDead) return -ERRNO.EIO;
    const refused = entries.findIndex(({ index, data }) => !this.msrs.write(index, data, true));
    return refused < 0 ? entries.length : refused;
  }

  /** KVM_X86_SETUP_MCE. */
  setupMce(mcgCap: bigint): number {
    return this.msrs.setupMce(mcgCap) ? 0 : -ERRNO.EINVAL;
  }

  /** KVM_SET_TSC_KHZ on a vCPU: the TD's TSC is protected; accepted without effect. */
  setTscKhz(_khz: number): number {
    return this.vm.vmDead ? -ERRNO.EIO : 0;
  }

  getTscKhz(): number {
    return this.vm.tscKhz;
  }

  /** KVM_PRE_FAULT_MEMORY. Success if at least one page was done; `range` tells what is left. */
  preFaultMemory(range: KvmPreFaultMemory): number {
    const { vm } = this;
    if (vm.vmDead) return -ERRNO.EIO;
    if ((range.flags ?? 0) !== 0) return -ERRNO.EINVAL;
    if (!isPageAligned(range.gpa) || !isPageAligned(range.size) || range.size <= 0) return -ERRNO.EINVAL;
    const before = range.size;
    const fault: Fault = { gfn: 0, isPrivate: false, task: this.task, memoryFault: false };
    let error = 0;
    while (range.size > 0 && error === 0) {
      if (this.hasSignal) error = -ERRNO.EINTR;
      else if (vm.td.state !== TD_STATE.RUNNABLE) error = -ERRNO.EOPNOTSUPP;
      else error = this.#preFaultPage(fault, range.gpa / PAGE_SIZE);
      if (error !== 0) break;
      range.gpa += PAGE_SIZE;
      range.size -= PAGE_SIZE;
    }
    return range.size === before ? error : 0;
  }

  /** A signal for the vCPU's thread, such as the VMM uses to get its attention: KVM_RUN returns -EINTR. */
  kick(): void {
    this.signalPending = true;
    if (this.mode === MODE.IN_GUEST) this.#cpu.lp.raiseInterrupt(RESCHEDULE_VECTOR);
  }

  /** Moves the VMM's thread of this vCPU to another processor (sched_setaffinity). */
  setAffinity(lp: number): void {
    this.#cpu = this.vm.kernel.cpu(lp);
  }

  // What the rest of KVM works with

  /** The processor that the thread runs on. */
  get cpu(): KernelCpu {
    return this.#cpu;
  }

  get status(): bigint {
    return statusOf(this.statusHigh, this.statusLow);
  }

  /** Low 32 bits of R9 after an asynchronous exit. */
  get interruptionInfo(): number {
    return this.low(GPR.R9);
  }

  low(register: number): number {
    return this.#halves[2 * register] ?? 0;
  }
  high(register: number): number {
    return this.#halves[2 * register + 1] ?? 0;
  }
  number(register: number): number {
    return this.high(register) * 2 ** 32 + this.low(register);
  }
  setNumber(register: number, value: number): void {
    this.#halves[2 * register] = value % 2 ** 32;
    this.#halves[2 * register + 1] = value / 2 ** 32;
  }

  wants(event: string): boolean {
    return this.vm.kernel.hardware.events.wants(event);
  }

  get hasSignal(): boolean {
    return this.signalPending || this.task.hasPendingSignal;
  }

  /** kvm_vcpu_has_events: would a halted vCPU wake up? */
  hasEvents(): boolean {
    if (this.pvUnhalted || this.nmiPending > 0 || (this.requests & REQUEST.NMI) !== 0) return true;
    return this.interruptAllowed && this.#hasInterrupt();
  }

  /** The guest said by HLT's R12 whether its interrupts were blocked; otherwise KVM cannot know. */
  get interruptAllowed(): boolean {
    return basicReason(this.exitReason) !== EXIT_REASON.HLT || this.#hltWithInterruptsOpen;
  }

  queueNmi(): void {
    this.nmiPending++;
    this.requests |= REQUEST.NMI;
    this.wake();
  }

  /** Gets the vCPU out of the guest, or out of its sleep. */
  wake(): void {
    if (this.mode === MODE.IN_GUEST) this.#cpu.lp.raiseInterrupt(RESCHEDULE_VECTOR);
  }

  unhalt(): void {
    this.pvUnhalted = true;
    this.wake();
  }

  // IrqTarget

  get x2apicId(): number {
    return this.id;
  }
  get ldr(): number {
    return this.apic.ldr;
  }
  get apicPresent(): boolean {
    return this.tdVcpu.initialized;
  }

  /** __apic_accept_irq: everything maskable is posted; SMI, INIT and SIPI mean nothing to a TD. */
  acceptIrq(deliveryMode: number, vector: number): boolean {
    switch (deliveryMode) {
      case DELIVERY_MODE.FIXED:
      case DELIVERY_MODE.LOWEST_PRIORITY:
        return this.apic.softwareEnabled && this.#post(vector, deliveryMode);
      case DELIVERY_MODE.NMI:
        this.queueNmi();
        return true;
      case DELIVERY_MODE.INIT:
        return true;
      default:
        return false;
    }
  }

  // LapicHost

  get vcpuId(): number {
    return this.id;
  }
  get hasCmci(): boolean {
    return this.msrs.has(MCG_CAP.CMCI_P);
  }
  get apicBusCycleNs(): number {
    return this.vm.apicBusCycleNs;
  }
  get maxPhysicalAddressBits(): number {
    return this.cpuid.maxPhysicalAddressBits;
  }
  sendIpi(icrLow: number, destination: number): void {
    this.vm.irqs.sendIpi(this, icrLow, destination);
  }
  acceptLocal(deliveryMode: number, vector: number): void {
    this.acceptIrq(deliveryMode, vector);
  }
  nowNs(): number {
    return this.vm.kernel.hardware.clock.now;
  }
  /** The TD's TSC is clock * multiplier / 2^48 + offset. */
  tscToNs(tsc: bigint): number {
    const { tscOffset, tscMultiplier } = this.vm.td;
    const host = BigInt.asUintN(64, tsc - tscOffset);
    if (host >> 63n !== 0n || tscMultiplier === 0n) return 0;
    return Number(((host << 48n) + tscMultiplier - 1n) / tscMultiplier);
  }
  createTimer(callback: () => void): HrTimer {
    return new HrTimer(this.#cpu.timers, callback);
  }
  timerExpired(): void {
    this.requests |= REQUEST.UNBLOCK;
    this.wake();
  }

  get #hltWithInterruptsOpen(): boolean {
    return this.low(GPR.R12) === 0 && this.high(GPR.R12) === 0;
  }

  #hasInterrupt(): boolean {
    if (this.pi.on || (this.pi.suppressed && !this.pi.pirEmpty)) return true;
    if (basicReason(this.exitReason) !== EXIT_REASON.HLT || !this.#hltWithInterruptsOpen) return false;
    return (this.readVp(VP_FIELD.VCPU_STATE_DETAILS) & VCPU_STATE_VMXIP) !== 0n;
  }

  #post(vector: number, deliveryMode: number): boolean {
    if (vector < FIRST_LEGAL_VECTOR) return false;
    if (this.wants("kvm-apicv-accept-irq")) traceAcceptIrq(this, vector, deliveryMode);
    if (this.pi.testAndSetPir(vector)) return true;
    if (this.pi.testAndSetOn()) return true;
    // In the guest the processor takes it from the descriptor; otherwise the next entry sees ON.
    if (this.mode === MODE.IN_GUEST) this.#cpu.lp.raiseInterrupt(POSTED_INTR_VECTOR);
    return true;
  }

  /** TDH.VP.RD; a failure bugs the VM and reads as 0. */
  readVp(field: bigint): bigint {
    const { td } = this.vm;
    const status = td.leaves.vpRd(this.tdVcpu.tdvpr, field);
    if (status === 0n) return td.leaves.value;
    td.bugOn(`TDH.VP.RD[0x${field.toString(16)}]`, status);
    return 0n;
  }

  /** TDH.VP.WR; a failure bugs the VM. */
  writeVp(field: bigint, value: bigint, mask: bigint): boolean {
    const { td } = this.vm;
    const status = td.leaves.vpWr(this.tdVcpu.tdvpr, field, value, mask);
    if (status !== 0n) td.bugOn(`TDH.VP.WR[0x${field.toString(16)}]`, status);
    return status === 0n;
  }

  #preFaultPage(fault: Fault, gfn: number): number {
    fault.gfn = gfn;
    fault.isPrivate = this.vm.mmu.attributes.has(gfn);
    for (;;) {
      const result = handleFault(this.vm.mmu, fault);
      if (result === PF.EMULATE) return -ERRNO.ENOENT;
      if (result !== PF.RETRY) return Math.min(result, 0);
      if (this.hasSignal) return -ERRNO.EINTR;
      if (this.vm.vmDead) return -ERRNO.EIO;
    }
  }
}
