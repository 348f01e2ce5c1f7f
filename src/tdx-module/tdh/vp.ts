import { MSR } from "../../arch/msr.js";
import { PAGE_SIZE } from "../../arch/page.js";
import { LAST_EXIT, LIFECYCLE, PAGE_TYPE, VCPU_STATE } from "../../arch/tdx-abi.js";
import { TDX_STATUS } from "../../arch/tdx-status.js";
import { GPR } from "../../platform/seam.js";
import type { Call } from "../call.js";
import { openOwner, openTd, pageAddress, requireTd, typedPage } from "../checks.js";
import { fail } from "../failure.js";
import { writeInitialState } from "../initial-state.js";
import { ALLOWED_OP_STATES } from "../op-states.js";
import { TDCS } from "../structures/tdcs.js";
import { TDR } from "../structures/tdr.js";
import { TDVPS, TDVPS_PAGES } from "../structures/tdvps.js";
import { NO_LP } from "../structures/vcpu.js";
import { openVcpu } from "../vcpu-checks.js";

/** TDH.VP.CREATE: makes a page the TDVPR of a new vCPU. */
export function vpCreate(call: Call): bigint {
  const pa = pageAddress(call, GPR.RCX);
  openTd(call, GPR.RDX);
  requireTd(call, ALLOWED_OP_STATES.VP_CREATE);
  typedPage(call, GPR.RCX, PAGE_TYPE.NDA);
  const { td, vcpu } = call;
  call.memory.fill(pa, PAGE_SIZE, 0, td.hkid);
  call.pamt.write(call.pamt.entry, PAGE_TYPE.TDVPR, td.pa);
  vcpu.open(call.memory, td.hkid, pa);
  vcpu.tdvps.set(TDVPS.NUM_TDVPX, 1);
  vcpu.tdvps.set(TDVPS.TDVPX_PA, pa, 0);
  vcpu.tdvps.set(TDVPS.ASSOC_LPID, NO_LP);
  td.addChildren(1);
  return TDX_STATUS.SUCCESS;
}

/** TDH.VP.ADDCX: gives a vCPU the next page of its TDVPS. */
export function vpAddcx(call: Call): bigint {
  const pa = pageAddress(call, GPR.RCX);
  openVcpu(call, GPR.RDX, ALLOWED_OP_STATES.VP_ADDCX);
  const { td, vcpu } = call;
  const state = vcpu.tdvps.get(TDVPS.STATE);
  if (state !== VCPU_STATE.UNINITIALIZED) fail(TDX_STATUS.VCPU_STATE_INCORRECT, BigInt(state));
  const index = vcpu.tdvps.get(TDVPS.NUM_TDVPX);
  if (index >= TDVPS_PAGES) fail(TDX_STATUS.TDCX_NUM_INCORRECT);
  typedPage(call, GPR.RCX, PAGE_TYPE.NDA);
  call.memory.fill(pa, PAGE_SIZE, 0, td.hkid);
  call.pamt.write(call.pamt.entry, PAGE_TYPE.TDCX, td.pa);
  vcpu.tdvps.set(TDVPS.TDVPX_PA, pa, index);
  vcpu.tdvps.set(TDVPS.NUM_TDVPX, index + 1);
  td.addChildren(1);
  return TDX_STATUS.SUCCESS;
}

/** TDH.VP.INIT: version 1 also gives the vCPU its x2APIC id. */
export function vpInit(call: Call): bigint {
  openVcpu(call, GPR.RCX, ALLOWED_OP_STATES.VP_INIT);
  const { td, vcpu, context } = call;
  const { tdcs } = td;
  const index = tdcs.get(TDCS.NUM_VCPUS);
  if (index >= tdcs.get(TDCS.MAX_VCPUS)) fail(TDX_STATUS.MAX_VCPUS_EXCEEDED);
  const state = vcpu.tdvps.get(TDVPS.STATE);
  if (state !== VCPU_STATE.UNINITIALIZED) fail(TDX_STATUS.VCPU_STATE_INCORRECT, BigInt(state));
  if (!vcpu.openPages()) fail(TDX_STATUS.TDCX_NUM_INCORRECT);
  if (context.readMsr(MSR.IA32_TSC_ADJUST) !== BigInt(call.state.tscAdjust)) {
    fail(TDX_STATUS.INCONSISTENT_MSR, BigInt(MSR.IA32_TSC_ADJUST));
  }
  if (call.version === 0) tdcs.set(TDCS.TOPOLOGY_ENUM_CONFIGURED, 0);
  else takeX2apicId(call, index);

  writeInitialState(call, index, call.in.get64(GPR.RDX));
  vcpu.tdvps.set(TDVPS.VCPU_INDEX, index);
  vcpu.tdvps.set(TDVPS.LAST_TD_EXIT, LAST_EXIT.ASYNC_FAULT);
  vcpu.tdvps.set(TDVPS.STATE, VCPU_STATE.READY);
  vcpu.tdvps.set(TDVPS.ASSOC_LPID, context.lp.id);
  tdcs.set(TDCS.NUM_ASSOC_VCPUS, tdcs.get(TDCS.NUM_ASSOC_VCPUS) + 1);
  tdcs.set(TDCS.NUM_VCPUS, index + 1);
  return TDX_STATUS.SUCCESS;
}

function takeX2apicId(call: Call, index: number): void {
  const { tdcs } = call.td;
  const id = call.in.number(GPR.R8);
  if (id > 0xffff_ffff) fail(TDX_STATUS.OPERAND_INVALID, BigInt(GPR.R8));
  for (let other = 0; other < index; other++) {
    if (tdcs.get(TDCS.X2APIC_IDS, other) === id) fail(TDX_STATUS.X2APIC_ID_NOT_UNIQUE, BigInt(id));
  }
  tdcs.set(TDCS.X2APIC_IDS, id, index);
}

/** TDH.VP.FLUSH: takes the vCPU from this LP. It works on a dead TD as well. */
export function vpFlush(call: Call): bigint {
  const tdvpr = typedPage(call, GPR.RCX, PAGE_TYPE.TDVPR);
  openOwner(call);
  const { td, vcpu } = call;
  if (td.tdr.get(TDR.LIFECYCLE_STATE) !== LIFECYCLE.KEYS_CONFIGURED) fail(TDX_STATUS.TD_KEYS_NOT_CONFIGURED);
  td.openTdcs();
  vcpu.open(call.memory, td.hkid, tdvpr);
  if (vcpu.tdvps.get(TDVPS.ASSOC_LPID) !== call.context.lp.id) fail(TDX_STATUS.VCPU_NOT_ASSOCIATED);
  vcpu.tdvps.set(TDVPS.ASSOC_LPID, NO_LP);
  td.tdcs.set(TDCS.NUM_ASSOC_VCPUS, td.tdcs.get(TDCS.NUM_ASSOC_VCPUS) - 1);
  call.context.guest.flushTlb();
  return TDX_STATUS.SUCCESS;
}
