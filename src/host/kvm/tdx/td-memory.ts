import { ERRNO } from "../../../arch/errno.js";
import { SEPT_LEVEL } from "../../../arch/tdx-abi.js";
import { PAGE_SIZE } from "../../mm/page.js";
import type { SecureEpt } from "../mmu/mirror.js";
import { isBusy, TD_STATE, type Td } from "./td.js";

/**
 * The SEAMCALLs behind KVM's mirror tables (tdx_sept_link_private_spt and its kin). A page that is being added before the TD
 * is finalized comes from `source`; after that pages are augmented.
 */
export class TdMemory implements SecureEpt {
  /** HPA of what the next page to be added is copied from; null: nothing may be added. */
  source: number | null = null;
  /** Pages that could not be unmapped. */
  readonly #pinned = new Set<number>();

  constructor(private readonly td: Td) {}

  get topLevel(): number {
    return this.td.gpaw === 52 ? SEPT_LEVEL.PML5E : SEPT_LEVEL.PML4E;
  }

  addTable(gpa: number, level: number): number {
    const { td } = this;
    const page = td.kernel.pages.allocPage();
    if (page === null) return -ERRNO.ENOMEM;
    const status = td.leaves.memSeptAdd(td.tdr, gpa, level, page);
    if (status === 0n) return page;
    const error = this.#mapError("TDH.MEM.SEPT.ADD", status);
    td.kernel.pages.freePage(page, td.tdx.lp.id);
    return error;
  }

  mapPage(gpa: number, hpa: number): number {
    const { td } = this;
    if (td.state === TD_STATE.RUNNABLE) {
      const status = td.leaves.memPageAug(td.tdr, gpa, SEPT_LEVEL.PTE, hpa);
      if (status !== 0n) return this.#mapError("TDH.MEM.PAGE.AUG", status);
    } else {
      if (this.source === null) {
        td.owner.bug();
        return -ERRNO.EIO;
      }
      const status = td.leaves.memPageAdd(td.tdr, gpa, hpa, this.source);
      if (status !== 0n) return this.#mapError("TDH.MEM.PAGE.ADD", status);
    }
    if (!this.keepsFailed) td.kernel.pages.getPage(hpa);
    return 0;
  }

  /** While the TD lives: block, track, remove. After its KeyID is gone: reclaim. */
  unmapPage(gpa: number, hpa: number): number {
    const { td } = this;
    const unmapped = td.hkidAssigned ? this.#remove(gpa, hpa) : this.#reclaim(hpa);
    if (!unmapped) {
      this.#pin(hpa);
      return -ERRNO.EIO;
    }
    td.kernel.hardware.memory.host.fill(hpa, PAGE_SIZE, 0);
    this.#unpin(hpa);
    return 0;
  }

  get keepsFailed(): boolean {
    return this.td.kernel.profile !== "linux-6.16";
  }

  /**
   * Nobody knows what the module still does with the page: it stays away from the allocator, whatever its file does. The old
   * kernel holds every page that is mapped.
   */
  #pin(hpa: number): void {
    if (!this.keepsFailed || this.#pinned.has(hpa)) return;
    this.#pinned.add(hpa);
    this.td.kernel.pages.getPage(hpa);
  }

  #unpin(hpa: number): void {
    if (this.keepsFailed && !this.#pinned.delete(hpa)) return;
    this.td.kernel.pages.freePage(hpa, this.td.tdx.lp.id);
  }

  #remove(gpa: number, hpa: number): boolean {
    const { td } = this;
    const { leaves, tdr } = td;
    let status = this.#retryOnce(() => leaves.memRangeBlock(tdr, gpa, SEPT_LEVEL.PTE));
    if (status !== 0n) return this.#unmapFailed("TDH.MEM.RANGE.BLOCK", status);
    if (td.state === TD_STATE.RUNNABLE) {
      status = this.#retryOnce(() => leaves.memTrack(tdr));
      if (status !== 0n) {
        td.bugOn("TDH.MEM.TRACK", status);
        return false;
      }
      td.owner.kickOutsideGuestMode();
    }
    status = this.#retryOnce(() => leaves.memPageRemove(tdr, gpa, SEPT_LEVEL.PTE));
    if (status !== 0n) return this.#unmapFailed("TDH.MEM.PAGE.REMOVE", status);
    status = leaves.phymemPageWbinvd(td.tdx.withKeyId(hpa, td.hkid));
    if (status !== 0n) {
      td.bugOn("TDH.PHYMEM.PAGE.WBINVD", status);
      return false;
    }
    return true;
  }

  #reclaim(hpa: number): boolean {
    const status = this.td.leaves.phymemPageReclaim(hpa);
    if (status !== 0n) this.td.bugOn("TDH.PHYMEM.PAGE.RECLAIM", status);
    return status === 0n;
  }

  /**
   * A zap that finds the Secure EPT busy keeps the vCPUs out and tries exactly once more (kvm-tdx-host 4.8).
   */
  #retryOnce(call: () => bigint): bigint {
    const status = call();
    if (!isBusy(status)) return status;
    this.td.waitForSeptZap = true;
    this.td.owner.kickOutsideGuestMode();
    const again = call();
    this.td.waitForSeptZap = false;
    return again;
  }

  #mapError(leaf: string, status: bigint): number {
    if (isBusy(status)) return -ERRNO.EBUSY;
    this.td.bugOnSept(leaf, status);
    return -ERRNO.EIO;
  }

  #unmapFailed(leaf: string, status: bigint): false {
    this.td.bugOnSept(leaf, status);
    return false;
  }
}
