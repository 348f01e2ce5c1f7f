import { PAGE_TYPE, PAMT_PAGE_SIZE } from "../../arch/tdx-abi.js";
import { TDX_STATUS } from "../../arch/tdx-status.js";
import { GPR } from "../../platform/seam.js";
import type { Call } from "../call.js";
import {
  failAtEntry,
  gpaAndLevel,
  openTdWithFlags,
  requireTd,
  showEntry,
  typedPage,
  walkToOperand,
} from "../checks.js";
import { initialiseTable, levelSize, SEPT_ENTRIES } from "../memory/sept.js";
import { highOf, hpaOf, lowOf, SEPT, septState, stateOf } from "../memory/sept-entry.js";
import { ALLOWED_OP_STATES } from "../op-states.js";
import { isTracked, needsTracking } from "../tracking.js";

const HIGHEST_LEVEL = 4;
const ALLOW_EXISTING = 1;

/** Clears the outputs and checks the TD that RDX names; returns the flags in RDX. */
function begin(call: Call, opStates: number, flags: number): number {
  call.out.clear(GPR.RCX);
  call.out.clear(GPR.RDX);
  const given = openTdWithFlags(call, GPR.RDX, flags);
  requireTd(call, opStates);
  return given;
}

/** TDH.MEM.SEPT.ADD: hangs a new table below the entry that RCX names. */
export function memSeptAdd(call: Call): bigint {
  const flags = begin(call, ALLOWED_OP_STATES.MEM_SEPT_ADD, ALLOW_EXISTING);
  gpaAndLevel(call, 1, HIGHEST_LEVEL);
  walkToOperand(call);
  const { walk, td, pamt } = call;
  if (walk.state === SEPT.NL_MAPPED && flags & ALLOW_EXISTING) return TDX_STATUS.SUCCESS;
  if (walk.state !== SEPT.FREE) failAtEntry(call, TDX_STATUS.EPT_ENTRY_STATE_INCORRECT);
  const table = typedPage(call, GPR.R8, PAGE_TYPE.NDA);
  initialiseTable(call.memory, table, td.hkid);
  pamt.write(pamt.entry, PAGE_TYPE.EPT, td.pa);
  walk.set(table, SEPT.NL_MAPPED);
  td.addChildren(1);
  return TDX_STATUS.SUCCESS;
}

/** Ends the leaf unless the table below the entry found is blocked and tracked, or the TD does not run. */
function requireTableUntranslated(call: Call): void {
  const { walk, td, pamt } = call;
  const running = needsTracking(td);
  if (walk.state !== SEPT.NL_BLOCKED && (running || walk.state !== SEPT.NL_MAPPED)) {
    failAtEntry(call, TDX_STATUS.EPT_ENTRY_STATE_INCORRECT);
  }
  pamt.find(walk.hpa);
  if (running && !isTracked(td, pamt.epoch(pamt.entry))) failAtEntry(call, TDX_STATUS.TLB_TRACKING_NOT_DONE);
}

/** TDH.MEM.SEPT.REMOVE: takes an empty table away; RCX gives back its page. */
export function memSeptRemove(call: Call): bigint {
  begin(call, ALLOWED_OP_STATES.MEM_SEPT_REMOVE, 0);
  gpaAndLevel(call, 1, HIGHEST_LEVEL);
  walkToOperand(call);
  const { walk, td, pamt, memory } = call;
  requireTableUntranslated(call);
  const table = walk.hpa;
  for (let i = 0; i < SEPT_ENTRIES; i++) {
    const state = stateOf(memory.read32(table + i * 8, td.hkid), memory.read32(table + i * 8 + 4, td.hkid));
    if (state !== SEPT.FREE) failAtEntry(call, TDX_STATUS.EPT_PAGE_NOT_FREE);
  }
  pamt.write(pamt.entry, PAGE_TYPE.NDA, 0);
  walk.setFree();
  td.addChildren(-1);
  call.out.setNumber(GPR.RCX, table);
  return TDX_STATUS.SUCCESS;
}

/** TDH.MEM.SEPT.RD: shows an entry. */
export function memSeptRd(call: Call): bigint {
  begin(call, ALLOWED_OP_STATES.MEM_SEPT_RD, 1);
  call.out.clear(GPR.R8);
  gpaAndLevel(call, 0, HIGHEST_LEVEL);
  walkToOperand(call);
  showEntry(call);
  return TDX_STATUS.SUCCESS;
}

/** TDH.MEM.PAGE.PROMOTE: makes 512 pages that lie side by side one larger page; RCX gives back the table's page. */
export function memPagePromote(call: Call): bigint {
  begin(call, ALLOWED_OP_STATES.MEM_PAGE_PROMOTE, 0);
  gpaAndLevel(call, 1, 2);
  walkToOperand(call);
  requireTableUntranslated(call);
  const { walk, td, pamt, memory, level } = call;
  const table = walk.hpa;
  const tableEntry = pamt.entry;
  const small = levelSize(level - 1);
  const child = (i: number): { state: number; hpa: number } => {
    const low = memory.read32(table + i * 8, td.hkid) >>> 0;
    const high = memory.read32(table + i * 8 + 4, td.hkid) >>> 0;
    return { state: stateOf(low, high), hpa: hpaOf(low, high) };
  };
  const first = child(0);
  const promotable = first.state === SEPT.MAPPED || first.state === SEPT.PENDING;
  if (!promotable || first.hpa % levelSize(level) !== 0) failAtEntry(call, TDX_STATUS.EPT_INVALID_PROMOTE_CONDITIONS);
  const tdmr = pamt.tdmrOf(first.hpa);
  for (let i = 0; i < SEPT_ENTRIES; i++) {
    const { state, hpa } = child(i);
    const alike = state === first.state && hpa === first.hpa + i * small && pamt.tdmrOf(hpa) === tdmr;
    if (!alike || tdmr === null) failAtEntry(call, TDX_STATUS.EPT_INVALID_PROMOTE_CONDITIONS);
  }
  if (tdmr === null) return TDX_STATUS.SUCCESS;
  for (let i = 0; i < SEPT_ENTRIES; i++) {
    pamt.write(pamt.address(tdmr, first.hpa + i * small, level - 1), PAGE_TYPE.NDA, 0);
  }
  pamt.write(pamt.address(tdmr, first.hpa, level), PAGE_TYPE.REG, td.pa);
  pamt.write(tableEntry, PAGE_TYPE.NDA, 0);
  walk.set(first.hpa, first.state);
  td.addChildren(-1);
  call.out.setNumber(GPR.RCX, table);
  return TDX_STATUS.SUCCESS;
}

/** TDH.MEM.PAGE.DEMOTE: splits a large page into 512 smaller ones, below the table page that R8 names. */
export function memPageDemote(call: Call): bigint {
  begin(call, ALLOWED_OP_STATES.MEM_PAGE_DEMOTE, 0);
  gpaAndLevel(call, 1, 2);
  walkToOperand(call);
  const { walk, td, pamt, memory, level } = call;
  const running = needsTracking(td);
  const { leaf, unblocked } = septState(walk.state);
  const plain = walk.state === SEPT.MAPPED || walk.state === SEPT.PENDING;
  if (!leaf || (unblocked === null && (running || !plain))) failAtEntry(call, TDX_STATUS.EPT_ENTRY_STATE_INCORRECT);
  const large = levelSize(level);
  const hpa = walk.hpa - (walk.hpa % large);
  pamt.find(hpa);
  if (running && !isTracked(td, pamt.epoch(pamt.entry))) failAtEntry(call, TDX_STATUS.TLB_TRACKING_NOT_DONE);
  const largeEntry = pamt.entry;
  const table = typedPage(call, GPR.R8, PAGE_TYPE.NDA);
  pamt.write(pamt.entry, PAGE_TYPE.EPT, td.pa);
  const state = unblocked ?? walk.state;
  const tdmr = pamt.tdmrOf(hpa);
  memory.fill(table, 0x1000, 0, td.hkid);
  pamt.write(largeEntry, PAGE_TYPE.NDA, 0);
  for (let i = 0; i < SEPT_ENTRIES && tdmr !== null; i++) {
    const page = hpa + (i * large) / SEPT_ENTRIES;
    memory.write32(table + i * 8, lowOf(page, state), td.hkid);
    memory.write32(table + i * 8 + 4, highOf(page, state), td.hkid);
    pamt.write(pamt.address(tdmr, page, level - 1), PAGE_TYPE.REG, td.pa);
  }
  walk.set(table, SEPT.NL_MAPPED);
  td.addChildren(1, PAMT_PAGE_SIZE.P4K);
  return TDX_STATUS.SUCCESS;
}
