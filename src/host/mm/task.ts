import { SI_CODE } from "../../arch/siginfo.js";
import type { AnonymousMemory } from "./anonymous-memory.js";
import { PAGE_SHIFT } from "./page.js";

/** The siginfo of a SIGBUS. */
export interface SigBus {
  readonly signal: "SIGBUS";
  /** One of `SI_CODE`. */
  readonly code: number;
  /** `si_addr`; null where the kernel gives none. */
  readonly hva: number | null;
  /** `si_addr_lsb`: log2 of the lost range; 0 where the kernel gives none. */
  readonly addressLsb: number;
}

/** SIGBUS for a page that was lost at `hva`. */
export function memoryErrorSignal(code: number, hva: number): SigBus {
  return { signal: "SIGBUS", code, hva, addressLsb: PAGE_SHIFT };
}

/** SIGBUS as `force_sig` sends it: no address. */
export function forcedSignal(): SigBus {
  return { signal: "SIGBUS", code: SI_CODE.SI_KERNEL, hva: null, addressLsb: 0 };
}

/**
 * A thread of a user process, such as the VMM's thread of one vCPU. Work that the kernel queues on it runs before the
 * thread is back in user mode; signals wait until somebody takes them there.
 */
export class Task {
  readonly #work: (() => void)[] = [];
  readonly #signals: SigBus[] = [];
  /** Machine checks since the last time that task work ran (`mce_count`), and the page of the first one. */
  mceCount = 0;
  mcePfn: number | null = null;
  /** The task asked to hear of lost memory before it touches it (PR_MCE_KILL_EARLY). */
  earlyKill = false;

  constructor(
    readonly name: string,
    /** The process's memory; null for a kernel thread. */
    readonly memory: AnonymousMemory | null = null,
  ) {}

  queueWork(work: () => void): void {
    this.#work.push(work);
  }

  sendSignal(signal: SigBus): void {
    this.#signals.push(signal);
  }

  /** What the kernel does on the way back to user mode: queued work, then the first waiting signal, or null. */
  returnToUser(): SigBus | null {
    for (let work = this.#work.shift(); work !== undefined; work = this.#work.shift()) work();
    return this.#signals.shift() ?? null;
  }

  get hasPendingSignal(): boolean {
    return this.#signals.length > 0;
  }
}
