import { MCG_CAP, MCG_EXT_CTL, MCI, MCI_CTL2 } from "../../arch/mca.js";
import { FEATURE_CONTROL, MSR } from "../../arch/msr.js";
import { bankCount, bankMsr, type MachineCheckProcessor } from "./processor.js";

const ALL_ONES = 0xffff_ffff_ffff_ffffn;

/** What the kernel found and set on a processor. */
export interface MachineCheckSetup {
  /** Banks that the kernel enabled: MCi_CTL did not stay 0. */
  readonly banks: readonly number[];
  readonly ser: boolean;
  readonly lmce: boolean;
  /** Banks whose corrected-error interrupt this processor owns. */
  readonly cmciBanks: readonly number[];
}

/** Enables machine checks on a processor, as the kernel does when it brings the processor up. */
export function setUpProcessor(lp: MachineCheckProcessor, wantsLmce: boolean): MachineCheckSetup {
  const capabilities = lp.readMsr(MSR.IA32_MCG_CAP);
  const has = (bit: bigint): boolean => (capabilities & bit) !== 0n;
  if (has(MCG_CAP.CTL_P)) lp.writeMsr(MSR.IA32_MCG_CTL, ALL_ONES);
  const banks: number[] = [];
  for (let bank = 0; bank < bankCount(lp); bank++) {
    lp.writeMsr(bankMsr(bank, MCI.CTL), ALL_ONES);
    if (lp.readMsr(bankMsr(bank, MCI.CTL)) !== 0n) banks.push(bank);
  }
  return {
    banks,
    ser: has(MCG_CAP.SER_P),
    lmce: wantsLmce && enableLmce(lp, capabilities),
    cmciBanks: has(MCG_CAP.CMCI_P) ? banks.filter((bank) => claimCmci(lp, bank)) : [],
  };
}

/** LMCE needs the processor's and the firmware's consent (smi-mca facts 3.3). */
function enableLmce(lp: MachineCheckProcessor, capabilities: bigint): boolean {
  const needed = MCG_CAP.LMCE_P | MCG_CAP.SER_P;
  if ((capabilities & needed) !== needed) return false;
  const consent = FEATURE_CONTROL.LOCK | FEATURE_CONTROL.LMCE_ON;
  if ((lp.readMsr(MSR.IA32_FEATURE_CONTROL) & consent) !== consent) return false;
  lp.writeMsr(MSR.IA32_MCG_EXT_CTL, lp.readMsr(MSR.IA32_MCG_EXT_CTL) | MCG_EXT_CTL.LMCE_EN);
  return true;
}

/**
 * A bank that several processors share belongs to the first that enables its interrupt. CTL2 is read, changed and written,
 * so that the firmware's bits survive.
 */
function claimCmci(lp: MachineCheckProcessor, bank: number): boolean {
  const msr = MSR.IA32_MC0_CTL2 + bank;
  const before = lp.readMsr(msr);
  if ((before & MCI_CTL2.CMCI_EN) !== 0n) return false;
  const threshold = (before & MCI_CTL2.THRESHOLD) === 0n ? 1n : 0n;
  lp.writeMsr(msr, before | MCI_CTL2.CMCI_EN | threshold);
  return (lp.readMsr(msr) & MCI_CTL2.CMCI_EN) !== 0n;
}
