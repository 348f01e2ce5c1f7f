import { MCI, MCI_CTL2, MCI_STATUS } from "../arch/mca.js";
import { MSR } from "../arch/msr.js";
import type { Platform } from "../platform/platform.js";
import type { SmiHandler, SmmContext } from "../platform/smm.js";
import { type BankRecord, bankMsr, isMachineCheckSmi, readBanks } from "./smi-cause.js";

/**
 * What firmware does about an MSMI (smi-mca facts 2.3): "re-raise" leaves the banks as they are and has #MC happen on leaving
 * SMM; "hide" clears them, and the operating system never learns of the error.
 */
export type MsmiPolicy = "re-raise" | "hide";

export interface FirmwareOptions {
  readonly msmi?: MsmiPolicy;
  /** Send CMCI to the operating system for errors that arrived by CSMI, if it has asked for CMCI. Default: yes. */
  readonly forwardCorrected?: boolean;
}

/** An entry of firmware's error log. */
export interface FirmwareLogEntry extends BankRecord {
  readonly lp: number;
  readonly smiCount: number;
}

/** The SMI handler of eMCA firmware: logs what the machine-check banks hold and decides what the operating system sees. */
export class FirmwareSmiHandler implements SmiHandler {
  readonly log: FirmwareLogEntry[] = [];
  readonly #msmi: MsmiPolicy;
  readonly #forwardCorrected: boolean;

  constructor(options: FirmwareOptions = {}) {
    this.#msmi = options.msmi ?? "re-raise";
    this.#forwardCorrected = options.forwardCorrected ?? true;
  }

  smi(processors: readonly SmmContext[]): void {
    for (const processor of processors) this.#serve(processor);
  }

  #serve(processor: SmmContext): void {
    const banks = readBanks(processor);
    // Errors that were dealt with may stay in their bank until the operating system polls: they carry firmware's mark.
    const fresh = banks.filter(({ status }) => (status & MCI_STATUS.FIRMWARE_UPDATED) === 0n);
    for (const record of fresh) {
      this.log.push({ ...record, lp: processor.lp.id, smiCount: processor.smiCount });
    }
    const msmi = isMachineCheckSmi(processor);
    if (processor.wants("smi-handled")) {
      const cause = msmi ? "msmi" : fresh.length > 0 ? "csmi" : "other";
      processor.emit("smi-handled", { cause, errors: fresh.length, policy: msmi ? this.#msmi : null });
    }
    if (msmi && this.#msmi === "hide") {
      this.#hide(processor, banks);
      return;
    }
    if (msmi) processor.raiseMachineCheckAtRsm();
    const quiet = fresh.filter(({ signal }) => signal === "csmi");
    for (const { bank, status } of quiet) {
      processor.writeMsr(bankMsr(bank, MCI.STATUS), status | MCI_STATUS.FIRMWARE_UPDATED);
    }
    if (this.#forwardCorrected && quiet.some(({ bank }) => wantsCmci(processor, bank))) processor.signalCmci();
  }

  #hide(processor: SmmContext, banks: readonly BankRecord[]): void {
    for (const { bank } of banks) {
      for (const register of [MCI.STATUS, MCI.ADDR, MCI.MISC]) processor.writeMsr(bankMsr(bank, register), 0n);
    }
    processor.writeMsr(MSR.IA32_MCG_STATUS, 0n);
  }
}

const wantsCmci = (processor: SmmContext, bank: number): boolean =>
  (processor.readMsr(MSR.IA32_MC0_CTL2 + bank) & MCI_CTL2.CMCI_EN) !== 0n;

/** Puts firmware's SMI handler in place. */
export function installFirmware(platform: Platform, options: FirmwareOptions = {}): FirmwareSmiHandler {
  const handler = new FirmwareSmiHandler(options);
  platform.smi.handler = handler;
  return handler;
}
