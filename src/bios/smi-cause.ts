import { BANK, MCG_STATUS, MCI, MCI_STATUS } from "../arch/mca.js";
import { MSR } from "../arch/msr.js";
import type { SmmContext } from "../platform/smm.js";

/** What a valid bank tells the handler. */
export interface BankRecord {
  readonly bank: number;
  readonly status: bigint;
  readonly addr: bigint;
  readonly misc: bigint;
  /** "msmi": the error of a machine check; "csmi": corrected, or uncorrected with no action required. */
  readonly signal: "msmi" | "csmi";
}

/** Number of the MSR of a bank. */
export const bankMsr = (bank: number, register: number): number => MSR.IA32_MC0_CTL + 4 * bank + register;

/** A machine check is in progress: this SMI stands in its place. */
export function isMachineCheckSmi(processor: SmmContext): boolean {
  return (processor.readMsr(MSR.IA32_MCG_STATUS) & MCG_STATUS.MCIP) !== 0n;
}

/**
 * Reads the valid banks. An MSMI's error is uncorrected and either signalled (S) or has corrupted the context (PCC); the
 * memory controller's note of the same poison (UC without both) is of the other kind.
 */
export function readBanks(processor: SmmContext): BankRecord[] {
  const records: BankRecord[] = [];
  for (let bank = 0; bank < BANK.COUNT; bank++) {
    const status = processor.readMsr(bankMsr(bank, MCI.STATUS));
    if (!(status & MCI_STATUS.VAL)) continue;
    const signalled = (status & MCI_STATUS.UC) !== 0n && (status & (MCI_STATUS.S | MCI_STATUS.PCC)) !== 0n;
    records.push({
      bank,
      status,
      addr: processor.readMsr(bankMsr(bank, MCI.ADDR)),
      misc: processor.readMsr(bankMsr(bank, MCI.MISC)),
      signal: signalled ? "msmi" : "csmi",
    });
  }
  return records;
}
