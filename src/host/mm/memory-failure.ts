import { ERRNO } from "../../arch/errno.js";
import { SI_CODE } from "../../arch/siginfo.js";
import type { EventBus } from "../../platform/event-bus.js";
import type { AnonymousMemory } from "./anonymous-memory.js";
import type { FailureResult, GuestMemfd } from "./guest-memfd.js";
import { type HostProfile, MEMORY_ERROR_QUIRKS } from "./host-profile.js";
import { hpaOf, PAGE_SIZE } from "./page.js";
import type { PageAllocator } from "./page-allocator.js";
import { memoryErrorSignal, type Task } from "./task.js";

/** Flags of memory_failure() (Linux include/linux/mm.h, enum mf_flags). */
export const MF = {
  /** The current task consumed the error and cannot go on without the page. */
  ACTION_REQUIRED: 2,
  /** The task must die even if the page could be replaced. */
  MUST_KILL: 4,
} as const;

/** What memory_failure() took the page for. */
export type PageKind = "free buddy page" | "kernel page" | "dirty LRU page" | "clean unevictable LRU page";

/** One handled page, as the kernel logs it: "recovery action for <kind>: <result>". */
export interface MemoryFailureRecord {
  readonly pfn: number;
  readonly kind: PageKind;
  readonly result: FailureResult;
  /** What memory_failure() returned: 0 or a negated error number. */
  readonly error: number;
}

export interface MemoryFailureConfig {
  readonly allocator: PageAllocator;
  readonly events: EventBus;
  readonly hostProfile: HostProfile;
}

/**
 * memory_failure(): the kernel takes a lost page out of use, whoever has it (smi-mca facts 3.6, kvm-tdx-host facts 5.8).
 * Memory that can be found here is registered; every other allocated page counts as the kernel's own.
 */
export class MemoryFailure {
  readonly #allocator: PageAllocator;
  readonly #events: EventBus;
  readonly #truncationKnowsDelayed: boolean;
  readonly #files = new Set<GuestMemfd>();
  readonly #processes = new Map<AnonymousMemory, readonly Task[]>();
  readonly #records: MemoryFailureRecord[] = [];
  #poisonedPages = 0;

  constructor(config: MemoryFailureConfig) {
    this.#allocator = config.allocator;
    this.#events = config.events;
    this.#truncationKnowsDelayed = MEMORY_ERROR_QUIRKS[config.hostProfile].truncationKnowsDelayed;
  }

  /** Makes a guest_memfd's pages known. Returns the way to end that. */
  addFile(file: GuestMemfd): () => void {
    this.#files.add(file);
    return () => this.#files.delete(file);
  }

  /** Makes a process's memory and its threads known; the list is looked at when a page is lost. Returns the way to end that. */
  addProcess(memory: AnonymousMemory, tasks: readonly Task[]): () => void {
    this.#processes.set(memory, tasks);
    return () => this.#processes.delete(memory);
  }

  /** Pages handled, in order. */
  get records(): readonly MemoryFailureRecord[] {
    return this.#records;
  }

  /** HardwareCorrupted of /proc/meminfo, in KiB: pages that came here. The SEAM branch of the #MC handler counts none. */
  get hardwareCorruptedKib(): number {
    return (this.#poisonedPages * PAGE_SIZE) / 1024;
  }

  /**
   * Handles a lost page. `current` is the task that runs on the processor, if any.
   * Returns 0 if handled, -EHWPOISON if it was poisoned before, -EBUSY if it could not be taken out of use, -ENXIO if it is
   * not the kernel's memory.
   */
  memoryFailure(pfn: number, flags: number, current: Task | null = null, lp = 0): number {
    if (!this.#allocator.isOnline(pfn)) return -ERRNO.ENXIO;
    const hpa = hpaOf(pfn);
    const wasFree = this.#allocator.isFree(hpa);
    if (!this.#allocator.setHwPoison(hpa, lp)) {
      if ((flags & MF.ACTION_REQUIRED) !== 0) this.#killAccessingTask(hpa, current);
      return -ERRNO.EHWPOISON;
    }
    this.#poisonedPages += 1;
    if (wasFree) return this.#record(pfn, "free buddy page", "Recovered", lp);
    for (const file of this.#files) {
      const index = file.indexOfPage(hpa);
      if (index >= 0) return this.#removeFromFile(pfn, file, index, lp);
    }
    for (const [memory, tasks] of this.#processes) {
      const hva = memory.hvaOfPage(hpa);
      if (hva >= 0) return this.#removeFromProcess(pfn, memory, tasks, hva, flags, current, lp);
    }
    return this.#record(pfn, "kernel page", "Ignored", lp);
  }

  #removeFromFile(pfn: number, file: GuestMemfd, index: number, lp: number): number {
    const answer = file.errorRemovePage(index);
    // Linux 6.16 takes an answer of "delayed" for a failed truncation.
    const result = answer === "Delayed" && !this.#truncationKnowsDelayed ? "Failed" : answer;
    return this.#record(pfn, "clean unevictable LRU page", result, lp);
  }

  #removeFromProcess(
    pfn: number,
    memory: AnonymousMemory,
    tasks: readonly Task[],
    hva: number,
    flags: number,
    current: Task | null,
    lp: number,
  ): number {
    memory.unmapPoisoned(hva, lp);
    if ((flags & MF.ACTION_REQUIRED) !== 0 && current !== null && current.memory === memory) {
      current.sendSignal(memoryErrorSignal(SI_CODE.BUS_MCEERR_AR, hva));
    } else {
      // A process that did not ask for an early signal hears of the loss when it touches the page.
      tasks.find((task) => task.earlyKill)?.sendSignal(memoryErrorSignal(SI_CODE.BUS_MCEERR_AO, hva));
    }
    return this.#record(pfn, "dirty LRU page", "Recovered", lp);
  }

  /** The page was poisoned before and the current task ran into it all the same: it cannot go on. */
  #killAccessingTask(hpa: number, current: Task | null): void {
    const hva = current?.memory?.hvaOfPage(hpa) ?? -1;
    if (hva >= 0) current?.sendSignal(memoryErrorSignal(SI_CODE.BUS_MCEERR_AR, hva));
  }

  #record(pfn: number, kind: PageKind, result: FailureResult, lp: number): number {
    const error = result === "Recovered" || result === "Delayed" ? 0 : -ERRNO.EBUSY;
    this.#records.push({ pfn, kind, result, error });
    this.#events.emit("mm", "memory-failure", lp, null, { hpa: BigInt(hpaOf(pfn)), kind, result, error });
    return error;
  }
}
