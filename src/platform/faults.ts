/**
 * A fault of an instruction that host, module or SMI handler executes on a logical processor (RDMSR, WRMSR). The code that
 * issued it catches it where real code has an exception-table entry.
 */
export class ProcessorFault extends Error {
  override readonly name = "ProcessorFault";
  constructor(
    readonly vector: "gp" | "ud",
    message: string,
  ) {
    super(message);
  }
}

/** The host loaded poison and its #MC handler returned: the load has no value. */
export class HostMachineCheck extends Error {
  override readonly name = "HostMachineCheck";
  constructor(readonly hpa: number) {
    super(`machine check: the host loaded poison at 0x${hpa.toString(16)}`);
  }
}

/** Why a logical processor went into shutdown. */
export type ShutdownCause =
  /** A machine check while MCG_STATUS.MCIP was still set. */
  | "machine-check-in-progress"
  /** A machine check while CR4.MCE was clear, as it is in SMM. */
  | "mce-disabled"
  /** A machine check, poison or a module failure in SEAM root. */
  | "seam-root"
  /** RSM met a save state that it cannot load. */
  | "rsm";

/** A logical processor is in shutdown and does not go on. */
export class ProcessorShutdown extends Error {
  override readonly name = "ProcessorShutdown";
  constructor(
    readonly lp: number,
    readonly shutdownCause: ShutdownCause,
    message: string,
  ) {
    super(`logical processor ${lp} shut down: ${message}`);
  }
}
