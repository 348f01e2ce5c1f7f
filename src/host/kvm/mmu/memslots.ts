import { ERRNO } from "../../../arch/errno.js";
import { KVM_MEM_GUEST_MEMFD } from "../../../arch/kvm-uapi.js";
import type { GuestMemfd, GuestMemfdClient } from "../../mm/guest-memfd.js";
import { isPageAligned, PAGE_SIZE } from "../../mm/page.js";

/** struct kvm_userspace_memory_region2. `guestMemfd` is the file itself where the structure has a descriptor. */
export interface UserspaceMemoryRegion2 {
  readonly slot: number;
  readonly flags: number;
  readonly guestPhysAddr: number;
  readonly memorySize: number;
  readonly userspaceAddr: number;
  readonly guestMemfd?: GuestMemfd;
  readonly guestMemfdOffset?: number;
}

/** Slots that user space has, per address space. */
export const KVM_USER_MEM_SLOTS = 32764;

/** One memory slot (struct kvm_memory_slot). */
export interface Memslot {
  readonly id: number;
  readonly baseGfn: number;
  readonly pages: number;
  readonly flags: number;
  readonly userspaceAddr: number;
  readonly gmem: GuestMemfd | null;
  /** Page of the file at which the slot begins. */
  readonly gmemStart: number;
  /** The slot's binding of the file. */
  readonly client: GuestMemfdClient | null;
}

/** What the slots tell the MMU. */
export interface MemslotEvents {
  /** Guest pages `start` to `end` - 1 lose their backing: zap both kinds of mapping. */
  zapSlot(slot: Memslot): void;
  /** Pages of a slot's file are about to go. */
  zapPrivate(startGfn: number, endGfn: number): void;
}

/** Memory slots of one VM. Gfns carry no SHARED bit. */
export class Memslots {
  /** Sorted by gfn. */
  #slots: Memslot[] = [];
  #last: Memslot | undefined;

  constructor(private readonly events: MemslotEvents) {}

  get all(): readonly Memslot[] {
    return this.#slots;
  }

  find(gfn: number): Memslot | undefined {
    const last = this.#last;
    if (last !== undefined && gfn >= last.baseGfn && gfn < last.baseGfn + last.pages) return last;
    const slot = this.#slots.find((candidate) => gfn >= candidate.baseGfn && gfn < candidate.baseGfn + candidate.pages);
    if (slot !== undefined) this.#last = slot;
    return slot;
  }

  /** KVM_SET_USER_MEMORY_REGION2 (kvm_set_memory_region): checks in the kernel's order. `maxGfn` is the highest legal one. */
  set(region: UserspaceMemoryRegion2, maxGfn: number): number {
    const invalid = this.#check(region, maxGfn);
    if (invalid !== 0) return invalid;
    const old = this.#slots.find((slot) => slot.id === region.slot);
    if (region.memorySize === 0) {
      if (old === undefined) return -ERRNO.EINVAL;
      this.#remove(old);
      return 0;
    }
    if (old !== undefined) return this.#modify(old, region);
    const slot = this.#make(region);
    if (this.#overlaps(slot, null)) return -ERRNO.EEXIST;
    if (slot.gmem !== null && slot.client !== null) {
      const bound = slot.gmem.bind(slot.gmemStart, slot.pages, slot.client);
      if (bound !== 0) return bound;
    }
    this.#insert(slot);
    return 0;
  }

  /** Deletes every slot, as the end of the VM does, without zapping. */
  clear(): void {
    for (const slot of this.#slots) if (slot.client !== null) slot.gmem?.unbind(slot.client);
    this.#slots = [];
    this.#last = undefined;
  }

  #check(region: UserspaceMemoryRegion2, maxGfn: number): number {
    const { flags, slot, memorySize, guestPhysAddr, userspaceAddr } = region;
    // Read-only slots and dirty logging are not to be had for private memory; a TD's slots have neither.
    if ((flags & ~KVM_MEM_GUEST_MEMFD) !== 0) return -ERRNO.EINVAL;
    if (slot < 0 || slot >= KVM_USER_MEM_SLOTS) return -ERRNO.EINVAL;
    if (!isPageAligned(memorySize) || !isPageAligned(guestPhysAddr) || !isPageAligned(userspaceAddr))
      return -ERRNO.EINVAL;
    if (memorySize < 0 || guestPhysAddr < 0 || userspaceAddr < 0) return -ERRNO.EINVAL;
    if ((flags & KVM_MEM_GUEST_MEMFD) !== 0 && !isPageAligned(region.guestMemfdOffset ?? 0)) return -ERRNO.EINVAL;
    if (memorySize > 0 && (guestPhysAddr + memorySize) / PAGE_SIZE - 1 > maxGfn) return -ERRNO.EINVAL;
    if (memorySize > 0 && (flags & KVM_MEM_GUEST_MEMFD) !== 0 && region.guestMemfd === undefined) return -ERRNO.EBADF;
    return 0;
  }

  /** Private slots are immutable; of the others only the place can change. */
  #modify(old: Memslot, region: UserspaceMemoryRegion2): number {
    if (((old.flags | region.flags) & KVM_MEM_GUEST_MEMFD) !== 0) return -ERRNO.EINVAL;
    if (region.userspaceAddr !== old.userspaceAddr || region.memorySize / PAGE_SIZE !== old.pages) return -ERRNO.EINVAL;
    const slot = this.#make(region);
    if (slot.baseGfn === old.baseGfn) return 0;
    if (this.#overlaps(slot, old)) return -ERRNO.EEXIST;
    this.#remove(old);
    this.#insert(slot);
    return 0;
  }

  #make(region: UserspaceMemoryRegion2): Memslot {
    const baseGfn = region.guestPhysAddr / PAGE_SIZE;
    const gmem = (region.flags & KVM_MEM_GUEST_MEMFD) !== 0 ? (region.guestMemfd ?? null) : null;
    const gmemStart = (region.guestMemfdOffset ?? 0) / PAGE_SIZE;
    const toGfn = (page: number): number => baseGfn + page - gmemStart;
    const client: GuestMemfdClient | null =
      gmem === null ? null : { invalidateRange: (start, end) => this.events.zapPrivate(toGfn(start), toGfn(end)) };
    return {
      id: region.slot,
      baseGfn,
      pages: region.memorySize / PAGE_SIZE,
      flags: region.flags,
      userspaceAddr: region.userspaceAddr,
      gmem,
      gmemStart,
      client,
    };
  }

  #overlaps(slot: Memslot, except: Memslot | null): boolean {
    const end = slot.baseGfn + slot.pages;
    return this.#slots.some(
      (other) => other !== except && slot.baseGfn < other.baseGfn + other.pages && other.baseGfn < end,
    );
  }

  #insert(slot: Memslot): void {
    this.#slots = [...this.#slots, slot].sort((a, b) => a.baseGfn - b.baseGfn);
    this.#last = undefined;
  }

  #remove(slot: Memslot): void {
    this.events.zapSlot(slot);
    if (slot.client !== null) slot.gmem?.unbind(slot.client);
    this.#slots = this.#slots.filter((other) => other !== slot);
    this.#last = undefined;
  }
}
