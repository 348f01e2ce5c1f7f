import { EXTENDED_QUALIFICATION, TD_CTLS } from "../../arch/tdx-abi.js";
import { EPT_VIOLATION, EXIT_REASON, INTERRUPTIBILITY, INTERRUPTION } from "../../arch/vmx.js";
import { REG } from "../../cpu/layout.js";
import type { VmExit } from "../../cpu/vm-exit.js";
import { SeamShutdown } from "../../platform/seam.js";
import { SEPT } from "../memory/sept-entry.js";
import { TDCS } from "../structures/tdcs.js";
import { injectDf, injectPf, injectVe, PAGE_FAULT } from "./inject.js";
import type { Outcome, Run } from "./run.js";
import { noteViolation } from "./zero-step.js";

/** Qualification bits that the host does not see: what the access was by linear address. */
const HIDDEN = 0x1f80;

/** EPT violation: the decision tree of tdx-module facts 5.4. */
export function exitEptViolation(run: Run, exit: VmExit): Outcome {
  const { td, walk } = run.call;
  const qualification = Number(exit.qualification & 0xffff_ffffn);
  const gpa = exit.guestPhysicalAddress;
  const { state } = run.cpu;
  if (qualification & EPT_VIOLATION.NMI_UNBLOCKED_BY_IRET) {
    state.set32(REG.INTERRUPTIBILITY, state.get32(REG.INTERRUPTIBILITY) | INTERRUPTIBILITY.NMI);
  }
  const sharedBit = 2 ** (td.gpaw - 1);
  const linear = (qualification & EPT_VIOLATION.LINEAR_VALID) !== 0;
  if (gpa >= sharedBit * 2 && linear)
    return injectPf(run, exit.guestLinearAddress, reservedBitFault(run, qualification));
  const shown = qualification & ~HIDDEN;
  if (gpa >= sharedBit) return run.leaveAtPage(exit.reason, shown, gpa);

  walk.walk(td, gpa - (gpa % 0x1000), 0);
  if (walk.state === SEPT.PENDING || walk.state === SEPT.PENDING_EXPORTED_DIRTY) {
    return onPendingPage(run, exit, shown);
  }
  noteViolation(run, gpa - (gpa % 0x1000));
  return run.leaveAtPage(exit.reason, shown, gpa);
}

/** The guest touches a page that it has not accepted. */
function onPendingPage(run: Run, exit: VmExit, shown: number): Outcome {
  const gpa = exit.guestPhysicalAddress;
  if ((run.call.td.tdcs.get64(TDCS.TD_CTLS) & TD_CTLS.PENDING_VE_DISABLE) !== 0n) {
    return run.leaveAtPage(exit.reason, shown, gpa, EXTENDED_QUALIFICATION.PENDING_EPT_VIOLATION);
  }
  // A #VE while an event was being delivered is as fatal as a second fault.
  if (exit.idtVectoringInfo & INTERRUPTION.VALID) return injectDf(run);
  return injectVe(run, exit, exit.guestLinearAddress, gpa);
}

function reservedBitFault(run: Run, qualification: number): number {
  let code: number = PAGE_FAULT.PRESENT | PAGE_FAULT.RESERVED;
  if (qualification & EPT_VIOLATION.WRITE) code |= PAGE_FAULT.WRITE;
  if (qualification & EPT_VIOLATION.FETCH) code |= PAGE_FAULT.FETCH;
  if (run.cpu.state.cpl === 3) code |= PAGE_FAULT.USER;
  return code;
}

/** EPT misconfiguration: the host's doing if shared, impossible if private. */
export function exitEptMisconfig(run: Run, exit: VmExit): Outcome {
  if (exit.guestPhysicalAddress < 2 ** (run.call.td.gpaw - 1)) {
    throw new SeamShutdown("EPT misconfiguration in the Secure EPT");
  }
  return run.leaveAtPage(EXIT_REASON.EPT_MISCONFIG, 0, exit.guestPhysicalAddress);
}
