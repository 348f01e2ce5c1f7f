import { BANK, MCG_STATUS } from "../arch/mca.js";
import type { AccessKind } from "./guest-core.js";
import type { LogicalProcessor } from "./logical-processor.js";
import { consumedPoison, correctedMemoryError, errorAddress, memoryControllerPoison } from "./mca/errors.js";
import type { PoisonCause } from "./memory/lines.js";
import type { Platform } from "./platform.js";

/** Where an access met poison. */
export interface PoisonedAccess {
  readonly hpa: number;
  readonly keyId: number;
  readonly cause: PoisonCause;
  readonly access: AccessKind;
}

/** The memory controller makes poison, or meets stored poison on a read: logged, no action required. */
export function logPoison(
  platform: Platform,
  lp: LogicalProcessor,
  hpa: number,
  keyId: number,
  cause: PoisonCause,
): void {
  lp.log(BANK.IMC, memoryControllerPoison(cause, errorAddress(hpa, keyId, platform.keyIds.keyIdShift)));
  lp.signalLogged(BANK.IMC);
}

/** An error in memory that ECC has corrected. */
export function correctedError(platform: Platform, lp: LogicalProcessor, hpa: number): void {
  const { keyId } = platform.memory.lineState(hpa);
  lp.log(BANK.IMC, correctedMemoryError(errorAddress(hpa, keyId, platform.keyIds.keyIdShift)));
  lp.signalLogged(BANK.IMC);
}

/**
 * A processor consumes poison. Memory controller and core log it; the core signals a machine check, to itself alone if the
 * operating system has enabled local machine checks, else to every processor (smi-mca facts 3.2 and 4.1). The instruction can
 * be taken up again: RIPV and EIPV; processors that were not concerned see RIPV alone. MSMI and CSMI pend in the same instant.
 */
export function consumePoison(platform: Platform, lp: LogicalProcessor, poisoned: PoisonedAccess): void {
  const addr = errorAddress(poisoned.hpa, poisoned.keyId, platform.keyIds.keyIdShift);
  const { bank, error } = consumedPoison(poisoned.access, addr);
  const local = lp.machineCheckUnit.lmceEnabled;
  lp.log(BANK.IMC, memoryControllerPoison(poisoned.cause, addr));
  lp.log(bank, error);
  lp.simultaneously(() => {
    lp.machineCheck(bank, MCG_STATUS.RIPV | MCG_STATUS.EIPV | (local ? MCG_STATUS.LMCE_S : 0n));
    lp.signalLogged(BANK.IMC);
    if (!local) broadcastMachineCheck(platform, lp, bank);
  });
}

/** The other processors hear of a machine check that is not local. One that cannot take it shuts down and is left behind. */
export function broadcastMachineCheck(platform: Platform, source: LogicalProcessor, bank: number): void {
  for (const lp of platform.lps) {
    if (lp !== source) platform.contain(() => lp.machineCheck(bank, MCG_STATUS.RIPV));
  }
}
