import { PAGE_TYPE } from "../arch/tdx-abi.js";
import { TDX_STATUS } from "../arch/tdx-status.js";
import type { Call } from "./call.js";
import { openOwner, requireTd, typedPage } from "./checks.js";
import { fail } from "./failure.js";
import { TDCS } from "./structures/tdcs.js";
import { TDVPS } from "./structures/tdvps.js";
import { NO_LP } from "./structures/vcpu.js";

/** The vCPU whose TDVPR page a register names, and its TD, with the TD's checks made. */
export function openVcpu(call: Call, register: number, opStates: number): void {
  const tdvpr = typedPage(call, register, PAGE_TYPE.TDVPR);
  openOwner(call);
  requireTd(call, opStates);
  call.vcpu.open(call.memory, call.td.hkid, tdvpr);
}

/** Binds the vCPU to this LP, if it is not. Returns true if it was before. */
export function associate(call: Call): boolean {
  const { tdvps } = call.vcpu;
  const lp = call.context.lp.id;
  const bound = tdvps.get(TDVPS.ASSOC_LPID);
  if (bound === lp) return true;
  if (bound !== NO_LP) fail(TDX_STATUS.VCPU_ASSOCIATED);
  tdvps.set(TDVPS.ASSOC_LPID, lp);
  call.td.tdcs.set(TDCS.NUM_ASSOC_VCPUS, call.td.tdcs.get(TDCS.NUM_ASSOC_VCPUS) + 1);
  return false;
}
