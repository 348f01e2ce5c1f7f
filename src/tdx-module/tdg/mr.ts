import { TDREPORT } from "../../arch/tdx-abi.js";
import { TDX_STATUS } from "../../arch/tdx-status.js";
import type { VmExit } from "../../cpu/vm-exit.js";
import { GPR } from "../../platform/seam.js";
import { OUTCOME, type Run } from "../exits/run.js";
import { fail } from "../failure.js";
import { hash384 } from "../measurement.js";
import { isReportValid, makeReport } from "../report.js";
import { TDCS } from "../structures/tdcs.js";
import { guestBuffer, TdcallRetry } from "./guest-memory.js";

const DIGEST = 48;
const RTMRS = 4;

/** TDG.MR.RTMR.EXTEND: RTMR := SHA-384 of RTMR and the data in RCX. */
export function mrRtmrExtend(run: Run, exit: VmExit): bigint {
  const { guest, call } = run;
  const index = guest.number(GPR.RDX);
  if (index >= RTMRS) fail(TDX_STATUS.OPERAND_INVALID, BigInt(GPR.RDX));
  const source = guestBuffer(run, exit, GPR.RCX, 64, "private", false);
  const { tdcs } = call.td;
  const registers = tdcs.bytes(TDCS.RTMR);
  const message = new Uint8Array(DIGEST * 2);
  message.set(registers.subarray(index * DIGEST, (index + 1) * DIGEST));
  message.set(call.memory.read(source.hpa, DIGEST, source.keyId), DIGEST);
  registers.set(hash384(message), index * DIGEST);
  tdcs.setBytes(TDCS.RTMR, registers);
  return TDX_STATUS.SUCCESS;
}

/** TDG.MR.REPORT: writes a TDREPORT with the guest's data. It waits for what is pending. */
export function mrReport(run: Run, exit: VmExit): bigint {
  const { guest, call } = run;
  if (guest.number(GPR.R8) !== 0) fail(TDX_STATUS.OPERAND_INVALID, BigInt(GPR.R8));
  const target = guestBuffer(run, exit, GPR.RCX, TDREPORT.SIZE, "any", true);
  const source = guestBuffer(run, exit, GPR.RDX, 64, "any", false);
  if (call.context.pendingInterrupts() !== 0) throw new TdcallRetry(OUTCOME.STAY);
  const report = makeReport(call, call.memory.read(source.hpa, 64, source.keyId));
  call.memory.write(target.hpa, report, target.keyId);
  return TDX_STATUS.SUCCESS;
}

/** Bytes of REPORTMACSTRUCT. */
const MAC_STRUCT = 256;

/** TDG.MR.VERIFYREPORT: was this REPORTMACSTRUCT made on this platform? */
export function mrVerifyreport(run: Run, exit: VmExit): bigint {
  const source = guestBuffer(run, exit, GPR.RCX, MAC_STRUCT, "private", false);
  const bytes = run.call.memory.read(source.hpa, MAC_STRUCT, source.keyId);
  if (!isReportValid(run.call, bytes)) fail(TDX_STATUS.INVALID_REPORTMACSTRUCT);
  return TDX_STATUS.SUCCESS;
}
