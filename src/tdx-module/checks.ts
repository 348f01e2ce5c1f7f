import { PAGE_SIZE } from "../arch/page.js";
import { LIFECYCLE, PAGE_TYPE, PAMT_PAGE_SIZE } from "../arch/tdx-abi.js";
import { TDX_STATUS } from "../arch/tdx-status.js";
import { GPR } from "../platform/seam.js";
import type { Call } from "./call.js";
import { fail } from "./failure.js";
import { levelSize } from "./memory/sept.js";
import { architecturalHigh, architecturalLow, septState } from "./memory/sept-entry.js";
import { TDCS } from "./structures/tdcs.js";
import { MIN_TDCX, TDR } from "./structures/tdr.js";

/** Checks that leaves share, with their statuses (tdx-module facts 2.2). Operand ids of registers are their numbers. */

/** A register that holds the address of a private page: aligned, no KeyID, within the physical address width. */
export function pageAddress(call: Call, register: number, alignment = PAGE_SIZE): number {
  const hpa = call.in.number(register);
  if (hpa % alignment !== 0 || hpa >= 2 ** call.context.platform.keyIdShift)
    fail(TDX_STATUS.OPERAND_INVALID, BigInt(register));
  return hpa;
}

/** Finds the PAMT entry of a page of TD memory. */
export function findPage(call: Call, hpa: number, operand: bigint): void {
  if (!call.pamt.find(hpa) || call.pamt.type === PAGE_TYPE.RSVD) fail(TDX_STATUS.OPERAND_ADDR_RANGE_ERROR, operand);
}

/** A register that names a 4 KiB page of the given type; `call.pamt.entry` is its entry afterwards. */
export function typedPage(call: Call, register: number, type: number): number {
  return pageOfType(call, pageAddress(call, register), register, type);
}

function pageOfType(call: Call, hpa: number, register: number, type: number): number {
  findPage(call, hpa, BigInt(register));
  if (call.pamt.type !== type || call.pamt.size !== PAMT_PAGE_SIZE.P4K)
    fail(TDX_STATUS.PAGE_METADATA_INCORRECT, BigInt(register));
  return hpa;
}

/** Shared memory named by a register: address, and the KeyID in its upper bits. */
export interface SharedOperand {
  readonly hpa: number;
  readonly keyId: number;
}

export function sharedMemory(call: Call, register: number, alignment: number, length: number): SharedOperand {
  const { keyIdShift, firstPrivateKeyId, maxPhysicalAddressBits } = call.context.platform;
  const value = call.in.number(register);
  const keyId = Math.floor(value / 2 ** keyIdShift);
  const hpa = value - keyId * 2 ** keyIdShift;
  const inside = value < 2 ** maxPhysicalAddressBits && hpa + length <= call.memory.size;
  if (value % alignment !== 0 || !inside || keyId >= firstPrivateKeyId)
    fail(TDX_STATUS.OPERAND_INVALID, BigInt(register));
  return { hpa, keyId };
}

/** The TD whose TDR page a register names; `call.td` afterwards. */
export function openTd(call: Call, register: number): void {
  const tdr = typedPage(call, register, PAGE_TYPE.TDR);
  call.td.open(call.memory, call.state.globalKeyId, tdr);
}

/** The same for a register that has flags below the address; returns them. */
export function openTdWithFlags(call: Call, register: number, allowed: number): number {
  const value = call.in.number(register);
  const flags = value % PAGE_SIZE;
  if (flags & ~allowed || value >= 2 ** call.context.platform.keyIdShift)
    fail(TDX_STATUS.OPERAND_INVALID, BigInt(register));
  const tdr = pageOfType(call, value - flags, register, PAGE_TYPE.TDR);
  call.td.open(call.memory, call.state.globalKeyId, tdr);
  return flags;
}

/** The TD that owns the page whose PAMT entry was found last. */
export function openOwner(call: Call): void {
  call.td.open(call.memory, call.state.globalKeyId, call.pamt.owner(call.pamt.entry));
}

/** The checks of a TD before its TDCS is used, in this order: FATAL, keys, TDCX pages, operation state. */
export function requireTd(call: Call, opStates: number): void {
  const { td } = call;
  if (td.fatal) fail(call.statuses.TD_FATAL);
  if (td.tdr.get(TDR.LIFECYCLE_STATE) !== LIFECYCLE.KEYS_CONFIGURED) fail(TDX_STATUS.TD_KEYS_NOT_CONFIGURED);
  if (td.tdr.get(TDR.NUM_TDCX) < MIN_TDCX) fail(TDX_STATUS.TDCS_NOT_ALLOCATED);
  td.openTdcs();
  if (((opStates >>> td.tdcs.get(TDCS.OP_STATE)) & 1) === 0) fail(TDX_STATUS.OP_STATE_INCORRECT);
}

/** Register RCX of the memory leaves: level 2:0, GPA 51:12. The GPA must be private and aligned to the level. */
export function gpaAndLevel(call: Call, lowest: number, highest: number): void {
  const low = call.in.low(GPR.RCX);
  const high = call.in.high(GPR.RCX);
  const level = low & 7;
  const gpa = high * 0x1_0000_0000 + ((low & ~0xfff) >>> 0);
  const { td } = call;
  if ((low & 0xff8) !== 0 || high >= 1 << 20 || level < lowest || level > Math.min(highest, td.topLevel)) invalidRcx();
  if (gpa % levelSize(level) !== 0 || !isPrivate(call, gpa)) invalidRcx();
  call.gpa = gpa;
  call.level = level;
}

function invalidRcx(): never {
  fail(TDX_STATUS.OPERAND_INVALID, BigInt(GPR.RCX));
}

/** True for a GPA below the SHARED bit. */
export const isPrivate = (call: Call, gpa: number): boolean => gpa < 2 ** (call.td.gpaw - 1);

/** Walks to the operand's entry, or ends with EPT_WALK_FAILED and what was found. */
export function walkToOperand(call: Call): void {
  if (!call.walk.walk(call.td, call.gpa, call.level)) failAtEntry(call, TDX_STATUS.EPT_WALK_FAILED);
}

/** Ends the leaf with a status of operand RCX, and shows the Secure EPT entry in RCX and RDX. */
export function failAtEntry(call: Call, status: bigint, operand = BigInt(GPR.RCX)): never {
  showEntry(call);
  fail(status, operand);
}

/** The entry found last, as the host may see it (tdx-module facts 6.3). */
export function showEntry(call: Call): void {
  const { walk } = call;
  call.out.setHalves(GPR.RCX, architecturalLow(walk.low, walk.state), architecturalHigh(walk.high, walk.state));
  call.out.setHalves(GPR.RDX, walk.level | (septState(walk.state).public << 8), 0);
}
