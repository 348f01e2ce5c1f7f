import { PAGE_SIZE } from "../../arch/page.js";
import {
  KOT,
  MAX_TDMRS,
  PAGE_TYPE,
  PAMT_ENTRY_SIZE,
  PAMT_PAGE_SIZE,
  SYS_STATE,
  TDMR_INFO,
} from "../../arch/tdx-abi.js";
import { TDX_STATUS } from "../../arch/tdx-status.js";
import { GPR } from "../../platform/seam.js";
import type { Call } from "../call.js";
import { sharedMemory } from "../checks.js";
import { fail } from "../failure.js";
import type { Tdmr } from "../state.js";
import { checkPamtOverlap, readTdmr } from "./tdmr-info.js";

const GIB = 2 ** 30;
/** Memory whose PAMT one call of TDH.SYS.TDMR.INIT makes: 1024 small pages. */
const INIT_STEP = 1024 * PAGE_SIZE;

/** TDH.SYS.CONFIG: takes over the TDMRs and the global KeyID. */
export function sysConfig(call: Call): bigint {
  const { state, context, memory } = call;
  const { logicalProcessors, firstPrivateKeyId, keyIdCount, cmrs } = context.platform;
  const everyLp = Array.from({ length: logicalProcessors }, (_, id) => state.lpInitialised[id]).every(Boolean);
  if (state.sysState !== SYS_STATE.INIT_DONE || !everyLp) fail(TDX_STATUS.SYS_CONFIG_NOT_PENDING);
  const count = call.in.number(GPR.RDX);
  if (count < 1 || count > MAX_TDMRS) fail(TDX_STATUS.OPERAND_INVALID, BigInt(GPR.RDX));
  const array = sharedMemory(call, GPR.RCX, 512, count * 8);
  const hkid = call.in.number(GPR.R8);
  if (hkid < firstPrivateKeyId || hkid >= keyIdCount) fail(TDX_STATUS.OPERAND_INVALID, BigInt(GPR.R8));

  const tdmrs: Tdmr[] = [];
  const pamts: { base: number; size: number }[][] = [];
  for (let i = 0; i < count; i++) {
    const info = Number(memory.read64(array.hpa + i * 8, array.keyId));
    if (info % 512 !== 0 || info + TDMR_INFO.LENGTH > memory.size) fail(TDX_STATUS.OPERAND_INVALID, BigInt(GPR.RCX));
    const bytes = memory.read(info, TDMR_INFO.LENGTH, 0);
    tdmrs.push(readTdmr(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), tdmrs, pamts, cmrs));
  }
  checkPamtOverlap(tdmrs, pamts);
  state.tdmrs = tdmrs;
  state.globalKeyId = hkid;
  (state.kot[hkid] as { state: number }).state = KOT.RESERVED;
  state.sysState = SYS_STATE.CONFIG_DONE;
  call.pamt.reset();
  return TDX_STATUS.SUCCESS;
}

/** TDH.SYS.KEY.CONFIG: makes the global key on the package that it runs on. */
export function sysKeyConfig({ state, context }: Call): bigint {
  if (state.sysState !== SYS_STATE.CONFIG_DONE) fail(TDX_STATUS.SYS_KEY_CONFIG_NOT_PENDING);
  const bit = 1 << context.lp.package;
  if (state.globalKeyPackages & bit) fail(TDX_STATUS.KEY_CONFIGURED);
  state.globalKeyPackages |= bit;
  if (state.globalKeyPackages === 2 ** context.platform.packages - 1) state.sysState = SYS_STATE.READY;
  return TDX_STATUS.SUCCESS;
}

/** TDH.SYS.TDMR.INIT: makes the PAMT entries of the next 4 MiB of a TDMR. */
export function sysTdmrInit(call: Call): bigint {
  const base = call.in.number(GPR.RCX);
  const tdmr = call.state.tdmrs.find((candidate) => candidate.base === base);
  if (!tdmr) fail(TDX_STATUS.OPERAND_INVALID, BigInt(GPR.RCX));
  if (tdmr.initialised === tdmr.size) fail(TDX_STATUS.TDMR_ALREADY_INITIALIZED);
  makeEntries(call, tdmr, tdmr.initialised);
  tdmr.initialised += INIT_STEP;
  const next = tdmr.base + tdmr.initialised;
  call.out.setNumber(GPR.RDX, next - (next % GIB));
  return TDX_STATUS.SUCCESS;
}

function makeEntries(call: Call, tdmr: Tdmr, offset: number): void {
  const { memory, pamt, state } = call;
  const from = tdmr.base + offset;
  memory.fill(
    pamt.address(tdmr, from, PAMT_PAGE_SIZE.P4K),
    (INIT_STEP / PAGE_SIZE) * PAMT_ENTRY_SIZE,
    0,
    state.globalKeyId,
  );
  // The sparser arrays are made a page at a time, when the first entry of a page is due.
  for (const [size, covers] of [
    [PAMT_PAGE_SIZE.P2M, 2 ** 21],
    [PAMT_PAGE_SIZE.P1G, GIB],
  ] as const) {
    const due = offset % ((PAGE_SIZE / PAMT_ENTRY_SIZE) * covers) === 0;
    if (due) memory.fill(pamt.address(tdmr, from, size), PAGE_SIZE, 0, state.globalKeyId);
  }
  for (const area of tdmr.reserved) {
    const begin = Math.max(area.offset, offset);
    const end = Math.min(area.offset + area.size, offset + INIT_STEP);
    for (let at = begin; at < end; at += PAGE_SIZE) {
      pamt.write(pamt.address(tdmr, tdmr.base + at, PAMT_PAGE_SIZE.P4K), PAGE_TYPE.RSVD, 0);
    }
  }
}
