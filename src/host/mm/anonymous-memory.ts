import { ERRNO } from "../../arch/errno.js";
import { SI_CODE } from "../../arch/siginfo.js";
import type { HostMemory } from "./host-memory.js";
import { hpaOf, isPageAligned, PAGE_SIZE, pfnOf } from "./page.js";
import type { PageAllocator } from "./page-allocator.js";
import { memoryErrorSignal, type SigBus } from "./task.js";

/** Where the first mapping begins; the next ones follow, with a page between them that is never mapped. */
const MMAP_BASE = 0x7f00_0000_0000;

/** Page-table words beside a PFN: nothing there yet, and a page that memory failure took away. */
const NONE = 0;
const HWPOISON_ENTRY = 0xffffffff;

interface Mapping {
  readonly start: number;
  readonly end: number;
  /** PFN by page, or one of the words above. */
  readonly pages: Uint32Array;
}

/** The user process touched an address that it has not mapped. */
export class SegmentationFault extends Error {
  override readonly name = "SegmentationFault";
  constructor(readonly hva: number) {
    super(`no memory is mapped at user address 0x${hva.toString(16)}`);
  }
}

/** The user process touched a page that was lost: the kernel answers with this SIGBUS. */
export class BusError extends Error {
  override readonly name = "BusError";
  constructor(readonly siginfo: SigBus) {
    super(`the page at user address 0x${(siginfo.hva ?? 0).toString(16)} was lost to a memory error`);
  }
}

/** Whoever maps the process's memory a second time: KVM's shared mappings (mmu_notifier). */
export interface UserMemoryClient {
  /** Bytes `start` to `end` - 1 of user memory are about to go. */
  invalidateRange(start: number, end: number): void;
}

/** The address space as a value. */
export interface AnonymousMemoryState {
  readonly next: number;
  readonly mappings: readonly { readonly start: number; readonly end: number; readonly pages: readonly number[] }[];
}

/**
 * Private anonymous memory of a user process, the VMM: user addresses (`hva`) to pages, which are allocated at the first
 * write. It is what shared guest memory lies in.
 */
export class AnonymousMemory {
  readonly kind = "anonymous";
  readonly #allocator: PageAllocator;
  readonly #memory: HostMemory;
  readonly #clients = new Set<UserMemoryClient>();
  #mappings: Mapping[] = [];
  #next = MMAP_BASE;

  constructor(allocator: PageAllocator, memory: HostMemory) {
    this.#allocator = allocator;
    this.#memory = memory;
  }

  /** Maps at least `sizeBytes` of zeros; returns the first address. */
  mmap(sizeBytes: number): number {
    if (!(sizeBytes > 0)) throw new RangeError(`mmap: no size: ${sizeBytes}`);
    const pages = Math.ceil(sizeBytes / PAGE_SIZE);
    const start = this.#next;
    const end = start + pages * PAGE_SIZE;
    this.#mappings.push({ start, end, pages: new Uint32Array(pages) });
    this.#next = end + PAGE_SIZE;
    return start;
  }

  /** Takes whole pages out of the address space and frees them. -EINVAL if the range is not whole pages. */
  munmap(hva: number, sizeBytes: number, lp = 0): number {
    if (!isPageAligned(hva) || !isPageAligned(sizeBytes) || sizeBytes <= 0) return -ERRNO.EINVAL;
    const end = hva + sizeBytes;
    this.#invalidate(hva, end);
    const freed: number[] = [];
    this.#mappings = this.#mappings.flatMap((mapping) => {
      const from = Math.max(hva, mapping.start);
      const to = Math.min(end, mapping.end);
      if (from >= to) return [mapping];
      const [before, gone, after] = [
        part(mapping, mapping.start, from),
        part(mapping, from, to),
        part(mapping, to, mapping.end),
      ];
      for (const pfn of gone.pages) if (pfn !== NONE && pfn !== HWPOISON_ENTRY) freed.push(hpaOf(pfn));
      return [before, after].filter((rest) => rest.start < rest.end);
    });
    for (const hpa of freed) this.#allocator.freePage(hpa, lp);
    return 0;
  }

  /** Unmaps everything, as the end of the process does. */
  unmapAll(lp = 0): void {
    for (const { start, end } of [...this.#mappings]) this.munmap(start, end - start, lp);
  }

  /**
   * HPA of the byte at `hva`. A page that was never written is allocated if `allocate` is true, else the result is null.
   * -EFAULT where nothing is mapped, -EHWPOISON for a lost page, -ENOMEM.
   */
  hvaToHpa(hva: number, allocate: boolean): number | null {
    const mapping = this.#mappingAt(hva);
    if (mapping === undefined) return -ERRNO.EFAULT;
    const index = Math.floor((hva - mapping.start) / PAGE_SIZE);
    let pfn = mapping.pages[index] ?? NONE;
    if (pfn === HWPOISON_ENTRY) return -ERRNO.EHWPOISON;
    if (pfn === NONE) {
      if (!allocate) return null;
      const hpa = this.#allocator.allocZeroedPage();
      if (hpa === null) return -ERRNO.ENOMEM;
      pfn = pfnOf(hpa);
      mapping.pages[index] = pfn;
    }
    return hpaOf(pfn) + (hva % PAGE_SIZE);
  }

  /** Reads as the process does. Throws SegmentationFault or BusError. */
  read(hva: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    for (const piece of pieces(hva, length)) {
      const hpa = this.#touch(piece.hva, false);
      if (hpa !== null) bytes.set(this.#memory.read(hpa, piece.length), piece.offset);
    }
    return bytes;
  }

  /** Writes as the process does. Throws SegmentationFault or BusError. */
  write(hva: number, bytes: Uint8Array): void {
    for (const piece of pieces(hva, bytes.length)) {
      const hpa = this.#touch(piece.hva, true);
      if (hpa !== null) this.#memory.write(hpa, bytes.subarray(piece.offset, piece.offset + piece.length));
    }
  }

  /** Tells a client of ranges that go. Returns the way to stop. */
  addClient(client: UserMemoryClient): () => void {
    this.#clients.add(client);
    return () => this.#clients.delete(client);
  }

  /** User address of the page at an HPA, -1 if it is not mapped here. */
  hvaOfPage(hpa: number): number {
    const pfn = pfnOf(hpa);
    if (pfn === NONE) return -1;
    for (const mapping of this.#mappings) {
      const index = mapping.pages.indexOf(pfn);
      if (index >= 0) return mapping.start + index * PAGE_SIZE;
    }
    return -1;
  }

  /** Replaces the page at `hva` by a hwpoison entry, so that the next touch gets SIGBUS, and gives the page back. */
  unmapPoisoned(hva: number, lp = 0): void {
    const mapping = this.#mappingAt(hva);
    if (mapping === undefined) return;
    const index = Math.floor((hva - mapping.start) / PAGE_SIZE);
    const pfn = mapping.pages[index] ?? NONE;
    if (pfn === NONE || pfn === HWPOISON_ENTRY) return;
    const start = mapping.start + index * PAGE_SIZE;
    this.#invalidate(start, start + PAGE_SIZE);
    mapping.pages[index] = HWPOISON_ENTRY;
    this.#allocator.freePage(hpaOf(pfn), lp);
  }

  /** Pages that are allocated. */
  get residentPages(): number {
    const resident = (mapping: Mapping): number =>
      mapping.pages.reduce((n, pfn) => n + (pfn === NONE || pfn === HWPOISON_ENTRY ? 0 : 1), 0);
    return this.#mappings.reduce((sum, mapping) => sum + resident(mapping), 0);
  }

  get state(): AnonymousMemoryState {
    const mappings = this.#mappings.map(({ start, end, pages }) => ({ start, end, pages: Array.from(pages) }));
    return { next: this.#next, mappings };
  }

  /** Puts the address space into a state that `state` gave; the allocator is restored on its own. */
  restore(state: AnonymousMemoryState): void {
    this.#next = state.next;
    this.#mappings = state.mappings.map(({ start, end, pages }) => ({ start, end, pages: Uint32Array.from(pages) }));
  }

  #touch(hva: number, write: boolean): number | null {
    const hpa = this.hvaToHpa(hva, write);
    if (hpa === null || hpa >= 0) return hpa;
    if (hpa === -ERRNO.EHWPOISON) throw new BusError(memoryErrorSignal(SI_CODE.BUS_MCEERR_AR, hva));
    if (hpa === -ERRNO.ENOMEM) throw new OutOfMemory(hva);
    throw new SegmentationFault(hva);
  }

  #mappingAt(hva: number): Mapping | undefined {
    return this.#mappings.find((mapping) => hva >= mapping.start && hva < mapping.end);
  }

  #invalidate(start: number, end: number): void {
    for (const client of this.#clients) client.invalidateRange(start, end);
  }
}

/** The host has no page left for the process. */
export class OutOfMemory extends Error {
  override readonly name = "OutOfMemory";
  constructor(readonly hva: number) {
    super(`the host has no free page for user address 0x${hva.toString(16)}: give the machine more host memory`);
  }
}

function part(mapping: Mapping, start: number, end: number): Mapping {
  const index = (address: number): number => (address - mapping.start) / PAGE_SIZE;
  return { start, end, pages: mapping.pages.subarray(index(start), index(end)) };
}

function* pieces(hva: number, length: number): Generator<{ hva: number; offset: number; length: number }> {
  for (let offset = 0; offset < length; ) {
    const at = hva + offset;
    const piece = Math.min(length - offset, PAGE_SIZE - (at % PAGE_SIZE));
    yield { hva: at, offset, length: piece };
    offset += piece;
  }
}
