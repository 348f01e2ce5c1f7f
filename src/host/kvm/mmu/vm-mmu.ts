import { EPT_RWX } from "../../../arch/ept.js";
import type { AnonymousMemory, UserMemoryClient } from "../../mm/anonymous-memory.js";
import { PAGE_SIZE } from "../../mm/page.js";
import type { Td } from "../tdx/td.js";
import { TdMemory } from "../tdx/td-memory.js";
import { GfnBitmap } from "./gfn-bitmap.js";
import { type Memslot, Memslots } from "./memslots.js";
import { MirrorTables } from "./mirror.js";
import { SharedEpt } from "./shared-ept.js";

/** Guest memory of one VM: slots, which gfns are private, and both kinds of mapping. */
export class VmMmu implements UserMemoryClient {
  readonly slots: Memslots;
  /** The gfns with KVM_MEMORY_ATTRIBUTE_PRIVATE. */
  readonly attributes = new GfnBitmap();
  readonly tdMemory: TdMemory;
  readonly mirror: MirrorTables;
  #sharedEpt: SharedEpt | null = null;
  readonly #stopListening: () => void;

  constructor(
    private readonly td: Td,
    readonly userMemory: AnonymousMemory,
    /** KVM_REQ_TLB_FLUSH on every vCPU. */
    private readonly flushTlbs: () => void,
  ) {
    this.tdMemory = new TdMemory(td);
    this.mirror = new MirrorTables(this.tdMemory);
    this.slots = new Memslots({
      zapSlot: (slot) => this.#zapSlot(slot),
      zapPrivate: (start, end) => this.zapPrivate(start, end),
    });
    this.#stopListening = userMemory.addClient(this);
  }

  /** Highest gfn below the SHARED bit. */
  get maxGfn(): number {
    return this.td.sharedBit / PAGE_SIZE - 1;
  }

  /** The tables for shared GPAs, made at the first use; null if the host has no page. */
  sharedEpt(): SharedEpt | null {
    const { kernel, gpaw } = this.td;
    this.#sharedEpt ??= SharedEpt.create(kernel.hardware.memory.host, kernel.pages, gpaw === 52 ? 5 : 4);
    return this.#sharedEpt;
  }

  /** Root of those tables, null while there are none. */
  get sharedEptRoot(): number | null {
    return this.#sharedEpt?.root ?? null;
  }

  isSharedMapped(gfn: number): boolean {
    return ((this.#sharedEpt?.entry(this.#sharedGpa(gfn)) ?? 0n) & EPT_RWX) !== 0n;
  }

  mapShared(gfn: number, hpa: number): boolean {
    return this.sharedEpt()?.map(this.#sharedGpa(gfn), hpa) ?? false;
  }

  mapMmio(gfn: number): boolean {
    return this.sharedEpt()?.mapMmio(this.#sharedGpa(gfn)) ?? false;
  }

  zapPrivate(start: number, end: number): void {
    if (this.mirror.zap(start, end).zapped) this.flushTlbs();
  }

  zapShared(start: number, end: number): void {
    if (this.#sharedEpt?.zap(this.#sharedGpa(start), end - start) === true) this.flushTlbs();
  }

  /** User memory is about to go (mmu_notifier): private mappings do not depend on it. */
  invalidateRange(startHva: number, endHva: number): void {
    for (const slot of this.slots.all) {
      const from = Math.max(startHva, slot.userspaceAddr);
      const to = Math.min(endHva, slot.userspaceAddr + slot.pages * PAGE_SIZE);
      if (from >= to) continue;
      const gfn = (hva: number): number => slot.baseGfn + (hva - slot.userspaceAddr) / PAGE_SIZE;
      this.zapShared(Math.floor(gfn(from)), Math.ceil(gfn(to)));
    }
  }

  /** Gives back what belongs to KVM alone; the private pages are the files'. */
  destroy(lp: number): void {
    this.#stopListening();
    this.slots.clear();
    this.#sharedEpt?.free(lp);
    this.#sharedEpt = null;
  }

  #zapSlot(slot: Memslot): void {
    this.zapPrivate(slot.baseGfn, slot.baseGfn + slot.pages);
    this.zapShared(slot.baseGfn, slot.baseGfn + slot.pages);
  }

  #sharedGpa(gfn: number): number {
    return gfn * PAGE_SIZE + this.td.sharedBit;
  }
}
