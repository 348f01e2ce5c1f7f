import { INTERRUPTION, VE_INFO } from "../../arch/vmx.js";
import { VECTOR } from "../../cpu/faults.js";
import { REG } from "../../cpu/layout.js";
import type { VmExit } from "../../cpu/vm-exit.js";
import { VE } from "../structures/tdvps.js";
import { OUTCOME, type Outcome, type Run } from "./run.js";

const RFLAGS_RF = 1n << 16n;
/** Page-fault error code (SDM 3A 4.7). */
export const PAGE_FAULT = { PRESENT: 1, WRITE: 2, USER: 4, RESERVED: 8, FETCH: 16 } as const;

function inject(run: Run, vector: number, errorCode: number | null): Outcome {
  const event = run.cpu.entryEvent;
  const withCode = errorCode === null ? 0 : INTERRUPTION.ERROR_CODE_VALID;
  event.interruptionInfo = (INTERRUPTION.VALID | INTERRUPTION.TYPE_HARDWARE_EXCEPTION | withCode | vector) >>> 0;
  event.errorCode = errorCode ?? 0;
  event.instructionLength = 0;
  const { state } = run.cpu;
  state.set(REG.FLAGS, state.get(REG.FLAGS) | RFLAGS_RF);
  return OUTCOME.STAY;
}

export const injectGp = (run: Run): Outcome => inject(run, VECTOR.GP, 0);
export const injectUd = (run: Run): Outcome => inject(run, VECTOR.UD, null);
export const injectDf = (run: Run): Outcome => inject(run, VECTOR.DF, 0);

/** #PF at a linear address. */
export function injectPf(run: Run, address: bigint, errorCode: number): Outcome {
  run.cpu.state.set(REG.CR2, address);
  return inject(run, VECTOR.PF, errorCode);
}

/** #NMI. */
export function injectNmi(run: Run): Outcome {
  const event = run.cpu.entryEvent;
  event.interruptionInfo = (INTERRUPTION.VALID | INTERRUPTION.TYPE_NMI | VECTOR.NMI) >>> 0;
  event.errorCode = 0;
  event.instructionLength = 0;
  return OUTCOME.STAY;
}

/**
 * #VE: the guest learns what it did from VE_INFO. While it has not read an earlier one, #DF instead (tdx-module facts 5.6).
 * RIP stays at the instruction; the guest skips it itself.
 */
export function injectVe(run: Run, exit: VmExit, gla = 0n, gpa = 0): Outcome {
  const { tdvps } = run.call.vcpu;
  if (tdvps.get(VE.VALID) !== 0) return injectDf(run);
  tdvps.set(VE.EXIT_REASON, exit.reason & 0xffff);
  tdvps.set64(VE.QUALIFICATION, exit.qualification);
  tdvps.set64(VE.GLA, gla);
  tdvps.set(VE.GPA, gpa);
  tdvps.set(VE.EPTP_INDEX, 0);
  tdvps.set(VE.INSTRUCTION_LENGTH, exit.instructionLength);
  tdvps.set(VE.INSTRUCTION_INFO, exit.instructionInfo);
  tdvps.set(VE.VALID, VE_INFO.VALID_VALUE);
  return inject(run, VECTOR.VE, null);
}
