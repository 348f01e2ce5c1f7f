import type { MachineCheckRecord } from "./record.js";
import type { SeverityRow } from "./severity.js";

/**
 * The host kernel stopped because of a machine check. It is an outcome of the machine, thrown because nothing of the host
 * runs any more: whoever drives the machine catches it.
 */
export class HostPanic extends Error {
  override readonly name = "HostPanic";

  constructor(
    message: string,
    readonly lp: number,
    /** The row that demanded it; null if it was something else, such as processors that did not arrive. */
    readonly row: SeverityRow | null = null,
    readonly record: MachineCheckRecord | null = null,
    /** What the kernel adds when the lost memory belongs to TDX (smi-mca facts 3.10). */
    readonly tdxNote: string | null = null,
  ) {
    super(message);
  }
}
