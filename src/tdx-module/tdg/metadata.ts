import { METADATA_LIST_SIZE, METADATA_NULL_ID } from "../../arch/tdx-metadata.js";
import { TDX_STATUS } from "../../arch/tdx-status.js";
import type { VmExit } from "../../cpu/vm-exit.js";
import { GPR } from "../../platform/seam.js";
import type { Run } from "../exits/run.js";
import { fail } from "../failure.js";
import { type Element, isNullId } from "../metadata/field-index.js";
import { answerRead } from "../metadata/read-leaf.js";
import { FIRST_SYS_ID, findSysElement, nextSysId, sysValue } from "../metadata/sys-fields.js";
import { sysFieldList } from "../metadata/sys-list.js";
import { readTdField, TD_FIELDS, writeTdField } from "../metadata/td-fields.js";
import { readVpField, VP_FIELDS, writeVpField } from "../metadata/vp-fields.js";
import { guestBuffer } from "./guest-memory.js";

/** RCX names the TD whose field is meant: 0 is the caller, the only one that it may name. */
function requireOwnTd(run: Run): void {
  if (run.guest.number(GPR.RCX) !== 0) fail(TDX_STATUS.OPERAND_INVALID, BigInt(GPR.RCX));
}

/** TDG.VM.RD: a field of the TD; version 1 also tells the next identifier. */
export function vmRd(run: Run, _exit: VmExit, version: number): bigint {
  const { guest } = run;
  guest.clear(GPR.R8);
  requireOwnTd(run);
  const read = (element: Element): bigint => readTdField(run.call.td, element, "guest");
  return answerRead(guest, TD_FIELDS, guest.get64(GPR.RDX), version, read);
}

/** TDG.VM.WR: R8 under the mask R9; R8 gives back the old value. */
export function vmWr(run: Run): bigint {
  const { guest } = run;
  const value = guest.get64(GPR.R8);
  guest.clear(GPR.R8);
  requireOwnTd(run);
  const element = TD_FIELDS.find(guest.get64(GPR.RDX));
  guest.set64(GPR.R8, writeTdField(run.call.td, element, "guest", value, guest.get64(GPR.R9)));
  return TDX_STATUS.SUCCESS;
}

/** TDG.VP.RD: a field of the own vCPU. */
export function vpRd(run: Run): bigint {
  const { guest } = run;
  guest.clear(GPR.R8);
  guest.set64(GPR.R8, readVpField(run.call.vcpu, VP_FIELDS.find(guest.get64(GPR.RDX)), "guest"));
  return TDX_STATUS.SUCCESS;
}

/** TDG.VP.WR. */
export function vpWr(run: Run): bigint {
  const { guest, call } = run;
  const value = guest.get64(GPR.R8);
  guest.clear(GPR.R8);
  const element = VP_FIELDS.find(guest.get64(GPR.RDX));
  guest.set64(GPR.R8, writeVpField(call.vcpu, element, "guest", value, guest.get64(GPR.R9)));
  return TDX_STATUS.SUCCESS;
}

/** TDG.SYS.RD: a field of the system's metadata. */
export function sysRd(run: Run): bigint {
  const { guest, call } = run;
  const id = guest.get64(GPR.RDX);
  guest.clear(GPR.R8);
  guest.set64(GPR.RDX, METADATA_NULL_ID);
  if (isNullId(id)) {
    guest.set64(GPR.RDX, FIRST_SYS_ID);
    return TDX_STATUS.METADATA_FIRST_FIELD_ID_IN_CONTEXT;
  }
  const element = findSysElement(id);
  guest.set64(GPR.R8, sysValue(element, call.state, call.context));
  guest.set64(GPR.RDX, nextSysId(element));
  return TDX_STATUS.SUCCESS;
}

/** TDG.SYS.RDALL: all of it, as a list in the guest's memory. */
export function sysRdall(run: Run, exit: VmExit): bigint {
  const { guest, call } = run;
  const page = guestBuffer(run, exit, GPR.RDX, METADATA_LIST_SIZE, "private", true);
  const { bytes, next } = sysFieldList(call.state, call.context, guest.get64(GPR.R8));
  call.memory.write(page.hpa, bytes, page.keyId);
  guest.set64(GPR.R8, next);
  return TDX_STATUS.SUCCESS;
}
