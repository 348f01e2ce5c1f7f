import { OPERAND } from "../../arch/tdx-abi.js";
import { TDX_STATUS } from "../../arch/tdx-status.js";
import { GPR } from "../../platform/seam.js";
import type { Call } from "../call.js";
import { failAtEntry, gpaAndLevel, openTd, requireTd, walkToOperand } from "../checks.js";
import { fail } from "../failure.js";
import { septState } from "../memory/sept-entry.js";
import { ALLOWED_OP_STATES } from "../op-states.js";
import { TDCS } from "../structures/tdcs.js";
import { isTracked, needsTracking } from "../tracking.js";

const HIGHEST_LEVEL = 4;

function begin(call: Call, opStates: number): void {
  call.out.clear(GPR.RCX);
  call.out.clear(GPR.RDX);
  openTd(call, GPR.RDX);
  requireTd(call, opStates);
  gpaAndLevel(call, 0, HIGHEST_LEVEL);
  walkToOperand(call);
}

/** TDH.MEM.RANGE.BLOCK: no new translation through this entry; its page remembers the epoch. */
export function memRangeBlock(call: Call): bigint {
  begin(call, ALLOWED_OP_STATES.MEM_RANGE_BLOCK);
  const { walk, td, pamt } = call;
  const { blocked, unblocked } = septState(walk.state);
  if (unblocked !== null) failAtEntry(call, TDX_STATUS.GPA_RANGE_ALREADY_BLOCKED);
  if (blocked === null) failAtEntry(call, TDX_STATUS.EPT_ENTRY_STATE_INCORRECT);
  pamt.find(walk.hpa);
  pamt.setEpoch(pamt.entry, td.tdcs.get(TDCS.TD_EPOCH));
  walk.set(walk.hpa, blocked);
  return TDX_STATUS.SUCCESS;
}

/** TDH.MEM.RANGE.UNBLOCK: the reverse, once no processor can have a translation from before. */
export function memRangeUnblock(call: Call): bigint {
  begin(call, ALLOWED_OP_STATES.MEM_RANGE_UNBLOCK);
  const { walk, td, pamt } = call;
  const { unblocked } = septState(walk.state);
  if (unblocked === null) failAtEntry(call, TDX_STATUS.EPT_ENTRY_STATE_INCORRECT);
  pamt.find(walk.hpa);
  if (needsTracking(td) && !isTracked(td, pamt.epoch(pamt.entry))) {
    // The module names the tree here, and RCX elsewhere.
    failAtEntry(call, TDX_STATUS.TLB_TRACKING_NOT_DONE, OPERAND.SEPT_TREE);
  }
  walk.set(walk.hpa, unblocked);
  return TDX_STATUS.SUCCESS;
}

/** TDH.MEM.TRACK: begins an epoch, if no vCPU is in the TD from before the running one. */
export function memTrack(call: Call): bigint {
  openTd(call, GPR.RCX);
  requireTd(call, ALLOWED_OP_STATES.MEM_TRACK);
  const { tdcs } = call.td;
  const epoch = tdcs.get(TDCS.TD_EPOCH);
  if (tdcs.get(TDCS.REFCOUNT, 1 - (epoch & 1)) !== 0) fail(TDX_STATUS.PREVIOUS_TLB_EPOCH_BUSY);
  tdcs.set(TDCS.TD_EPOCH, epoch + 1);
  return TDX_STATUS.SUCCESS;
}
