import { TRACKING_OP_STATES } from "./op-states.js";
import type { Td } from "./structures/td.js";
import { TDCS } from "./structures/tdcs.js";

/**
 * TLB tracking (tdx-module facts 6.5). TD_EPOCH counts the times that TDH.MEM.TRACK began a new epoch; REFCOUNT counts
 * the vCPUs that are in the TD since an even or an odd epoch.
 */

/** True if no processor can still translate by an entry that was blocked in `blockedAt`. */
export function isTracked(td: Td, blockedAt: number): boolean {
  const epoch = td.tdcs.get(TDCS.TD_EPOCH);
  if (blockedAt < epoch - 1) return true;
  return blockedAt === epoch - 1 && td.tdcs.get(TDCS.REFCOUNT, blockedAt & 1) === 0;
}

/** True while the TD runs: its entries may be cached. */
export const needsTracking = (td: Td): boolean => ((TRACKING_OP_STATES >>> td.tdcs.get(TDCS.OP_STATE)) & 1) !== 0;

/** A vCPU enters: counts it in the running epoch, which is returned. */
export function enterEpoch(td: Td): number {
  const epoch = td.tdcs.get(TDCS.TD_EPOCH);
  td.tdcs.set(TDCS.REFCOUNT, td.tdcs.get(TDCS.REFCOUNT, epoch & 1) + 1, epoch & 1);
  return epoch;
}

/** A vCPU that entered in `epoch` leaves. */
export function leaveEpoch(td: Td, epoch: number): void {
  td.tdcs.set(TDCS.REFCOUNT, td.tdcs.get(TDCS.REFCOUNT, epoch & 1) - 1, epoch & 1);
}
