import { VCPU_STATE } from "../../arch/tdx-abi.js";
import { TDX_STATUS } from "../../arch/tdx-status.js";
import { GPR } from "../../platform/seam.js";
import type { Call } from "../call.js";
import { openTd, requireTd } from "../checks.js";
import { fail } from "../failure.js";
import type { Element } from "../metadata/field-index.js";
import { answerRead } from "../metadata/read-leaf.js";
import { readTdField, TD_FIELDS, writeTdField } from "../metadata/td-fields.js";
import { readVpField, VP_FIELDS, writeVpField } from "../metadata/vp-fields.js";
import { ALLOWED_OP_STATES } from "../op-states.js";
import type { Accessor } from "../structures/layout.js";
import { TDVPS } from "../structures/tdvps.js";
import { associate, openVcpu } from "../vcpu-checks.js";

const host = (call: Call): Accessor => (call.td.debug ? "debug" : "host");

/** TDH.MNG.RD: a field of the TD. Version 1 also tells the next identifier. */
export function mngRd(call: Call): bigint {
  call.out.clear(GPR.R8);
  openTd(call, GPR.RCX);
  requireTd(call, ALLOWED_OP_STATES.MNG_RD);
  const read = (element: Element): bigint => readTdField(call.td, element, host(call));
  return answerRead(call.out, TD_FIELDS, call.in.get64(GPR.RDX), call.version, read);
}

/** TDH.MNG.WR: R8 under the mask R9; R8 gives back the old value. */
export function mngWr(call: Call): bigint {
  call.out.clear(GPR.R8);
  openTd(call, GPR.RCX);
  requireTd(call, ALLOWED_OP_STATES.MNG_WR);
  const element = TD_FIELDS.find(call.in.get64(GPR.RDX));
  const old = writeTdField(call.td, element, host(call), call.in.get64(GPR.R8), call.in.get64(GPR.R9));
  call.out.set64(GPR.R8, old);
  return TDX_STATUS.SUCCESS;
}

/** TDH.VP.RD: a field of the vCPU. */
export function vpRd(call: Call): bigint {
  call.out.clear(GPR.R8);
  openVcpuForMetadata(call, ALLOWED_OP_STATES.VP_RD, true);
  const read = (element: Element): bigint => readVpField(call.vcpu, element, host(call));
  return answerRead(call.out, VP_FIELDS, call.in.get64(GPR.RDX), call.version, read);
}

/** TDH.VP.WR. */
export function vpWr(call: Call): bigint {
  call.out.clear(GPR.R8);
  openVcpuForMetadata(call, ALLOWED_OP_STATES.VP_WR, false);
  const element = VP_FIELDS.find(call.in.get64(GPR.RDX));
  const old = writeVpField(call.vcpu, element, host(call), call.in.get64(GPR.R8), call.in.get64(GPR.R9));
  call.out.set64(GPR.R8, old);
  return TDX_STATUS.SUCCESS;
}

function openVcpuForMetadata(call: Call, opStates: number, disabledToo: boolean): void {
  openVcpu(call, GPR.RCX, opStates);
  if (!call.vcpu.openPages()) fail(TDX_STATUS.TDCX_NUM_INCORRECT);
  const state = call.vcpu.tdvps.get(TDVPS.STATE);
  const allowed = state === VCPU_STATE.READY || (disabledToo && state === VCPU_STATE.DISABLED);
  if (!allowed) fail(TDX_STATUS.VCPU_STATE_INCORRECT, BigInt(state));
  associate(call);
}
