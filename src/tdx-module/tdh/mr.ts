import { OP_STATE } from "../../arch/tdx-abi.js";
import { TDX_STATUS } from "../../arch/tdx-status.js";
import { GPR } from "../../platform/seam.js";
import type { Call } from "../call.js";
import { isPrivate, openTd, requireTd } from "../checks.js";
import { fail } from "../failure.js";
import { extendMrtd, finishMrtd, measurementBlock } from "../measurement.js";
import { SEPT } from "../memory/sept-entry.js";
import { ALLOWED_OP_STATES } from "../op-states.js";
import { TDCS } from "../structures/tdcs.js";

/** Bytes of memory that one TDH.MR.EXTEND measures. */
const CHUNK = 256;
const BLOCK = 128;
const buffer = new Uint8Array(BLOCK + CHUNK);

/** TDH.MR.EXTEND: measures 256 bytes of a page that was added. */
export function mrExtend(call: Call): bigint {
  const gpa = call.in.number(GPR.RCX);
  call.out.clear(GPR.RCX);
  call.out.clear(GPR.RDX);
  openTd(call, GPR.RDX);
  requireTd(call, ALLOWED_OP_STATES.MR_EXTEND);
  if (gpa % CHUNK !== 0 || !isPrivate(call, gpa)) fail(TDX_STATUS.OPERAND_INVALID, BigInt(GPR.RCX));
  const { td, walk } = call;
  if (!walk.walk(td, gpa - (gpa % 0x1000), 0)) fail(TDX_STATUS.EPT_ENTRY_NOT_PRESENT, BigInt(GPR.RCX));
  if (walk.state !== SEPT.MAPPED) fail(TDX_STATUS.EPT_ENTRY_NOT_PRESENT);
  measurementBlock("MR.EXTEND", gpa, buffer);
  buffer.set(call.memory.read(walk.hpa + (gpa % 0x1000), CHUNK, td.hkid), BLOCK);
  extendMrtd(td, buffer);
  return TDX_STATUS.SUCCESS;
}

/** TDH.MR.FINALIZE: completes the measurement; the TD may run. */
export function mrFinalize(call: Call): bigint {
  openTd(call, GPR.RCX);
  requireTd(call, ALLOWED_OP_STATES.MR_FINALIZE);
  const { tdcs } = call.td;
  if (tdcs.get(TDCS.NUM_VCPUS) === 0) fail(TDX_STATUS.NO_VCPUS);
  finishMrtd(call.td);
  tdcs.set(TDCS.OP_STATE, OP_STATE.RUNNABLE);
  return TDX_STATUS.SUCCESS;
}
