import { ERRNO } from "../arch/errno.js";
import type { HostKernel } from "../host/kernel.js";
import type { Kvm } from "../host/kvm/kvm.js";
import type { TeardownReport } from "../host/kvm/tdx/vm-teardown.js";
import type { Vcpu } from "../host/kvm/vcpu.js";
import { HostPanic } from "../host/mce/host-panic.js";
import { ProcessorShutdown } from "../platform/faults.js";
import type { Platform } from "../platform/platform.js";
import { Board } from "./devices/board.js";
import type { End } from "./end.js";
import { type ExitContext, handleExit, handleRunError } from "./exit-handlers.js";
import { closeTd, type LaunchedTd, launchTd } from "./launch.js";
import type { TdImage } from "./td-image.js";
import { VmmError } from "./vmm-error.js";

/** The computer that the VMM runs on. */
export interface System {
  readonly platform: Platform;
  readonly kernel: HostKernel;
  readonly kvm: Kvm;
}

export interface TdMachineConfig {
  readonly image: TdImage;
  readonly vcpus: number;
  /** What the real-time clock shows at power-on, in seconds since 1970. */
  readonly rtc: number;
}

/** What a slice of running led to. */
export type Step =
  | { readonly kind: "budget" }
  /** All vCPUs are halted; `nextDeadlineNs` is when the next timer goes off, Infinity when none is set. */
  | { readonly kind: "idle"; readonly nextDeadlineNs: number }
  | { readonly kind: "ended"; readonly end: End };

/** Thrown through the guest's execution to stop at this very boundary: `TdMachine.pause`. */
class Pause extends Error {
  override readonly name = "Pause";
}

/** With more than one vCPU, each runs this many instructions before the next has its turn. */
const TURN = 50_000;
const NS_PER_SECOND = 1e9;

/**
 * A VMM with one TD: launches it, then runs it in slices, serving its exits. One thread runs all vCPUs in turn. Between two steps
 * the owner lets input in and decides how idle time passes.
 */
export class TdMachine {
  readonly board: Board;
  readonly td: LaunchedTd;
  readonly #system: System;
  readonly #contexts: readonly ExitContext[];
  readonly #consoleListeners = new Set<(bytes: Uint8Array) => void>();
  #turn = 0;
  #budgetOver = false;
  #idle = false;
  #end: End | undefined;
  #signal: string | undefined;
  #teardown: TeardownReport | undefined;

  constructor(system: System, config: TdMachineConfig) {
    this.#system = system;
    const { platform, kernel, kvm } = system;
    const { vcpus, image, rtc } = config;
    if (!Number.isInteger(vcpus) || vcpus < 1 || vcpus > platform.lps.length) {
      throw new VmmError(
        "VCPUS_OUT_OF_RANGE",
        `${vcpus} vCPUs on a machine with ${platform.lps.length} logical processors`,
        "give the guest at least 1 vCPU and at most one per logical processor",
      );
    }
    this.board = new Board({
      transmit: (byte) => this.#transmit(byte),
      signalMsi: (message) => this.td.vm.signalMsi(message),
      powerOff: () => this.#finish({ outcome: "power-off" }),
      reset: () => this.#finish({ outcome: "reset", message: "the guest asked for a reset, which a TD cannot have" }),
      seconds: () => rtc + platform.clock.now / NS_PER_SECOND,
    });
    this.td = launchTd(kvm, kernel.userMemory, image, vcpus);
    const { vm, slots } = this.td;
    this.#contexts = this.td.vcpus.map(({ kvmRun }) => ({ vm, slots, board: this.board, run: kvmRun }));
    kernel.idleGovernor = () => {
      this.#idle = true;
      return false;
    };
    kernel.signalHandler = (_task, { signal }) => {
      this.#signal = signal;
    };
  }

  /** How the machine ended, if it has. */
  get end(): End | undefined {
    return this.#end;
  }

  /** Calls the listener with what the guest writes to its console. */
  onConsole(listener: (bytes: Uint8Array) => void): () => void {
    this.#consoleListeners.add(listener);
    return () => this.#consoleListeners.delete(listener);
  }

  /** The guest's console driver listens and has taken what it was given. */
  get wantsInput(): boolean {
    return this.board.serial.wantsInput;
  }

  /** One byte into the console's receive FIFO. */
  feed(byte: number): void {
    this.board.serial.receive(byte);
  }

  /**
   * Runs about this many instructions: until the first exit after them, which is never further away than the host's next
   * scheduler tick. It returns earlier when the machine idles or ends.
   */
  step(instructions: number): Step {
    const { boundaries, core } = this.#system.platform;
    this.#budgetOver = false;
    // A signal without an interprocessor interrupt: the slice leaves no trace in what the guest does.
    const cancel = boundaries.at(core.retired + instructions, () => {
      this.#budgetOver = true;
      this.#current.signalPending = true;
    });
    try {
      return this.#run();
    } finally {
      cancel();
    }
  }

  /**
   * Ends the current step at this very boundary; to be called from a boundary action. The TD is left in the middle of its
   * execution, so that it can only be torn down.
   */
  pause(): never {
    throw new Pause("paused");
  }

  /** Closes the VM, as the end of its process does, and tells where the TD's pages went. */
  teardown(): TeardownReport {
    this.#teardown ??= closeTd(this.td.vm, this.td.slots, this.#system.kernel.userMemory);
    return this.#teardown;
  }

  #run(): Step {
    for (;;) {
      if (this.#end) return { kind: "ended", end: this.#end };
      this.#idle = false;
      const cancelTurn = this.#startTurn();
      try {
        this.#runVcpu(this.#turn);
      } catch (error) {
        if (error instanceof Pause) return { kind: "budget" };
        this.#finish(endOf(error));
      } finally {
        cancelTurn();
      }
      if (this.#end) continue;
      if (this.#budgetOver) return { kind: "budget" };
      if (this.#idle) return { kind: "idle", nextDeadlineNs: this.#system.platform.clock.nextDeadline() };
    }
  }

  get #current(): Vcpu {
    return this.td.vcpus[this.#turn] as Vcpu;
  }

  /** Where vCPUs share the thread, a turn ends after so many instructions. */
  #startTurn(): () => void {
    if (this.td.vcpus.length === 1) return () => {};
    const { boundaries, core } = this.#system.platform;
    const current = this.#current;
    return boundaries.at(core.retired + TURN, () => current.kick());
  }

  #runVcpu(index: number): void {
    const vcpu = this.td.vcpus[index] as Vcpu;
    const context = this.#contexts[index] as ExitContext;
    const result = vcpu.run();
    if (result === -ERRNO.EINTR || result === -ERRNO.EAGAIN) {
      this.#turn = (index + 1) % this.td.vcpus.length;
      return;
    }
    const end = result === 0 ? handleExit(context) : handleRunError(result, context);
    if (end) this.#finish(end);
    else if (this.#signal !== undefined) this.#finish({ outcome: "error", message: `${this.#signal} ended the VMM` });
  }

  /** The first end counts. */
  #finish(end: End): void {
    this.#end ??= this.#signal === undefined ? end : { ...end, signal: this.#signal };
  }

  #transmit(byte: number): void {
    const bytes = Uint8Array.of(byte);
    for (const listener of this.#consoleListeners) listener(bytes);
  }
}

/** What stopped the host itself. Anything else is a fault of ours and goes on its way. */
function endOf(error: unknown): End {
  if (error instanceof HostPanic) return { outcome: "host-panic", message: error.message };
  if (error instanceof ProcessorShutdown) {
    return { outcome: error.shutdownCause === "seam-root" ? "module-dead" : "host-panic", message: error.message };
  }
  throw error;
}
