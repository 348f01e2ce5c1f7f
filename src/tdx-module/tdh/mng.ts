import { PAGE_SIZE } from "../../arch/page.js";
import { KOT, LIFECYCLE, OP_STATE, PAGE_TYPE } from "../../arch/tdx-abi.js";
import { TDX_STATUS } from "../../arch/tdx-status.js";
import { GPR } from "../../platform/seam.js";
import type { Call } from "../call.js";
import { openTd, pageAddress, typedPage } from "../checks.js";
import { fail } from "../failure.js";
import { initialiseTable } from "../memory/sept.js";
import type { KotEntry } from "../state.js";
import { TDCS, TDCX } from "../structures/tdcs.js";
import { MAX_TDCX, TDR } from "../structures/tdr.js";

const allPackages = (call: Call): number => 2 ** call.context.platform.packages - 1;
const kot = (call: Call, hkid: number): KotEntry => call.state.kot[hkid] as KotEntry;

/** TDH.MNG.CREATE: makes a page the TDR of a new TD, and gives the TD its KeyID. */
export function mngCreate(call: Call): bigint {
  const hkid = call.in.number(GPR.RDX);
  const { firstPrivateKeyId, keyIdCount } = call.context.platform;
  const pa = typedPage(call, GPR.RCX, PAGE_TYPE.NDA);
  if (hkid < firstPrivateKeyId || hkid >= keyIdCount) fail(TDX_STATUS.OPERAND_INVALID, BigInt(GPR.RDX));
  if (kot(call, hkid).state !== KOT.FREE) fail(TDX_STATUS.HKID_NOT_FREE);
  call.memory.fill(pa, PAGE_SIZE, 0, call.state.globalKeyId);
  call.pamt.write(call.pamt.entry, PAGE_TYPE.TDR, 0);
  const { td } = call;
  td.open(call.memory, call.state.globalKeyId, pa);
  td.tdr.set(TDR.HKID, hkid);
  td.tdr.set(TDR.LIFECYCLE_STATE, LIFECYCLE.HKID_ASSIGNED);
  for (let i = 0; i < 4; i++) td.tdr.set64(TDR.TD_UUID, call.context.random64(), i);
  kot(call, hkid).state = KOT.ASSIGNED;
  return TDX_STATUS.SUCCESS;
}

/** TDH.MNG.KEY.CONFIG: makes the TD's key on the package that it runs on. */
export function mngKeyConfig(call: Call): bigint {
  openTd(call, GPR.RCX);
  const { tdr } = call.td;
  if (call.td.fatal) fail(call.statuses.TD_FATAL);
  if (tdr.get(TDR.LIFECYCLE_STATE) !== LIFECYCLE.HKID_ASSIGNED) fail(TDX_STATUS.LIFECYCLE_STATE_INCORRECT);
  const bit = 1 << call.context.lp.package;
  const done = tdr.get(TDR.PKG_CONFIG_BITMAP);
  if (done & bit) fail(TDX_STATUS.KEY_CONFIGURED);
  tdr.set(TDR.PKG_CONFIG_BITMAP, done | bit);
  if ((done | bit) === allPackages(call)) tdr.set(TDR.LIFECYCLE_STATE, LIFECYCLE.KEYS_CONFIGURED);
  return TDX_STATUS.SUCCESS;
}

/** TDH.MNG.ADDCX: gives a TD the next page of its TDCS. */
export function mngAddcx(call: Call): bigint {
  const pa = pageAddress(call, GPR.RCX);
  openTd(call, GPR.RDX);
  const { td } = call;
  if (td.fatal) fail(call.statuses.TD_FATAL);
  if (td.tdr.get(TDR.LIFECYCLE_STATE) !== LIFECYCLE.KEYS_CONFIGURED) fail(TDX_STATUS.TD_KEYS_NOT_CONFIGURED);
  const index = td.tdr.get(TDR.NUM_TDCX);
  if (index > 0) {
    td.openTdcs();
    if (td.tdcs.get(TDCS.OP_STATE) !== OP_STATE.UNINITIALIZED) fail(TDX_STATUS.OP_STATE_INCORRECT);
  }
  if (index >= MAX_TDCX) fail(TDX_STATUS.TDCX_NUM_INCORRECT);
  typedPage(call, GPR.RCX, PAGE_TYPE.NDA);
  if (index === TDCX.SEPT_ROOT) initialiseTable(call.memory, pa, td.hkid);
  else call.memory.fill(pa, PAGE_SIZE, index === TDCX.MSR_BITMAP ? 0xff : 0, td.hkid);
  call.pamt.write(call.pamt.entry, PAGE_TYPE.TDCX, td.pa);
  td.tdr.set(TDR.TDCX_PA, pa, index);
  td.tdr.set(TDR.NUM_TDCX, index + 1);
  td.addChildren(1);
  return TDX_STATUS.SUCCESS;
}

/** TDH.MNG.VPFLUSHDONE: no vCPU is bound to an LP any more; the KeyID waits for the write-back of the caches. */
export function mngVpflushdone(call: Call): bigint {
  openTd(call, GPR.RCX);
  const { td } = call;
  const lifecycle = td.tdr.get(TDR.LIFECYCLE_STATE);
  if (lifecycle !== LIFECYCLE.HKID_ASSIGNED && lifecycle !== LIFECYCLE.KEYS_CONFIGURED) {
    fail(TDX_STATUS.LIFECYCLE_STATE_INCORRECT);
  }
  if (td.tdr.get(TDR.NUM_TDCX) > 0) {
    td.openTdcs();
    if (td.tdcs.get(TDCS.NUM_ASSOC_VCPUS) !== 0) fail(TDX_STATUS.FLUSHVP_NOT_DONE);
  }
  td.tdr.set(TDR.LIFECYCLE_STATE, LIFECYCLE.BLOCKED);
  const entry = kot(call, td.hkid);
  entry.state = KOT.FLUSHED;
  entry.packagesToWriteBack = allPackages(call);
  return TDX_STATUS.SUCCESS;
}

/** TDH.MNG.KEY.FREEID: takes the KeyID from the TD. */
export function mngKeyFreeid(call: Call): bigint {
  openTd(call, GPR.RCX);
  const { td } = call;
  if (td.tdr.get(TDR.LIFECYCLE_STATE) !== LIFECYCLE.BLOCKED) fail(TDX_STATUS.LIFECYCLE_STATE_INCORRECT);
  const entry = kot(call, td.hkid);
  if (entry.packagesToWriteBack !== 0) fail(TDX_STATUS.WBCACHE_NOT_COMPLETE);
  td.tdr.set(TDR.LIFECYCLE_STATE, LIFECYCLE.TEARDOWN);
  entry.state = KOT.FREE;
  return TDX_STATUS.SUCCESS;
}

/** TDH.MNG.KEY.RECLAIMID: obsolete, does nothing. */
export const mngKeyReclaimid = (): bigint => TDX_STATUS.SUCCESS;
