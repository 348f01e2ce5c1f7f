import { BANK, MCG_CAP, MCG_EXT_CTL, MCI, MCI_CTL2, MCI_STATUS, SMM_MCA_CAP, SMM_MCA_CONTROL } from "../../arch/mca.js";
import { FEATURE_CONTROL, MSR } from "../../arch/msr.js";
import { ProcessorFault } from "../faults.js";
import { McaBank } from "./bank.js";

/** Who reads or writes a register: SMM may what others may not. */
export interface MsrAccess {
  readonly inSmm: boolean;
}

const OS_CTL2 = MCI_CTL2.THRESHOLD | MCI_CTL2.CMCI_EN;
const FIRMWARE_CTL2 = MCI_CTL2.CSMI_EN | MCI_CTL2.MSMI_EN;

/** Banks of the uncore: one set per package. */
export function packageBanks(): McaBank[] {
  return Array.from({ length: BANK.IMC_LAST - BANK.IMC + 1 }, () => new McaBank());
}

/** Machine-check registers of one logical processor; the memory controllers' banks are its package's. */
export class MachineCheckUnit {
  readonly capability: bigint;
  /** IA32_MCG_STATUS. */
  status = 0n;
  /** IA32_MCG_EXT_CTL. */
  extControl = 0n;
  /** SMM_MCA_CONTROL. */
  smmControl = 0n;
  readonly banks: readonly McaBank[];

  constructor(
    options: { readonly lmce: boolean; readonly seamNr: boolean },
    uncore: readonly McaBank[],
    readonly featureControl: () => bigint,
  ) {
    // Composition of smi-mca facts 3.1: 0x0F001C15 with everything on.
    this.capability =
      BigInt(BANK.COUNT) |
      MCG_CAP.CMCI_P |
      MCG_CAP.TES_P |
      MCG_CAP.SER_P |
      MCG_CAP.EMC_P |
      MCG_CAP.ELOG_P |
      (options.seamNr ? MCG_CAP.SEAM_NR : 0n) |
      (options.lmce ? MCG_CAP.LMCE_P : 0n);
    this.banks = Array.from({ length: BANK.COUNT }, (_, index) => uncore[index - BANK.IMC] ?? new McaBank());
  }

  bank(index: number): McaBank {
    return this.banks[index] as McaBank;
  }

  /** The operating system has opted in to local machine checks. */
  get lmceEnabled(): boolean {
    return (this.extControl & MCG_EXT_CTL.LMCE_EN) !== 0n;
  }

  /** True if this register is one of the unit's. */
  owns(index: number): boolean {
    return (
      (index >= MSR.IA32_MCG_CAP && index <= MSR.IA32_MCG_CTL) ||
      index === MSR.IA32_MCG_EXT_CTL ||
      index === MSR.SMM_MCA_CONTROL ||
      index === MSR.SMM_MCA_CAP ||
      (index >= MSR.IA32_MC0_CTL2 && index < MSR.IA32_MC0_CTL2 + 32) ||
      (index >= MSR.IA32_MC0_CTL && index < MSR.IA32_MC0_CTL + 4 * 32)
    );
  }

  read(index: number, access: MsrAccess): bigint {
    if (index === MSR.IA32_MCG_CAP) return this.capability;
    if (index === MSR.IA32_MCG_STATUS) return this.status;
    if (index === MSR.SMM_MCA_CAP) return SMM_MCA_CAP.LONG_FLOW;
    if (index === MSR.IA32_MCG_EXT_CTL) {
      this.#needLmce(index);
      return this.extControl;
    }
    if (index === MSR.SMM_MCA_CONTROL && access.inSmm) return this.smmControl;
    const { bank, register } = this.#decode(index);
    if (register === "ctl2") return bank.ctl2;
    const hidden = !access.inSmm && this.#hidden(bank);
    switch (register) {
      case MCI.CTL:
        return bank.ctl;
      case MCI.STATUS:
        return hidden ? 0n : bank.status;
      case MCI.ADDR:
        return hidden ? 0n : bank.addr;
      default:
        return hidden ? 0n : bank.misc;
    }
  }

  write(index: number, value: bigint, access: MsrAccess): void {
    if (index === MSR.IA32_MCG_STATUS) {
      if (value !== 0n && !access.inSmm) throw fault(index);
      this.status = value;
      return;
    }
    if (index === MSR.IA32_MCG_EXT_CTL) {
      this.#needLmce(index);
      if (value & ~MCG_EXT_CTL.LMCE_EN) throw fault(index);
      this.extControl = value;
      return;
    }
    if (index === MSR.SMM_MCA_CONTROL && access.inSmm) {
      this.smmControl = value & (SMM_MCA_CONTROL.HIDE_CORRECTED | SMM_MCA_CONTROL.HIDE_UNCORRECTED);
      return;
    }
    if (index === MSR.IA32_MCG_CAP || index === MSR.SMM_MCA_CAP) throw fault(index);
    const { bank, register } = this.#decode(index);
    if (register === "ctl2") this.#writeCtl2(bank, index, value, access);
    else if (register === MCI.CTL) bank.ctl = value;
    else this.#writeLog(bank, register, index, value, access);
  }

  /** Firmware's bits are reserved to everybody but SMM: whoever reads, modifies and writes leaves them alone. */
  #writeCtl2(bank: McaBank, index: number, value: bigint, access: MsrAccess): void {
    const allowed = access.inSmm ? OS_CTL2 | FIRMWARE_CTL2 : OS_CTL2 | (bank.ctl2 & FIRMWARE_CTL2);
    if (value & ~allowed) throw fault(index);
    if (!access.inSmm && (bank.ctl2 ^ value) & FIRMWARE_CTL2) throw fault(index);
    bank.ctl2 = value;
  }

  /** Software may only clear what hardware logged; SMM may also put a record there for the operating system. */
  #writeLog(bank: McaBank, register: number, index: number, value: bigint, access: MsrAccess): void {
    if (value !== 0n && !access.inSmm) throw fault(index);
    if (register === MCI.STATUS) bank.status = value;
    else if (register === MCI.ADDR) bank.addr = value;
    else bank.misc = value;
  }

  #hidden(bank: McaBank): boolean {
    const mask = bank.status & MCI_STATUS.UC ? SMM_MCA_CONTROL.HIDE_UNCORRECTED : SMM_MCA_CONTROL.HIDE_CORRECTED;
    return (this.smmControl & mask) !== 0n;
  }

  #needLmce(index: number): void {
    const needed = FEATURE_CONTROL.LOCK | FEATURE_CONTROL.LMCE_ON;
    if (!(this.capability & MCG_CAP.LMCE_P) || (this.featureControl() & needed) !== needed) throw fault(index);
  }

  #decode(index: number): { readonly bank: McaBank; readonly register: number | "ctl2" } {
    const ctl2 = index >= MSR.IA32_MC0_CTL2 && index < MSR.IA32_MC0_CTL2 + BANK.COUNT;
    const legacy = index >= MSR.IA32_MC0_CTL && index < MSR.IA32_MC0_CTL + 4 * BANK.COUNT;
    if (ctl2) return { bank: this.bank(index - MSR.IA32_MC0_CTL2), register: "ctl2" };
    if (!legacy) throw fault(index);
    const offset = index - MSR.IA32_MC0_CTL;
    return { bank: this.bank(offset >>> 2), register: offset & 3 };
  }
}

const fault = (index: number): ProcessorFault =>
  new ProcessorFault("gp", `machine-check register 0x${index.toString(16)} does not allow this access`);
