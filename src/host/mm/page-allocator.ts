import type { EventBus } from "../../platform/event-bus.js";
import type { HostMemory } from "./host-memory.js";
import { hpaOf, isPageAligned, PAGE_SIZE, pfnOf, runsOf } from "./page.js";

/**
 * One 16-bit word per page, as struct page has flags and a reference count. All zeros is a page that was never used, so
 * that a new allocator touches no memory.
 */
const FLAG = {
  /** PG_hwpoison. */
  HWPOISON: 1,
  /** Refused by the free path, or taken out of the free pages: never allocated again. */
  WITHHELD: 2,
  /** Was allocated before: its bytes are somebody's. */
  USED: 4,
} as const;
const REFERENCE = 8;
const REFERENCES_MAX = Math.floor(0xffff / REFERENCE);

/** What came of giving a reference back. */
export type FreeResult = "returned" | "withheld" | "referenced";

/** What came of giving many pages back. */
export interface FreeReport {
  /** Pages that went to the free pages. */
  readonly returned: number;
  /** HPAs of the pages that the free path refused. */
  readonly withheld: readonly number[];
  /** HPAs of the pages that somebody else still holds. */
  readonly referenced: readonly number[];
}

export interface PageCounters {
  /** Pages that the allocator has charge of. */
  readonly total: number;
  /** Pages that can be allocated. */
  readonly free: number;
  /** Pages with the hwpoison flag. */
  readonly poisoned: number;
  /** Poisoned pages that nobody holds and that are kept out of the free pages. */
  readonly withheld: number;
}

export interface PageAllocatorConfig {
  /** First byte of the range in charge, page aligned and not 0. */
  readonly first: number;
  /** End of the range, page aligned. */
  readonly end: number;
  readonly memory: HostMemory;
  readonly events: EventBus;
}

/** The allocator's state as a value. */
export interface PageAllocatorState {
  /** First page of the untouched middle, and its end. */
  readonly bump: number;
  readonly top: number;
  readonly freePages: readonly number[];
  /** Words of the pages, as [run length, word] pairs. */
  readonly words: readonly (readonly [count: number, word: number])[];
}

/**
 * The host kernel's page allocator. Single pages come from a free list (last freed, first given) and then from the bottom of
 * the untouched range; contiguous blocks come from its top. The order depends on the calls alone.
 *
 * A page with the hwpoison flag is never given out: the free path refuses it (order-0 check of free_pages_prepare), and a
 * free page that gets the flag is taken out at once.
 */
export class PageAllocator {
  readonly first: number;
  readonly end: number;
  readonly #memory: HostMemory;
  readonly #events: EventBus;
  readonly #firstPfn: number;
  readonly #words: Uint16Array;
  readonly #freePages: number[] = [];
  #bump: number;
  #top: number;
  #free: number;
  #poisoned = 0;
  #withheld = 0;

  constructor(config: PageAllocatorConfig) {
    const { first, end } = config;
    if (!isPageAligned(first) || !isPageAligned(end) || first <= 0 || end <= first) {
      throw new RangeError(`page allocator: no page range [0x${first.toString(16)}, 0x${end.toString(16)})`);
    }
    this.first = first;
    this.end = end;
    this.#memory = config.memory;
    this.#events = config.events;
    this.#firstPfn = pfnOf(first);
    this.#bump = this.#firstPfn;
    this.#top = pfnOf(end);
    this.#free = this.#top - this.#bump;
    this.#words = new Uint16Array(this.#free);
  }

  get counters(): PageCounters {
    return { total: this.#words.length, free: this.#free, poisoned: this.#poisoned, withheld: this.#withheld };
  }

  /** True if the frame is memory that the kernel manages (pfn_to_online_page). */
  isOnline(pfn: number): boolean {
    return Number.isInteger(pfn) && pfn >= this.#firstPfn && pfn < this.#firstPfn + this.#words.length;
  }

  /** One page with one reference, its bytes as the last owner left them; null when memory is exhausted. */
  allocPage(): number | null {
    const pfn = this.#takePage();
    if (pfn === null) return null;
    this.#setWord(pfn, FLAG.USED | REFERENCE);
    return hpaOf(pfn);
  }

  /** One page full of zeros (__GFP_ZERO). A page that was never used is not written, so that it costs no memory. */
  allocZeroedPage(): number | null {
    const pfn = this.#takePage();
    if (pfn === null) return null;
    const hpa = hpaOf(pfn);
    if ((this.#word(pfn) & FLAG.USED) !== 0) this.#memory.fill(hpa, PAGE_SIZE, 0);
    this.#setWord(pfn, FLAG.USED | REFERENCE);
    return hpa;
  }

  /**
   * Adjacent pages for tables such as PAMT, from the top of the untouched range; null when there is no such block.
   * `alignment` is in bytes, a multiple of 4096. Each page is freed on its own.
   */
  allocContiguous(pages: number, alignment: number = PAGE_SIZE): number | null {
    const alignPages = alignment / PAGE_SIZE;
    const start = Math.floor((this.#top - pages) / alignPages) * alignPages;
    if (pages <= 0 || start < this.#bump) return null;
    for (let pfn = start; pfn < start + pages; pfn++) {
      if ((this.#word(pfn) & FLAG.HWPOISON) !== 0) return this.#allocBelowPoison(pfn, pages, alignment);
    }
    for (let pfn = this.#top - 1; pfn >= start + pages; pfn--) this.#keepFree(pfn);
    this.#top = start;
    for (let pfn = start; pfn < start + pages; pfn++) this.#setWord(pfn, FLAG.USED | REFERENCE);
    this.#free -= pages;
    return hpaOf(start);
  }

  /** Takes a further reference, such as a pin; the page is free when the last one is given back. */
  getPage(hpa: number): void {
    const pfn = this.#allocated(hpa);
    const word = this.#word(pfn);
    if (Math.floor(word / REFERENCE) === REFERENCES_MAX) throw new RangeError("page allocator: too many references");
    this.#setWord(pfn, word + REFERENCE);
  }

  /** References held on a page; 0 for a free one. */
  references(hpa: number): number {
    const pfn = pfnOf(hpa);
    return this.isOnline(pfn) ? Math.floor(this.#word(pfn) / REFERENCE) : 0;
  }

  /** True for a page that nobody holds and that can be allocated. */
  isFree(hpa: number): boolean {
    const pfn = pfnOf(hpa);
    return this.isOnline(pfn) && this.#word(pfn) < REFERENCE && (this.#word(pfn) & FLAG.WITHHELD) === 0;
  }

  /** Gives a reference back. A page with the hwpoison flag is refused and withheld, with the event "page-withheld". */
  freePage(hpa: number, lp = 0): FreeResult {
    const result = this.#release(hpa);
    if (result === "withheld") this.#emitRun("page-withheld", pfnOf(hpa), 1, lp);
    return result;
  }

  /**
   * Gives back the pages of one operation, lowest first. Returned and withheld pages are reported as events by runs of
   * adjacent pages.
   */
  freePages(hpas: Iterable<number>, lp = 0): FreeReport {
    const sorted = Float64Array.from(hpas).sort();
    const pages = { returned: [] as number[], withheld: [] as number[], referenced: [] as number[] };
    for (const hpa of sorted) pages[this.#release(hpa)].push(pfnOf(hpa));
    for (const run of runsOf(pages.returned)) this.#emitRun("page-returned", run.first, run.count, lp);
    for (const run of runsOf(pages.withheld)) this.#emitRun("page-withheld", run.first, run.count, lp);
    return {
      returned: pages.returned.length,
      withheld: pages.withheld.map(hpaOf),
      referenced: pages.referenced.map(hpaOf),
    };
  }

  /**
   * Sets the hwpoison flag of a page (SetPageHWPoison), once: the event "page-poisoned" is emitted when the flag was clear.
   * Returns whether it was. Nothing else happens to a page that is in use; a free one is taken out of the free pages.
   */
  setHwPoison(hpa: number, lp = 0): boolean {
    const pfn = pfnOf(hpa);
    if (!this.isOnline(pfn)) throw new RangeError(`page allocator: 0x${hpa.toString(16)} is not its memory`);
    const word = this.#word(pfn);
    if ((word & FLAG.HWPOISON) !== 0) return false;
    this.#poisoned += 1;
    this.#setWord(pfn, word | FLAG.HWPOISON);
    this.#events.emit("mm", "page-poisoned", lp, null, { hpa: BigInt(hpaOf(pfn)) });
    if (word < REFERENCE) this.#withdrawFree(pfn, lp);
    return true;
  }

  isHwPoison(hpa: number): boolean {
    const pfn = pfnOf(hpa);
    return this.isOnline(pfn) && (this.#word(pfn) & FLAG.HWPOISON) !== 0;
  }

  /** HPAs of the pages with the hwpoison flag, ascending. */
  get poisonedPages(): number[] {
    return this.#pagesWith(FLAG.HWPOISON);
  }

  /** HPAs of the withheld pages, ascending. */
  get withheldPages(): number[] {
    return this.#pagesWith(FLAG.WITHHELD);
  }

  get state(): PageAllocatorState {
    const words: [number, number][] = [];
    for (const word of this.#words) {
      const last = words.at(-1);
      if (last !== undefined && last[1] === word) last[0] += 1;
      else words.push([1, word]);
    }
    return { bump: this.#bump, top: this.#top, freePages: [...this.#freePages], words };
  }

  /** Puts the allocator of the same range into a state that `state` gave. */
  restore(state: PageAllocatorState): void {
    this.#bump = state.bump;
    this.#top = state.top;
    this.#freePages.splice(0, Infinity, ...state.freePages);
    let page = 0;
    for (const [count, word] of state.words) {
      this.#words.fill(word, page, page + count);
      page += count;
    }
    const words = this.#words;
    const count = (wanted: (word: number) => boolean): number =>
      words.reduce((n, word) => n + (wanted(word) ? 1 : 0), 0);
    this.#poisoned = count((word) => (word & FLAG.HWPOISON) !== 0);
    this.#withheld = count((word) => (word & FLAG.WITHHELD) !== 0);
    this.#free = count((word) => word < REFERENCE && (word & FLAG.WITHHELD) === 0);
  }

  #word(pfn: number): number {
    return this.#words[pfn - this.#firstPfn] ?? 0;
  }

  #setWord(pfn: number, word: number): void {
    this.#words[pfn - this.#firstPfn] = word;
  }

  /** Takes a page out of the free ones. */
  #takePage(): number | null {
    let pfn = this.#freePages.pop();
    while (pfn === undefined) {
      if (this.#bump >= this.#top) return null;
      const next = this.#bump++;
      if ((this.#word(next) & FLAG.WITHHELD) === 0) pfn = next;
    }
    this.#free -= 1;
    return pfn;
  }

  /** A block may not contain poison: whatever lies above the poisoned page becomes single pages. */
  #allocBelowPoison(poisoned: number, pages: number, alignment: number): number | null {
    for (let pfn = this.#top - 1; pfn > poisoned; pfn--) this.#keepFree(pfn);
    this.#top = poisoned;
    return this.allocContiguous(pages, alignment);
  }

  #keepFree(pfn: number): void {
    if ((this.#word(pfn) & FLAG.WITHHELD) === 0) this.#freePages.push(pfn);
  }

  #allocated(hpa: number): number {
    const pfn = pfnOf(hpa);
    if (!isPageAligned(hpa) || !this.isOnline(pfn) || this.#word(pfn) < REFERENCE) {
      throw new RangeError(`page allocator: 0x${hpa.toString(16)} is not an allocated page`);
    }
    return pfn;
  }

  #release(hpa: number): FreeResult {
    const pfn = this.#allocated(hpa);
    const word = this.#word(pfn) - REFERENCE;
    if (word >= REFERENCE) {
      this.#setWord(pfn, word);
      return "referenced";
    }
    if ((word & FLAG.HWPOISON) !== 0) {
      this.#setWord(pfn, word | FLAG.WITHHELD);
      this.#withheld += 1;
      return "withheld";
    }
    this.#setWord(pfn, word);
    this.#freePages.push(pfn);
    this.#free += 1;
    return "returned";
  }

  #withdrawFree(pfn: number, lp: number): void {
    this.#setWord(pfn, this.#word(pfn) | FLAG.WITHHELD);
    const listed = this.#freePages.indexOf(pfn);
    if (listed >= 0) this.#freePages.splice(listed, 1);
    this.#free -= 1;
    this.#withheld += 1;
    this.#emitRun("page-withheld", pfn, 1, lp);
  }

  #emitRun(event: string, pfn: number, count: number, lp: number): void {
    this.#events.emit("mm", event, lp, null, { hpa: BigInt(hpaOf(pfn)), count });
  }

  #pagesWith(flag: number): number[] {
    const pages: number[] = [];
    this.#words.forEach((word, index) => {
      if ((word & flag) !== 0) pages.push(hpaOf(this.#firstPfn + index));
    });
    return pages;
  }
}
