import type { TdhName } from "../arch/tdx-abi.js";

/** One bit per operation state. */
const states = (...list: number[]): number => list.reduce((mask, state) => mask | (1 << state), 0);

/** Operation states in which a leaf may run (tdx-module facts 2.9). */
export const ALLOWED_OP_STATES = {
  VP_ENTER: states(2, 3, 9),
  MNG_ADDCX: states(0),
  MNG_INIT: states(0),
  MEM_PAGE_ADD: states(1),
  VP_INIT: states(1),
  MR_EXTEND: states(1),
  MR_FINALIZE: states(1),
  VP_CREATE: states(1, 7),
  VP_ADDCX: states(1, 7),
  MEM_SEPT_ADD: states(1, 2, 3, 6, 7, 8, 9),
  MEM_PAGE_AUG: states(1, 2, 3, 9),
  MEM_RANGE_BLOCK: states(1, 2, 3, 4, 5, 8, 9),
  MEM_RANGE_UNBLOCK: states(1, 2, 3, 4, 5, 8, 9),
  MEM_PAGE_DEMOTE: states(1, 2, 3, 4, 5, 8, 9),
  MEM_PAGE_PROMOTE: states(1, 2, 3, 4, 5, 8, 9),
  MEM_PAGE_RELOCATE: states(1, 2, 3, 4, 5, 8, 9),
  MEM_PAGE_REMOVE: states(1, 2, 3, 4, 5, 8, 9, 10),
  MEM_SEPT_REMOVE: states(1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
  MEM_SEPT_RD: states(1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
  MNG_RD: states(1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
  VP_RD: states(1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
  MEM_RD: states(1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
  MEM_TRACK: states(1, 2, 3, 4, 5, 6, 7, 8, 9),
  MNG_WR: states(1, 2, 3, 6, 7, 8, 9, 10),
  VP_WR: states(1, 2, 3, 6, 7, 8, 9, 10),
  MEM_WR: states(1, 2, 3, 6, 7, 8, 9, 10),
} as const satisfies Partial<Record<TdhName, number>>;

/** Operation states in which blocked entries must be tracked before they are changed. */
export const TRACKING_OP_STATES = states(2, 3, 9);
