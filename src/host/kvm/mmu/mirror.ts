import { ERRNO } from "../../../arch/errno.js";
import { SEPT_LEVEL } from "../../../arch/tdx-abi.js";
import { hpaOf, PAGE_SIZE, pfnOf } from "../../mm/page.js";

/** Entries of a paging structure. */
const ENTRIES = 512;
/** Guest pages below an entry of each level (SEPT_LEVEL). */
const SPAN = [1, 512, 512 ** 2, 512 ** 3, 512 ** 4] as const;

/** What the mirror does to the Secure EPT that it mirrors. Results: 0, or an error number, negated; -EBUSY: try again. */
export interface SecureEpt {
  /** Level of the entries in the root: PML4E or PML5E. */
  readonly topLevel: number;
  /** Adds a table below the entry of that level; its page is given, or an error. */
  addTable(gpa: number, level: number): number;
  /** Maps a page. */
  mapPage(gpa: number, hpa: number): number;
  /** Unmaps a page and gives it back to the host. */
  unmapPage(gpa: number, hpa: number): number;
  /** A page that could not be unmapped stays in the mirror, so that it can be reclaimed when the TD's KeyID is gone. */
  readonly keepsFailed: boolean;
}

/** Table of leaf entries: PFNs of 512 adjacent guest pages, 0 where nothing is mapped. */
interface LeafTable {
  readonly pfns: Uint32Array;
  used: number;
}

/**
 * KVM's own copy of a TD's Secure EPT ("mirror" page tables): which tables exist and which page each private gfn has. Leaves
 * are 4 KiB. Tables stay until the TD is gone.
 */
export class MirrorTables {
  /** Pages of the Secure EPT's tables, in the order in which they were added. */
  readonly tablePages: number[] = [];
  /** Guest pages that are mapped. */
  mapped = 0;
  readonly #upper: Map<number, true>[] = [new Map(), new Map(), new Map(), new Map(), new Map()];
  readonly #leaves = new Map<number, LeafTable>();
  #lastKey = -1;
  #last: LeafTable | undefined;

  constructor(private readonly sept: SecureEpt) {}

  /** HPA of the page that a gfn has, null if none. */
  lookup(gfn: number): number | null {
    const pfn = this.#leaf(gfn)?.pfns[gfn % ENTRIES] ?? 0;
    return pfn === 0 ? null : hpaOf(pfn);
  }

  /** Maps a page, with the tables that it needs. -EBUSY if the module was busy, -EIO, -ENOMEM. */
  map(gfn: number, hpa: number): number {
    let table = this.#leaf(gfn);
    if (table === undefined) {
      const error = this.#addTables(gfn);
      if (error !== 0) return error;
      table = this.#leaf(gfn);
      if (table === undefined) return -ERRNO.EIO;
    }
    const error = this.sept.mapPage(gfn * PAGE_SIZE, hpa);
    if (error !== 0) return error;
    table.pfns[gfn % ENTRIES] = pfnOf(hpa);
    table.used++;
    this.mapped++;
    return 0;
  }

  /** Unmaps what is mapped in a range; the first error, but every page is tried. True if something was unmapped. */
  zap(start: number, end: number): { zapped: boolean; error: number } {
    const before = this.mapped;
    let error = 0;
    for (const key of this.#keysIn(start, end)) {
      const table = this.#leaves.get(key);
      if (table === undefined || table.used === 0) continue;
      const first = Math.max(start, key * ENTRIES);
      const last = Math.min(end, (key + 1) * ENTRIES);
      for (let gfn = first; gfn < last; gfn++) {
        const failed = this.#zapOne(table, gfn);
        if (error === 0) error = failed;
      }
    }
    return { zapped: this.mapped !== before, error };
  }

  /** Mapped pages: gfn and HPA, by gfn. */
  *entries(): Generator<{ gfn: number; hpa: number }> {
    for (const key of [...this.#leaves.keys()].sort((a, b) => a - b)) {
      const table = this.#leaves.get(key);
      for (let i = 0; table !== undefined && i < ENTRIES; i++) {
        const pfn = table.pfns[i] ?? 0;
        if (pfn !== 0) yield { gfn: key * ENTRIES + i, hpa: hpaOf(pfn) };
      }
    }
  }

  #zapOne(table: LeafTable, gfn: number): number {
    const pfn = table.pfns[gfn % ENTRIES] ?? 0;
    if (pfn === 0) return 0;
    const error = this.sept.unmapPage(gfn * PAGE_SIZE, hpaOf(pfn));
    if (error !== 0 && this.sept.keepsFailed) return error;
    table.pfns[gfn % ENTRIES] = 0;
    table.used--;
    this.mapped--;
    return error;
  }

  #leaf(gfn: number): LeafTable | undefined {
    const key = Math.floor(gfn / ENTRIES);
    if (key !== this.#lastKey || this.#last === undefined) {
      this.#lastKey = key;
      this.#last = this.#leaves.get(key);
    }
    return this.#last;
  }

  #addTables(gfn: number): number {
    for (let level = this.sept.topLevel; level >= SEPT_LEVEL.PDE; level--) {
      const span = SPAN[level as 1 | 2 | 3 | 4];
      const key = Math.floor(gfn / span);
      const known = this.#upper[level];
      if (known === undefined || known.has(key)) continue;
      const page = this.sept.addTable(key * span * PAGE_SIZE, level);
      if (page < 0) return page;
      this.tablePages.push(page);
      known.set(key, true);
      if (level === SEPT_LEVEL.PDE) this.#leaves.set(key, { pfns: new Uint32Array(ENTRIES), used: 0 });
    }
    this.#lastKey = -1;
    return 0;
  }

  #keysIn(start: number, end: number): number[] {
    const first = Math.floor(start / ENTRIES);
    const last = Math.floor((end - 1) / ENTRIES);
    if (last - first + 1 <= this.#leaves.size)
      return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => first + i);
    return [...this.#leaves.keys()].filter((key) => key >= first && key <= last).sort((a, b) => a - b);
  }
}
