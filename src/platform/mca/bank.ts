import { MCI_STATUS } from "../../arch/mca.js";

/** An error as hardware reports it to a bank. */
export interface ErrorRecord {
  readonly status: bigint;
  readonly addr: bigint;
  readonly misc: bigint;
}

/** How heavy an error is, for the overwrite rules: corrected, uncorrected recoverable, processor context corrupt. */
function weight(status: bigint): number {
  if ((status & MCI_STATUS.UC) === 0n) return 0;
  return (status & MCI_STATUS.PCC) === 0n ? 1 : 2;
}

const STICKY = MCI_STATUS.S | MCI_STATUS.AR;

/** One error-reporting register bank. */
export class McaBank {
  ctl = 0xffff_ffff_ffff_ffffn;
  ctl2 = 0n;
  status = 0n;
  addr = 0n;
  misc = 0n;

  get valid(): boolean {
    return (this.status & MCI_STATUS.VAL) !== 0n;
  }

  /**
   * Logs an error (SDM 3B 16.3.2.2.1, smi-mca facts 3.2): only a heavier error replaces what the bank holds; a second error
   * always sets OVER; S and AR stay; corrected errors are counted.
   */
  log(error: ErrorRecord): void {
    if (!this.valid) {
      this.status = error.status | MCI_STATUS.VAL;
      this.addr = error.addr;
      this.misc = error.misc;
      return;
    }
    const old = this.status;
    if (weight(error.status) > weight(old)) {
      this.status = error.status | MCI_STATUS.VAL | MCI_STATUS.OVER | (old & STICKY);
      this.addr = error.addr;
      this.misc = error.misc;
      return;
    }
    this.status = (old & ~MCI_STATUS.FIRMWARE_UPDATED) | MCI_STATUS.OVER | (error.status & STICKY);
    if (weight(error.status) === 0 && weight(old) === 0) this.#count();
  }

  #count(): void {
    const count = this.status & MCI_STATUS.CORRECTED_COUNT;
    if (count !== MCI_STATUS.CORRECTED_COUNT) this.status += 1n << MCI_STATUS.CORRECTED_COUNT_SHIFT;
  }

  /** Corrected errors counted. */
  get correctedCount(): bigint {
    return (this.status & MCI_STATUS.CORRECTED_COUNT) >> MCI_STATUS.CORRECTED_COUNT_SHIFT;
  }

  clear(): void {
    this.status = 0n;
    this.addr = 0n;
    this.misc = 0n;
  }
}
