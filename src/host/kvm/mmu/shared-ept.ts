import { EPT_ENTRY, EPT_RWX } from "../../../arch/ept.js";
import type { HardwareMemory } from "../../hardware.js";
import { PAGE_SIZE } from "../../mm/page.js";
import type { PageAllocator } from "../../mm/page-allocator.js";

const ENTRIES = 512;
/** Nothing mapped: the first touch exits to KVM (SHADOW_NONPRESENT_VALUE). */
const NON_PRESENT = EPT_ENTRY.SUPPRESS_VE;
/** No memory there: the processor gives the guest a #VE (the MMIO SPTE value of a TD). */
const MMIO = 0n;
const TABLE = EPT_RWX | EPT_ENTRY.ACCESSED;
const PAGE = EPT_RWX | EPT_ENTRY.MEMORY_TYPE_WB | EPT_ENTRY.ACCESSED | EPT_ENTRY.DIRTY | EPT_ENTRY.SUPPRESS_VE;

const EMPTY_TABLE = new Uint8Array(new BigUint64Array(ENTRIES).fill(NON_PRESENT).buffer);

/**
 * The EPT by which a TD reaches its shared GPAs: real tables in host memory, walked by the processor, built by KVM. Indexes
 * include the SHARED bit, as the processor walks with it.
 */
export class SharedEpt {
  readonly root: number;
  /** Every page of the tables, the root included. */
  readonly #pages: number[] = [];

  private constructor(
    private readonly memory: HardwareMemory,
    private readonly allocator: PageAllocator,
    readonly levels: 4 | 5,
    root: number,
  ) {
    this.root = root;
    this.#pages.push(root);
  }

  /** New, empty tables; null if the host has no page. */
  static create(memory: HardwareMemory, allocator: PageAllocator, levels: 4 | 5): SharedEpt | null {
    const root = newTable(memory, allocator);
    return root === null ? null : new SharedEpt(memory, allocator, levels, root);
  }

  /** Maps the page of a GPA (SHARED bit included). False if the host has no page for a table. */
  map(gpa: number, hpa: number): boolean {
    return this.#set(gpa, BigInt(hpa) | PAGE);
  }

  /** Marks a GPA as device memory: the next touch is a #VE. */
  mapMmio(gpa: number): boolean {
    return this.#set(gpa, MMIO);
  }

  /** The leaf entry of a GPA; the non-present value where there is no table. */
  entry(gpa: number): bigint {
    const at = this.#walk(gpa, false);
    return at === null ? NON_PRESENT : this.memory.read64(at);
  }

  /** Takes every mapping of `count` pages from a GPA on away. True if there was one: a TLB may hold it. */
  zap(gpa: number, count: number): boolean {
    let zapped = false;
    for (let page = 0; page < count; ) {
      const at = this.#walk(gpa + page * PAGE_SIZE, false);
      const inTable = ENTRIES - (Math.floor(gpa / PAGE_SIZE + page) % ENTRIES);
      const here = Math.min(inTable, count - page);
      for (let i = 0; at !== null && i < here; i++) {
        if (this.memory.read64(at + 8 * i) === NON_PRESENT) continue;
        this.memory.write64(at + 8 * i, NON_PRESENT);
        zapped = true;
      }
      page += here;
    }
    return zapped;
  }

  /** Gives the tables back. */
  free(lp: number): void {
    for (const page of this.#pages.splice(0)) this.allocator.freePage(page, lp);
  }

  #set(gpa: number, entry: bigint): boolean {
    const at = this.#walk(gpa, true);
    if (at === null) return false;
    this.memory.write64(at, entry);
    return true;
  }

  /** HPA of the leaf entry of a GPA; null if a table is missing and was not, or could not be, made. */
  #walk(gpa: number, create: boolean): number | null {
    let table = this.root;
    for (let level = this.levels - 1; level > 0; level--) {
      const at = table + 8 * indexAt(gpa, level);
      const entry = this.memory.read64(at);
      if ((entry & EPT_RWX) !== 0n) {
        table = Number(entry & EPT_ENTRY.ADDRESS);
        continue;
      }
      if (!create) return null;
      const page = newTable(this.memory, this.allocator);
      if (page === null) return null;
      this.#pages.push(page);
      this.memory.write64(at, BigInt(page) | TABLE);
      table = page;
    }
    return table + 8 * indexAt(gpa, 0);
  }
}

function indexAt(gpa: number, level: number): number {
  return Math.floor(gpa / PAGE_SIZE / ENTRIES ** level) % ENTRIES;
}

function newTable(memory: HardwareMemory, allocator: PageAllocator): number | null {
  const page = allocator.allocPage();
  if (page !== null) memory.write(page, EMPTY_TABLE);
  return page;
}
