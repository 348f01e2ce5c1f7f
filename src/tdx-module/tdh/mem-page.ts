import { PAGE_SIZE } from "../../arch/page.js";
import { PAGE_TYPE, PAMT_PAGE_SIZE } from "../../arch/tdx-abi.js";
import { TDX_STATUS } from "../../arch/tdx-status.js";
import { GPR } from "../../platform/seam.js";
import type { Call } from "../call.js";
import {
  failAtEntry,
  findPage,
  gpaAndLevel,
  openTd,
  pageAddress,
  requireTd,
  sharedMemory,
  typedPage,
  walkToOperand,
} from "../checks.js";
import { fail } from "../failure.js";
import { extendMrtd, measurementBlock } from "../measurement.js";
import { levelSize } from "../memory/sept.js";
import { SEPT, septState } from "../memory/sept-entry.js";
import { ALLOWED_OP_STATES } from "../op-states.js";
import { isTracked, needsTracking } from "../tracking.js";

const addBlock = new Uint8Array(128);

/** What the memory leaves begin with: RDX names the TD, RCX the entry; the outputs are 0 unless the walk shows one. */
function begin(call: Call, opStates: number, lowest: number, highest: number): void {
  call.out.clear(GPR.RCX);
  call.out.clear(GPR.RDX);
  openTd(call, GPR.RDX);
  requireTd(call, opStates);
  gpaAndLevel(call, lowest, highest);
}

/** TDH.MEM.PAGE.ADD: copies a page into a TD that is being built, and measures its address. */
export function memPageAdd(call: Call): bigint {
  begin(call, ALLOWED_OP_STATES.MEM_PAGE_ADD, 0, 0);
  const { td, walk, gpa } = call;
  const source = sharedMemory(call, GPR.R9, PAGE_SIZE, PAGE_SIZE);
  walkToOperand(call);
  if (walk.state !== SEPT.FREE) failAtEntry(call, TDX_STATUS.EPT_ENTRY_STATE_INCORRECT);
  const hpa = typedPage(call, GPR.R8, PAGE_TYPE.NDA);
  call.memory.copy(source.hpa, source.keyId, hpa, td.hkid, PAGE_SIZE);
  call.pamt.write(call.pamt.entry, PAGE_TYPE.REG, td.pa);
  walk.set(hpa, SEPT.MAPPED);
  td.addChildren(1);
  measurementBlock("MEM.PAGE.ADD", gpa, addBlock);
  extendMrtd(td, addBlock);
  return TDX_STATUS.SUCCESS;
}

/** TDH.MEM.PAGE.AUG: gives a TD a page that it must accept. */
export function memPageAug(call: Call): bigint {
  begin(call, ALLOWED_OP_STATES.MEM_PAGE_AUG, 0, 1);
  const { td, walk, level, pamt } = call;
  walkToOperand(call);
  if (walk.state !== SEPT.FREE && walk.state !== SEPT.REMOVED) failAtEntry(call, TDX_STATUS.EPT_ENTRY_STATE_INCORRECT);
  const hpa = level === 0 ? typedPage(call, GPR.R8, PAGE_TYPE.NDA) : largePage(call);
  pamt.write(pamt.entry, PAGE_TYPE.REG, td.pa);
  walk.set(hpa, SEPT.PENDING);
  td.addChildren(1, level);
  return TDX_STATUS.SUCCESS;
}

/** R8 as a free 2 MiB page; `pamt.entry` is its entry of that size. */
function largePage(call: Call): number {
  const hpa = pageAddress(call, GPR.R8, levelSize(1));
  findPage(call, hpa, BigInt(GPR.R8));
  const tdmr = call.pamt.tdmrOf(hpa);
  if (tdmr === null || !call.pamt.isRangeFree(hpa)) fail(TDX_STATUS.PAGE_METADATA_INCORRECT, BigInt(GPR.R8));
  call.pamt.entry = call.pamt.address(tdmr, hpa, PAMT_PAGE_SIZE.P2M);
  return hpa;
}

/** Leaf states from which a page may be taken. */
const REMOVABLE = new Set<number>([
  SEPT.MAPPED,
  SEPT.BLOCKED,
  SEPT.BLOCKEDW,
  SEPT.PENDING,
  SEPT.PENDING_BLOCKED,
  SEPT.PENDING_BLOCKEDW,
]);

/** Ends the leaf if the entry found may still be cached; `call.pamt.entry` is the page's entry afterwards. */
function requireBlockedAndTracked(call: Call): void {
  const { walk, td, pamt } = call;
  findPage(call, walk.hpa, BigInt(GPR.RCX));
  if (!needsTracking(td) || !septState(walk.state).tracked) return;
  if (walk.state !== SEPT.BLOCKED && walk.state !== SEPT.PENDING_BLOCKED) {
    failAtEntry(call, TDX_STATUS.GPA_RANGE_NOT_BLOCKED);
  }
  if (!isTracked(td, pamt.epoch(pamt.entry))) failAtEntry(call, TDX_STATUS.TLB_TRACKING_NOT_DONE);
}

/** TDH.MEM.PAGE.REMOVE: takes a page from a TD; RCX gives back its address. */
export function memPageRemove(call: Call): bigint {
  begin(call, ALLOWED_OP_STATES.MEM_PAGE_REMOVE, 0, 2);
  const { walk, td, pamt } = call;
  walkToOperand(call);
  if (!REMOVABLE.has(walk.state)) failAtEntry(call, TDX_STATUS.EPT_ENTRY_STATE_INCORRECT);
  requireBlockedAndTracked(call);
  const hpa = walk.hpa;
  pamt.write(pamt.entry, PAGE_TYPE.NDA, 0);
  walk.setFree();
  td.addChildren(-1, call.level);
  call.out.setNumber(GPR.RCX, hpa);
  return TDX_STATUS.SUCCESS;
}

/** TDH.MEM.PAGE.RELOCATE: moves a page to another place in memory; RCX gives back the old one. */
export function memPageRelocate(call: Call): bigint {
  begin(call, ALLOWED_OP_STATES.MEM_PAGE_RELOCATE, 0, 0);
  const { walk, td, pamt, memory } = call;
  walkToOperand(call);
  if (!REMOVABLE.has(walk.state)) failAtEntry(call, TDX_STATUS.EPT_ENTRY_STATE_INCORRECT);
  requireBlockedAndTracked(call);
  const old = walk.hpa;
  const oldEntry = pamt.entry;
  const hpa = typedPage(call, GPR.R8, PAGE_TYPE.NDA);
  const pending = walk.state === SEPT.PENDING || walk.state === SEPT.PENDING_BLOCKED;
  if (!pending) memory.copy(old, td.hkid, hpa, td.hkid, PAGE_SIZE);
  pamt.write(pamt.entry, PAGE_TYPE.REG, td.pa);
  pamt.write(oldEntry, PAGE_TYPE.NDA, 0);
  walk.set(hpa, septState(walk.state).unblocked ?? walk.state);
  call.out.setNumber(GPR.RCX, old);
  return TDX_STATUS.SUCCESS;
}

/** TDH.MEM.RD and TDH.MEM.WR: eight bytes of a debug TD's memory. */
export const memRd = (call: Call): bigint => debugAccess(call, false);
export const memWr = (call: Call): bigint => debugAccess(call, true);

function debugAccess(call: Call, write: boolean): bigint {
  const gpa = call.in.number(GPR.RCX);
  const value = call.in.get64(GPR.R8);
  for (const register of [GPR.RCX, GPR.RDX, GPR.R8]) call.out.clear(register);
  openTd(call, GPR.RDX);
  requireTd(call, write ? ALLOWED_OP_STATES.MEM_WR : ALLOWED_OP_STATES.MEM_RD);
  const { td, walk, memory } = call;
  if (!td.debug) fail(TDX_STATUS.TD_NON_DEBUG);
  if (gpa % 8 !== 0 || gpa >= 2 ** (td.gpaw - 1)) fail(TDX_STATUS.OPERAND_INVALID, BigInt(GPR.RCX));
  walk.walk(td, gpa, 0);
  const state = septState(walk.state);
  if (!state.leaf) failAtEntry(call, TDX_STATUS.EPT_WALK_FAILED);
  if (walk.state !== SEPT.MAPPED) failAtEntry(call, TDX_STATUS.EPT_ENTRY_STATE_INCORRECT);
  const size = levelSize(walk.level);
  const at = walk.hpa - (walk.hpa % size) + (gpa % size);
  call.out.set64(GPR.R8, memory.read64(at, td.hkid));
  if (write) memory.write64(at, value, td.hkid);
  return TDX_STATUS.SUCCESS;
}
