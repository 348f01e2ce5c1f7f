import { X2APIC_MSR } from "../arch/msr.js";
import { PAGE_TYPE } from "../arch/tdx-abi.js";
import type { Hardware, HardwareLp } from "./hardware.js";
import { HrTimer, HrTimerQueue, LOCAL_TIMER_VECTOR } from "./hrtimer.js";
import { KVM_MACHINE_CHECK_FRAME, MachineCheck } from "./mce/handler.js";
import { AnonymousMemory } from "./mm/anonymous-memory.js";
import type { HostProfile } from "./mm/host-profile.js";
import { MemoryFailure } from "./mm/memory-failure.js";
import { PageAllocator } from "./mm/page-allocator.js";
import { type SigBus, Task } from "./mm/task.js";
import { TdxBringUpError } from "./tdx/bring-up-error.js";
import type { Range } from "./tdx/tdmrs.js";
import { TdxHost } from "./tdx/tdx-host.js";

/** Ticks per second of the scheduler (CONFIG_HZ=250). */
export const HZ = 250;
/** Vector of the corrected machine-check interrupt. */
const THRESHOLD_APIC_VECTOR = 0xf9;
const TICK_NS = 1_000_000_000 / HZ;
/** Linux keeps the first megabyte to itself. */
const LOW_MEMORY = 0x100000;

export interface HostKernelOptions {
  readonly profile?: HostProfile;
}

/**
 * What the processor idles on: called when every vCPU thread sleeps. `true`: go to the next timer; `false`: come back to user
 * space instead, as after a signal. The VMM's owner decides by it how idle time passes and where input comes in.
 */
export type IdleGovernor = (nextDeadlineNs: number) => boolean;

/** The host kernel's view of one logical processor. */
export interface KernelCpu {
  readonly lp: HardwareLp;
  readonly timers: HrTimerQueue;
  readonly tick: HrTimer;
  /** The thread that runs here. */
  current: Task;
  /** Interrupts and NMIs taken, by vector. */
  readonly interrupts: Map<number, number>;
  nmis: number;
}

/**
 * The host: a Linux kernel as far as TDs concern it. It owns the page allocator, the process of the VMM, the interrupt
 * handlers of every processor and TDX.
 */
export class HostKernel {
  readonly profile: HostProfile;
  readonly pages: PageAllocator;
  /** Memory of the VMM's process. */
  readonly userMemory: AnonymousMemory;
  /** Threads of the VMM's process. */
  readonly vmmThreads: Task[] = [];
  readonly cpus: readonly KernelCpu[];
  /** Null where bring-up failed; then `tdxError` says why. */
  readonly tdx: TdxHost | null;
  readonly tdxError: TdxBringUpError | null;
  /** Memory that the kernel manages. */
  readonly memoryRanges: readonly Range[];
  idleGovernor: IdleGovernor = () => true;
  /** The VMM's handler of SIGBUS; without one the signal only shows in `signals`. */
  signalHandler: ((task: Task, signal: SigBus) => void) | null = null;
  readonly machineCheck: MachineCheck;
  readonly memoryFailure: MemoryFailure;
  /** The kernel's log: warnings and errors as it would print them. */
  readonly log: string[] = [];
  constructor(
    readonly hardware: Hardware,
    options: HostKernelOptions = {},
  ) {
    this.profile = options.profile ?? "fixed";
    this.memoryRanges = managedMemory(hardware.topology.cmrs);
    const [memory] = this.memoryRanges;
    if (memory === undefined) throw new RangeError("host kernel: no memory above 1 MiB");
    this.pages = new PageAllocator({
      first: memory.base,
      end: memory.base + memory.size,
      memory: hardware.memory.host,
      events: hardware.events,
    });
    this.userMemory = new AnonymousMemory(this.pages, hardware.memory.host);
    const { events } = hardware;
    this.memoryFailure = new MemoryFailure({ allocator: this.pages, events, hostProfile: this.profile });
    this.memoryFailure.addProcess(this.userMemory, this.vmmThreads);
    this.machineCheck = new MachineCheck({
      processors: hardware.lps,
      events,
      allocator: this.pages,
      memoryFailure: this.memoryFailure,
      hostProfile: this.profile,
      keyIdShift: hardware.topology.keyIdShift,
      currentTask: (lp) => this.cpu(lp).current,
      tdxNote: (hpa) => this.#tdxNote(hpa),
    });
    this.cpus = hardware.lps.map((lp) => this.#startCpu(lp));
    let tdx: TdxHost | null = null;
    let error: TdxBringUpError | null = null;
    try {
      tdx = new TdxHost(hardware, this.pages, this.memoryRanges);
    } catch (cause) {
      if (!(cause instanceof TdxBringUpError)) throw cause;
      error = cause;
      this.printk(cause.message);
    }
    this.tdx = tdx;
    this.tdxError = error;
  }

  printk(line: string): void {
    this.log.push(line);
  }

  cpu(id: number): KernelCpu {
    const cpu = this.cpus[id];
    if (cpu === undefined) throw new RangeError(`host kernel: no processor ${id}`);
    return cpu;
  }

  /** The scheduler tick runs while a thread runs on the processor; it stops when the processor idles. */
  startTick(cpu: KernelCpu): void {
    if (!cpu.tick.armed) cpu.tick.start(this.#nextTick());
  }

  stopTick(cpu: KernelCpu): void {
    cpu.tick.cancel();
  }

  /** The interrupt handlers, by vector: what the IDT leads to, and what KVM calls for an interrupt that ended a TD's run. */
  interrupt(cpu: KernelCpu, vector: number): void {
    cpu.interrupts.set(vector, (cpu.interrupts.get(vector) ?? 0) + 1);
    if (vector === LOCAL_TIMER_VECTOR) cpu.timers.interrupt();
    else if (vector === THRESHOLD_APIC_VECTOR) this.machineCheck.handleCmci(cpu.lp);
  }

  nmi(cpu: KernelCpu): void {
    cpu.nmis++;
  }

  /** A machine check that a VM exit consumed: handled as if the VMM's thread had met it in user mode. */
  kvmMachineCheck(cpu: KernelCpu): void {
    this.machineCheck.doMachineCheck(cpu.lp, KVM_MACHINE_CHECK_FRAME);
  }

  /** Runs host code with SEAMCALLs made on a processor (smp_call_function_single). */
  tdxOn<T>(lp: HardwareLp, action: () => T): T {
    return this.tdx === null ? action() : this.tdx.on(lp, action);
  }

  /**
   * The processor has nothing to run until `isAwake`. False: nothing that the machine knows of will ever wake it, or the
   * governor wants user space to run.
   */
  idle(cpu: KernelCpu, isAwake: () => boolean): boolean {
    this.stopTick(cpu);
    cpu.lp.hostHalted = true;
    const { clock } = this.hardware;
    const goOn = this.idleGovernor(clock.nextDeadline());
    if (goOn && !isAwake() && !clock.skipToNext()) {
      cpu.lp.hostHalted = false;
      return false;
    }
    cpu.lp.hostHalted = false;
    return goOn || isAwake();
  }

  /** A signal reaches a thread of the VMM on its way to user mode. */
  deliverSignal(task: Task, signal: SigBus): void {
    this.hardware.events.emit("mm", "signal", this.tdx?.lp.id ?? 0, null, {
      task: task.name,
      signal: signal.signal,
      code: signal.code,
      hva: signal.hva === null ? null : BigInt(signal.hva),
    });
    this.signalHandler?.(task, signal);
  }

  /** On processors whose partial writes poison TDX memory a panic says whose the page is (tdx_dump_mce_info). */
  #tdxNote(hpa: number): string | null {
    if (this.tdx === null || this.tdx.leaves.phymemPageRdmd(hpa) !== 0n) return null;
    return this.tdx.leaves.rcxWide === BigInt(PAGE_TYPE.NDA) ? null : "TDX private memory error. Possible kernel bug.";
  }

  #nextTick(): number {
    return (Math.floor(this.hardware.clock.now / TICK_NS) + 1) * TICK_NS;
  }

  #startCpu(lp: HardwareLp): KernelCpu {
    const timers = new HrTimerQueue(this.hardware.clock, lp);
    const tick: HrTimer = new HrTimer(timers, () => tick.start(this.#nextTick()));
    const idle = new Task(`swapper/${lp.id}`);
    const cpu: KernelCpu = { lp, timers, tick, current: idle, interrupts: new Map(), nmis: 0 };
    lp.hostIdt = {
      machineCheck: (frame) => void this.machineCheck.doMachineCheck(lp, frame),
      nmi: () => this.nmi(cpu),
      interrupt: (vector) => this.interrupt(cpu, vector),
    };
    lp.writeMsr(X2APIC_MSR.LVT_CMCI, BigInt(THRESHOLD_APIC_VECTOR));
    this.machineCheck.setUp(lp);
    lp.hostInterruptFlag = true;
    return cpu;
  }
}

function managedMemory(cmrs: readonly Range[]): Range[] {
  const above = cmrs.map(({ base, size }) => {
    const start = Math.max(base, LOW_MEMORY);
    return { base: start, size: base + size - start };
  });
  const largest = above.reduce<Range>((best, range) => (range.size > best.size ? range : best), { base: 0, size: 0 });
  return largest.size > 0 ? [largest] : [];
}
