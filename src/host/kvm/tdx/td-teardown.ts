import { LINUX_TDX_STATUS } from "../../../arch/linux-tdx-errno.js";
import { PAGE_SIZE } from "../../mm/page.js";
import { statusClass, type Td } from "./td.js";

/** How often an interrupted write-back is resumed before KVM gives up. */
const CACHE_WB_TRIES = 10_000;

/**
 * Releases a TD's KeyID (tdx_mmu_release_hkid): flush every vCPU, VPFLUSHDONE, write back the caches of every package, FREEID.
 * Works on a fatal TD. After a failure the KeyID stays assigned, and with it every page of the TD is lost.
 */
export function releaseHkid(td: Td): void {
  if (!td.hkidAssigned) return;
  const { leaves, tdx, tdr } = td;
  const leak = (leaf: string, status: bigint): void => {
    td.bugOn(leaf, status);
    td.kernel.printk(`kvm: tdx: HKID ${td.hkid} is leaked`);
  };
  td.owner.flushVcpus();
  let status = leaves.mngVpflushdone(tdr);
  if (statusClass(status) === LINUX_TDX_STATUS.FLUSHVP_NOT_DONE) return;
  if (status !== 0n) {
    leak("TDH.MNG.VPFLUSHDONE", status);
    return;
  }
  for (const lp of tdx.onePerPackage()) {
    status = tdx.on(lp, () => writeBackCaches(td));
    if (status !== 0n) td.bugOn("TDH.PHYMEM.CACHE.WB", status);
  }
  status = leaves.mngKeyFreeid(tdr);
  if (status !== 0n) {
    leak("TDH.MNG.KEY.FREEID", status);
    return;
  }
  tdx.hkids.free(td.hkid);
  td.hkid = 0;
}

function writeBackCaches(td: Td): bigint {
  let status = 0n;
  for (let tries = 0; tries < CACHE_WB_TRIES; tries++) {
    status = td.leaves.phymemCacheWb(tries > 0);
    const kind = statusClass(status);
    if (kind === LINUX_TDX_STATUS.NO_HKID_READY_TO_WBCACHE) return 0n;
    if (kind !== LINUX_TDX_STATUS.INTERRUPTED_RESUMABLE) break;
  }
  return status;
}

/** Takes a control page back from the module and frees it. False: the page is leaked on purpose. */
export function reclaimControlPage(td: Td, page: number): boolean {
  const status = td.leaves.phymemPageReclaim(page);
  if (status !== 0n) {
    td.bugOn("TDH.PHYMEM.PAGE.RECLAIM", status);
    return false;
  }
  clearAndFree(td, page);
  return true;
}

/** The TD's own pages (tdx_vm_destroy): TDCS pages, then TDR. */
export function destroyTd(td: Td): void {
  if (td.hkidAssigned || td.tdr === 0) return;
  for (const page of td.tdcsPages.splice(0)) reclaimControlPage(td, page);
  const { leaves, tdx, tdr } = td;
  const reclaimed = leaves.phymemPageReclaim(tdr);
  if (reclaimed !== 0n) {
    td.bugOn("TDH.PHYMEM.PAGE.RECLAIM", reclaimed);
    return;
  }
  // The module wrote the TDR with the global KeyID.
  const written = leaves.phymemPageWbinvd(tdx.withKeyId(tdr, tdx.globalKeyId));
  if (written !== 0n) {
    td.bugOn("TDH.PHYMEM.PAGE.WBINVD", written);
    return;
  }
  clearAndFree(td, tdr);
  td.tdr = 0;
}

function clearAndFree(td: Td, page: number): void {
  td.kernel.hardware.memory.host.fill(page, PAGE_SIZE, 0);
  td.kernel.pages.freePage(page, td.tdx.lp.id);
}
