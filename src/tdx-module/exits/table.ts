import {
  EXIT_REASON,
  INTERRUPTIBILITY,
  INTERRUPTION,
  NOTIFY_VM_CONTEXT_INVALID,
  SMI_QUALIFICATION_MSMI,
} from "../../arch/vmx.js";
import { VECTOR } from "../../cpu/faults.js";
import { REG } from "../../cpu/layout.js";
import { SeamShutdown } from "../../platform/seam.js";
import { hasFeature } from "../features.js";
import { TDVPS, VE } from "../structures/tdvps.js";
import { dispatchTdcall } from "../tdg/dispatch.js";
import { exitCpuid } from "./cpuid.js";
import { exitEptMisconfig, exitEptViolation } from "./ept.js";
import { injectGp, injectNmi, injectUd, injectVe } from "./inject.js";
import { exitRdmsr, exitWrmsr } from "./msr.js";
import { exitCrAccess, exitXsetbv } from "./registers.js";
import { type ExitHandler, OUTCOME } from "./run.js";

/** What the module does about each VM exit of a TD (tdx-module facts 5.2). */

const ve: ExitHandler = (run, exit) => injectVe(run, exit);
const ud: ExitHandler = (run) => injectUd(run);
const gp: ExitHandler = (run) => injectGp(run);
/** The host's business; the TD goes on later. */
const toHost: ExitHandler = (run, exit) => run.leave(exit);

/** A production TD cannot get here; a debug TD can, by what its host sets up. */
const debugOnly: ExitHandler = (run, exit) => {
  if (run.call.td.debug) return run.leave(exit);
  throw new SeamShutdown(`impossible VM exit ${exit.reason} of a TD`);
};

/** Exits without a row. */
export const exitOther: ExitHandler = (run, exit) =>
  run.call.td.debug ? run.leave(exit) : run.leave(exit, "td-dead", run.call.statuses.NON_RECOVERABLE_TD);

const nonAccessible: ExitHandler = (run, exit) => run.leave(exit, "non-accessible", run.call.statuses.NON_ACCESSIBLE);

const exceptionOrNmi: ExitHandler = (run, exit) => {
  if ((exit.interruptionInfo & INTERRUPTION.TYPE_MASK) === INTERRUPTION.TYPE_NMI) return run.leave(exit);
  if ((exit.interruptionInfo & INTERRUPTION.VECTOR_MASK) === VECTOR.MC) return nonAccessible(run, exit);
  return debugOnly(run, exit);
};

/** A plain SMI stays pending and strikes after SEAMRET; a morphed machine check kills the TD. */
const otherSmi: ExitHandler = (run, exit) =>
  (Number(exit.qualification & 0xffn) & SMI_QUALIFICATION_MSMI) !== 0 ? nonAccessible(run, exit) : run.leave(exit);

/** The host's NMI waits until the guest has read VE_INFO and can take one. */
const nmiWindow: ExitHandler = (run) => {
  const { tdvps } = run.call.vcpu;
  run.cpu.controls.nmiWindowExiting = false;
  if (tdvps.get(TDVPS.PEND_NMI) === 0 || tdvps.get(VE.VALID) !== 0) return OUTCOME.STAY;
  tdvps.set(TDVPS.PEND_NMI, 0);
  return injectNmi(run);
};

const rdpmc: ExitHandler = (run, exit) => (hasFeature(run.call.td, "perfmon") ? debugOnly(run, exit) : injectGp(run));

/** Bit 12 of the qualification: an IRET had unblocked NMIs. */
const NOTIFY_NMI_UNBLOCKED = 1n << 12n;
const notification: ExitHandler = (run, exit) => {
  const { state } = run.cpu;
  if (exit.qualification & NOTIFY_NMI_UNBLOCKED) {
    state.set32(REG.INTERRUPTIBILITY, state.get32(REG.INTERRUPTIBILITY) | INTERRUPTIBILITY.NMI);
  }
  const invalid = (Number(exit.qualification & 0xffn) & NOTIFY_VM_CONTEXT_INVALID) !== 0;
  return invalid ? run.leave(exit, "td-dead", run.call.statuses.NON_RECOVERABLE_TD) : run.leave(exit);
};

const ROWS: readonly (readonly [reason: number, handler: ExitHandler])[] = [
  [EXIT_REASON.EXCEPTION_NMI, exceptionOrNmi],
  [EXIT_REASON.EXTERNAL_INTERRUPT, toHost],
  [EXIT_REASON.TRIPLE_FAULT, (run, exit) => run.leave(exit, "vcpu-dead")],
  [EXIT_REASON.INIT_SIGNAL, toHost],
  [EXIT_REASON.OTHER_SMI, otherSmi],
  [EXIT_REASON.NMI_WINDOW, nmiWindow],
  [EXIT_REASON.TASK_SWITCH, toHost],
  [EXIT_REASON.CPUID, exitCpuid],
  [EXIT_REASON.GETSEC, ud],
  [EXIT_REASON.HLT, ve],
  [EXIT_REASON.INVD, ve],
  [EXIT_REASON.RDPMC, rdpmc],
  [EXIT_REASON.RSM, ud],
  [EXIT_REASON.VMCALL, ve],
  [EXIT_REASON.VMCLEAR, ud],
  [EXIT_REASON.VMLAUNCH, ud],
  [EXIT_REASON.VMPTRLD, ud],
  [EXIT_REASON.VMPTRST, ud],
  [EXIT_REASON.VMREAD, ud],
  [EXIT_REASON.VMRESUME, ud],
  [EXIT_REASON.VMWRITE, ud],
  [EXIT_REASON.VMXOFF, ud],
  [EXIT_REASON.VMXON, ud],
  [EXIT_REASON.CR_ACCESS, exitCrAccess],
  [EXIT_REASON.IO_INSTRUCTION, ve],
  [EXIT_REASON.MSR_READ, exitRdmsr],
  [EXIT_REASON.MSR_WRITE, exitWrmsr],
  [EXIT_REASON.MWAIT, ve],
  [EXIT_REASON.MONITOR, ve],
  [EXIT_REASON.CSTATE_SMI, toHost],
  [EXIT_REASON.EPT_VIOLATION, exitEptViolation],
  [EXIT_REASON.EPT_MISCONFIG, exitEptMisconfig],
  [EXIT_REASON.INVEPT, ud],
  [EXIT_REASON.INVVPID, ud],
  [EXIT_REASON.WBINVD, ve],
  [EXIT_REASON.XSETBV, exitXsetbv],
  [EXIT_REASON.APIC_WRITE, ve],
  [EXIT_REASON.VMFUNC, ud],
  [EXIT_REASON.ENCLS, ud],
  [EXIT_REASON.PML_FULL, debugOnly],
  [EXIT_REASON.PCONFIG, ve],
  [EXIT_REASON.ENCLV, ud],
  [EXIT_REASON.ENQCMD_PASID, gp],
  [EXIT_REASON.ENQCMDS_PASID, ud],
  [EXIT_REASON.BUS_LOCK, toHost],
  [EXIT_REASON.NOTIFY, notification],
  [EXIT_REASON.SEAMCALL, ud],
  [EXIT_REASON.TDCALL, dispatchTdcall],
];

/** Handlers by basic exit reason. */
export const EXIT_TABLE: readonly (ExitHandler | undefined)[] = (() => {
  const table: (ExitHandler | undefined)[] = [];
  for (const [reason, handler] of ROWS) table[reason] = handler;
  return table;
})();

/** A VM entry that failed (exit reason bit 31; tdx-module facts 5.3). */
export const exitEntryFailure: ExitHandler = (run, exit) => {
  switch (exit.reason & 0xffff) {
    case EXIT_REASON.INVALID_GUEST_STATE:
      return exitOther(run, exit);
    case EXIT_REASON.MACHINE_CHECK:
      return nonAccessible(run, exit);
    default:
      throw new SeamShutdown(`VM entry of a TD failed with reason ${exit.reason & 0xffff}`);
  }
};
