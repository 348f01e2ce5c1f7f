import { INTR_PENDING } from "../../arch/msr.js";
import { KOT, LIFECYCLE, PAGE_TYPE } from "../../arch/tdx-abi.js";
import { TDX_STATUS } from "../../arch/tdx-status.js";
import { GPR } from "../../platform/seam.js";
import type { Call } from "../call.js";
import { findPage, pageAddress } from "../checks.js";
import { fail } from "../failure.js";
import { levelSize } from "../memory/sept.js";
import type { WriteBack } from "../state.js";
import { TDR } from "../structures/tdr.js";

/** Parts into which the write-back of one package's caches is cut; between them the module looks for interrupts. */
const WRITE_BACK_BLOCKS = 4;

/** What the leaves on a physical page give back: type, owner, size. */
function showPage(call: Call, type: number, owner: number, size: number): void {
  call.out.setNumber(GPR.RCX, type);
  call.out.setNumber(GPR.RDX, owner);
  call.out.setNumber(GPR.R8, size);
}

/** TDH.PHYMEM.PAGE.RDMD: what the PAMT says of a page. */
export function phymemPageRdmd(call: Call): bigint {
  for (const register of [GPR.RDX, GPR.R8, GPR.R9, GPR.R10, GPR.R11]) call.out.clear(register);
  call.out.clear(GPR.RCX);
  const hpa = pageAddress(call, GPR.RCX);
  if (!call.pamt.find(hpa)) fail(TDX_STATUS.OPERAND_ADDR_RANGE_ERROR, BigInt(GPR.RCX));
  const { entry, type, size } = call.pamt;
  const free = type === PAGE_TYPE.NDA || type === PAGE_TYPE.RSVD;
  showPage(call, type, free ? 0 : call.pamt.owner(entry), size);
  if (type === PAGE_TYPE.REG || type === PAGE_TYPE.EPT) call.out.setNumber(GPR.R9, call.pamt.epoch(entry));
  return TDX_STATUS.SUCCESS;
}

/** TDH.PHYMEM.PAGE.RECLAIM: takes a page from a TD whose KeyID is released; the TDR goes last. */
export function phymemPageReclaim(call: Call): bigint {
  const hpa = pageAddress(call, GPR.RCX);
  for (const register of [GPR.RCX, GPR.RDX, GPR.R8]) call.out.clear(register);
  findPage(call, hpa, BigInt(GPR.RCX));
  const { entry, type, size } = call.pamt;
  if (hpa % levelSize(size) !== 0) fail(TDX_STATUS.OPERAND_INVALID, BigInt(GPR.RCX));
  const owner = type === PAGE_TYPE.NDA ? 0 : call.pamt.owner(entry);
  showPage(call, type, owner, size);
  if (type === PAGE_TYPE.NDA) fail(TDX_STATUS.PAGE_METADATA_INCORRECT, BigInt(GPR.RCX));
  const { td } = call;
  td.open(call.memory, call.state.globalKeyId, type === PAGE_TYPE.TDR ? hpa : owner);
  if (td.tdr.get(TDR.LIFECYCLE_STATE) !== LIFECYCLE.TEARDOWN) fail(TDX_STATUS.LIFECYCLE_STATE_INCORRECT);
  if (type !== PAGE_TYPE.TDR) td.addChildren(-1, size);
  else if (td.tdr.get(TDR.CHLDCNT) !== 0) fail(TDX_STATUS.TD_ASSOCIATED_PAGES_EXIST);
  call.pamt.write(entry, PAGE_TYPE.NDA, 0);
  return TDX_STATUS.SUCCESS;
}

/** TDH.PHYMEM.PAGE.WBINVD: writes back a free page's lines under the KeyID in its address. Memory here has no caches. */
export function phymemPageWbinvd(call: Call): bigint {
  const { keyIdShift, keyIdCount } = call.context.platform;
  const value = call.in.number(GPR.RCX);
  const keyId = Math.floor(value / 2 ** keyIdShift);
  if (value % 0x1000 !== 0 || keyId >= keyIdCount) fail(TDX_STATUS.OPERAND_INVALID, BigInt(GPR.RCX));
  findPage(call, value % 2 ** keyIdShift, BigInt(GPR.RCX));
  if (call.pamt.type !== PAGE_TYPE.NDA) fail(TDX_STATUS.PAGE_METADATA_INCORRECT, BigInt(GPR.RCX));
  return TDX_STATUS.SUCCESS;
}

/** TDH.PHYMEM.CACHE.WB: writes back the caches of the package that it runs on, part by part. */
export function phymemCacheWb(call: Call): bigint {
  const { state, context } = call;
  const resume = call.in.number(GPR.RCX);
  if (resume > 1) fail(TDX_STATUS.OPERAND_INVALID, BigInt(GPR.RCX));
  const work = state.writeBacks[context.lp.package] as WriteBack;
  const bit = 1 << context.lp.package;
  if (resume === 1) {
    if (work.hkids.length === 0) fail(TDX_STATUS.WBCACHE_RESUME_ERROR);
  } else {
    work.blocksDone = 0;
    work.hkids = state.kot.flatMap((entry, hkid) =>
      entry.state === KOT.FLUSHED && entry.packagesToWriteBack & bit ? [hkid] : [],
    );
    if (work.hkids.length === 0) return TDX_STATUS.NO_HKID_READY_TO_WBCACHE;
  }
  while (++work.blocksDone < WRITE_BACK_BLOCKS) {
    if (hostInterruptPending(call)) return TDX_STATUS.INTERRUPTED_RESUMABLE;
  }
  for (const hkid of work.hkids) {
    const entry = state.kot[hkid];
    if (entry) entry.packagesToWriteBack &= ~bit;
  }
  work.hkids = [];
  return TDX_STATUS.SUCCESS;
}

/** SMI and NMI always stop a long leaf, an interrupt does if the caller has them enabled (smi-mca facts 1.9). */
function hostInterruptPending({ context }: Call): boolean {
  const pending = context.pendingInterrupts();
  return (pending & ~INTR_PENDING.INTR) !== 0 || (pending !== 0 && context.callerInterruptFlag);
}
