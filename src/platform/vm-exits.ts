import { EXIT_REASON, INTERRUPTION } from "../arch/vmx.js";
import { VECTOR } from "../cpu/faults.js";
import { NO_EXIT, type VmExit } from "../cpu/vm-exit.js";

const info = (vector: number, type: number): number => (INTERRUPTION.VALID | type | vector) >>> 0;

/** VM exits that events of the logical processor cause (smi-mca facts 1.6 and 5). */
export const eventExit = {
  /** Other SMI: qualification bit 0 tells an MSMI. */
  smi: (msmi: boolean): VmExit => ({ ...NO_EXIT, reason: EXIT_REASON.OTHER_SMI, qualification: msmi ? 1n : 0n }),
  nmi: (): VmExit => ({
    ...NO_EXIT,
    reason: EXIT_REASON.EXCEPTION_NMI,
    interruptionInfo: info(VECTOR.NMI, INTERRUPTION.TYPE_NMI),
  }),
  machineCheck: (): VmExit => ({
    ...NO_EXIT,
    reason: EXIT_REASON.EXCEPTION_NMI,
    interruptionInfo: info(VECTOR.MC, INTERRUPTION.TYPE_HARDWARE_EXCEPTION),
  }),
  /** "Acknowledge interrupt on exit" is on: the vector comes along. */
  interrupt: (vector: number): VmExit => ({
    ...NO_EXIT,
    reason: EXIT_REASON.EXTERNAL_INTERRUPT,
    interruptionInfo: info(vector, INTERRUPTION.TYPE_EXTERNAL),
  }),
  init: (): VmExit => ({ ...NO_EXIT, reason: EXIT_REASON.INIT_SIGNAL }),
  tripleFault: (): VmExit => ({ ...NO_EXIT, reason: EXIT_REASON.TRIPLE_FAULT }),
  monitorTrap: (): VmExit => ({ ...NO_EXIT, reason: EXIT_REASON.MONITOR_TRAP_FLAG }),
  nmiWindow: (): VmExit => ({ ...NO_EXIT, reason: EXIT_REASON.NMI_WINDOW }),
} as const;
