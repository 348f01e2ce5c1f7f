import { MCG_CAP, MCI } from "../../arch/mca.js";
import { MSR } from "../../arch/msr.js";

/** A logical processor as the machine-check code needs it; platform's `LogicalProcessor` satisfies it. */
export interface MachineCheckProcessor {
  readonly id: number;
  readMsr(index: number): bigint;
  writeMsr(index: number, value: bigint): void;
}

/** MSR of a register (one of `MCI`) of a bank. */
export const bankMsr = (bank: number, register: number): number => MSR.IA32_MC0_CTL + 4 * bank + register;

export const bankStatus = (lp: MachineCheckProcessor, bank: number): bigint => lp.readMsr(bankMsr(bank, MCI.STATUS));

/** Number of banks that a processor reports. */
export const bankCount = (lp: MachineCheckProcessor): number =>
  Number(lp.readMsr(MSR.IA32_MCG_CAP) & MCG_CAP.BANK_COUNT);
