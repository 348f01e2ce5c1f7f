import { EXIT_FLAG, EXIT_REASON, INTERRUPTION } from "../../arch/vmx.js";
import type { VmExit } from "../../cpu/vm-exit.js";
import { SeamShutdown } from "../../platform/seam.js";
import { TDVPS } from "../structures/tdvps.js";
import { advance } from "./advance.js";
import { OUTCOME, type Outcome, type Run } from "./run.js";
import { endStepping, filterExit } from "./step-filter.js";
import { EXIT_TABLE, exitEntryFailure, exitOther } from "./table.js";

/** Exit-reason bits that a TD's exits never have: all between the basic reason and bit 31 but the bus lock. */
const RESERVED_FLAGS = 0x7fff_0000 & ~EXIT_FLAG.BUS_LOCK;

/** Lets the guest run, handles what it can handle, and returns when the TD must be left; `run` then says how. */
export function runGuest(run: Run): void {
  const { context } = run.call;
  for (;;) {
    const exit = context.enterGuest();
    const outcome = handle(run, exit);
    if (outcome === OUTCOME.LEAVE) {
      if (run.steps > 0 && run.kind !== "non-accessible") endStepping(run);
      return;
    }
    if (outcome === OUTCOME.ADVANCE) advance(run, exit.instructionLength);
    if (run.call.vcpu.tdvps.get(TDVPS.BUS_LOCK) !== 0) {
      // Nothing else left the TD: the bus lock does.
      run.leaveAtPage(EXIT_REASON.BUS_LOCK, 0, 0);
      return;
    }
  }
}

/** The prologue that all exits share (tdx-module facts 5.1), then the exit's own row. */
function handle(run: Run, exit: VmExit): Outcome {
  const { call } = run;
  if (call.td.fatal) {
    // Another vCPU has died: this one leaves with its own reason, and nothing of the TD is touched.
    return run.leave(exit, "non-accessible", call.statuses.NON_ACCESSIBLE);
  }
  if (exit.reason & EXIT_FLAG.BUS_LOCK) call.vcpu.tdvps.set(TDVPS.BUS_LOCK, 1);
  const basic = exit.reason & EXIT_FLAG.BASIC_MASK;
  if (exit.reason & RESERVED_FLAGS && !call.td.debug)
    throw new SeamShutdown(`VM exit with reserved flags: ${exit.reason}`);

  const filtered = filterExit(run, exit);
  if (filtered !== "pass") return filtered;
  const vectoring = (exit.idtVectoringInfo & INTERRUPTION.VALID) !== 0;
  if (vectoring) {
    const allowed =
      basic === EXIT_REASON.TASK_SWITCH || basic === EXIT_REASON.EPT_VIOLATION || basic === EXIT_REASON.EPT_MISCONFIG;
    if (!allowed) {
      if (call.td.debug) return run.leave(exit);
      throw new SeamShutdown(`VM exit ${basic} while a TD was delivering an event`);
    }
    deliverAgain(run, exit);
  }
  if ((exit.reason & EXIT_FLAG.VM_ENTRY_FAILURE) !== 0) return exitEntryFailure(run, exit);
  return (EXIT_TABLE[basic] ?? exitOther)(run, exit);
}

/** The event that the exit interrupted comes again at the next entry, unless a handler injects another. */
function deliverAgain(run: Run, exit: VmExit): void {
  const event = run.cpu.entryEvent;
  event.interruptionInfo = (exit.idtVectoringInfo & ~INTERRUPTION.NMI_UNBLOCKING) >>> 0;
  event.errorCode = exit.idtVectoringErrorCode;
  event.instructionLength = exit.instructionLength;
}
