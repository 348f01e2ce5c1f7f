import { ERRNO } from "../../arch/errno.js";
import { hpaOf, isPageAligned, PAGE_SIZE, pfnOf, runsOf } from "./page.js";
import type { FreeReport, PageAllocator } from "./page-allocator.js";

/** Whoever maps pages of the file: KVM's memory slots. */
export interface GuestMemfdClient {
  /** Pages `start` to `end` - 1 of the file are about to go: zap every mapping of them before returning. */
  invalidateRange(start: number, end: number): void;
}

/** How the owner of a lost page dealt with it (enum mf_result). */
export type FailureResult = "Ignored" | "Failed" | "Delayed" | "Recovered";

interface Binding {
  readonly start: number;
  readonly end: number;
  readonly client: GuestMemfdClient;
}

const NOTHING_FREED: FreeReport = { returned: 0, withheld: [], referenced: [] };

/** The file's state as a value; bindings belong to KVM, which makes them anew. */
export interface GuestMemfdState {
  readonly closed: boolean;
  /** Present pages: first page of the file, then the HPAs of adjacent ones. */
  readonly runs: readonly { readonly index: number; readonly hpas: readonly number[] }[];
}

/**
 * A guest_memfd: guest memory that no user process can map (kvm-tdx-host facts 5.2). Pages are allocated one by one at their
 * first use and stay until a hole is punched or the file is closed. Results are addresses, or error numbers, negated.
 */
export class GuestMemfd {
  readonly kind = "guest_memfd";
  readonly sizePages: number;
  readonly #allocator: PageAllocator;
  /** PFN by page of the file, 0 where there is a hole. */
  readonly #pfns: Uint32Array;
  #bindings: Binding[] = [];
  #closed = false;
  #present = 0;

  constructor(allocator: PageAllocator, sizeBytes: number) {
    if (sizeBytes <= 0 || !isPageAligned(sizeBytes)) throw new RangeError(`guest_memfd: no size: ${sizeBytes}`);
    this.#allocator = allocator;
    this.sizePages = sizeBytes / PAGE_SIZE;
    this.#pfns = new Uint32Array(this.sizePages);
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Pages that are allocated. */
  get presentPages(): number {
    return this.#present;
  }

  /** Binds a range of the file to one client: -EEXIST if part of it is bound, -EINVAL if it is not in the file. */
  bind(start: number, pages: number, client: GuestMemfdClient): number {
    const end = start + pages;
    if (start < 0 || pages <= 0 || end > this.sizePages) return -ERRNO.EINVAL;
    if (this.#bindings.some((other) => start < other.end && other.start < end)) return -ERRNO.EEXIST;
    this.#bindings.push({ start, end, client });
    return 0;
  }

  /** Ends every binding of a client. */
  unbind(client: GuestMemfdClient): void {
    this.#bindings = this.#bindings.filter((binding) => binding.client !== client);
  }

  /**
   * HPA of a page of the file, allocated and zeroed if there is a hole (kvm_gmem_get_pfn). -EFAULT after close, -EHWPOISON for
   * a poisoned page, -ENOMEM, -EINVAL beyond the end.
   */
  getPage(index: number): number {
    if (this.#closed) return -ERRNO.EFAULT;
    const present = this.#pfns[index];
    if (present === undefined) return -ERRNO.EINVAL;
    if (present !== 0) {
      const hpa = hpaOf(present);
      return this.#allocator.isHwPoison(hpa) ? -ERRNO.EHWPOISON : hpa;
    }
    const hpa = this.#allocator.allocZeroedPage();
    if (hpa === null) return -ERRNO.ENOMEM;
    this.#pfns[index] = pfnOf(hpa);
    this.#present += 1;
    return hpa;
  }

  /** HPA of a page if it is present, poisoned or not; null for a hole. */
  lookup(index: number): number | null {
    const pfn = this.#pfns[index] ?? 0;
    return pfn === 0 ? null : hpaOf(pfn);
  }

  /** Page of the file at an HPA, -1 if it is not the file's. */
  indexOfPage(hpa: number): number {
    const pfn = pfnOf(hpa);
    return pfn === 0 ? -1 : this.#pfns.indexOf(pfn);
  }

  /** fallocate(PUNCH_HOLE | KEEP_SIZE): zaps and frees the pages of a range of bytes. -EINVAL if it is not whole pages. */
  punchHole(offset: number, length: number, lp = 0): number {
    if (!isPageAligned(offset) || !isPageAligned(length) || offset < 0 || length <= 0) return -ERRNO.EINVAL;
    if (this.#closed) return -ERRNO.EBADF;
    const start = Math.min(offset / PAGE_SIZE, this.sizePages);
    this.#truncate(start, Math.min(start + length / PAGE_SIZE, this.sizePages), lp);
    return 0;
  }

  /** Closes the file: zaps everything, then frees every page. Tells what became of the pages; nothing the second time. */
  close(lp = 0): FreeReport {
    if (this.#closed) return NOTHING_FREED;
    this.#closed = true;
    const report = this.#truncate(0, this.sizePages, lp);
    this.#bindings = [];
    return report;
  }

  /**
   * A page was lost (error_remove_folio): its mappings are zapped, and it stays in the file with its hwpoison flag, so that the
   * next use meets -EHWPOISON.
   */
  errorRemovePage(index: number): FailureResult {
    this.#invalidate(index, index + 1);
    return "Delayed";
  }

  get state(): GuestMemfdState {
    const indexes = this.#presentIndexes(0, this.sizePages);
    const runs = [...runsOf(indexes)].map(({ first, count }) => ({
      index: first,
      hpas: Array.from(this.#pfns.subarray(first, first + count), hpaOf),
    }));
    return { closed: this.#closed, runs };
  }

  /** Puts a file of the same size into a state that `state` gave; the allocator is restored on its own. */
  restore(state: GuestMemfdState): void {
    this.#closed = state.closed;
    this.#pfns.fill(0);
    for (const { index, hpas } of state.runs) this.#pfns.set(hpas.map(pfnOf), index);
    this.#present = state.runs.reduce((sum, run) => sum + run.hpas.length, 0);
  }

  #truncate(start: number, end: number, lp: number): FreeReport {
    this.#invalidate(start, end);
    const indexes = this.#presentIndexes(start, end);
    const hpas = indexes.map((index) => hpaOf(this.#pfns[index] ?? 0));
    this.#pfns.fill(0, start, end);
    this.#present -= hpas.length;
    return this.#allocator.freePages(hpas, lp);
  }

  #invalidate(start: number, end: number): void {
    for (const binding of this.#bindings) {
      const from = Math.max(start, binding.start);
      const to = Math.min(end, binding.end);
      if (from < to) binding.client.invalidateRange(from, to);
    }
  }

  #presentIndexes(start: number, end: number): number[] {
    const indexes: number[] = [];
    for (let index = start; index < end; index++) if (this.#pfns[index] !== 0) indexes.push(index);
    return indexes;
  }
}
