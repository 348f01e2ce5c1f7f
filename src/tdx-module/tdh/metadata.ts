import { VCPU_STATE } from "../../arch/tdx-abi.js";
import { TDX_STATUS } from "../../arch/tdx-status.js";
import { GPR } from "../../platform/seam.js";
import type { Call } from "../call.js";
import { openTd, requireTd } from "../checks.js";
import { fail } from "../failure.js";
import { isNullId } from "../metadata/field-index.js";
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
  const id = call.in.get64(GPR.RDX);
  if (call.version > 0 && isNullId(id)) {
    call.out.set64(GPR.RDX, TD_FIELDS.first);
    return TDX_STATUS.METADATA_FIRST_FIELD_ID_IN_CONTEXT;
  }
  const element = TD_FIELDS.find(id);
  call.out.set64(GPR.R8, readTdField(call.td, element, host(call)));
  if (call.version > 0) call.out.set64(GPR.RDX, TD_FIELDS.next(element));
  return TDX_STATUS.SUCCESS;
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
  const id = call.in.get64(GPR.RDX);
  if (call.version > 0 && isNullId(id)) {
    call.out.set64(GPR.RDX, VP_FIELDS.first);
    return TDX_STATUS.METADATA_FIRST_FIELD_ID_IN_CONTEXT;
  }
  const element = VP_FIELDS.find(id);
  call.out.set64(GPR.R8, readVpField(call.vcpu, element, host(call)));
  if (call.version > 0) call.out.set64(GPR.RDX, VP_FIELDS.next(element));
  return TDX_STATUS.SUCCESS;
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
