import {
  BANK,
  CORRECTED_STATUS,
  MCACOD,
  MCI_STATUS,
  MISC_PHYSICAL_LINE,
  MSCOD,
  SRAR_STATUS,
  UCNA_STATUS,
} from "../../arch/mca.js";
import type { AccessKind } from "../guest-core.js";
import type { PoisonCause } from "../memory/lines.js";
import type { ErrorRecord } from "./bank.js";

/** What MCi_ADDR holds on a machine with KeyIDs: the line's address with the KeyID that the access used. */
export function errorAddress(hpa: number, keyId: number, keyIdShift: number): bigint {
  return BigInt(hpa - (hpa % 64)) | (BigInt(keyId) << BigInt(keyIdShift));
}

/** Memory controller: poison made, or met on a read. */
export function memoryControllerPoison(cause: PoisonCause, addr: bigint): ErrorRecord {
  const mscod = cause === "owner" ? MSCOD.TME_TD_OWNER : MSCOD.TME_INTEGRITY;
  const status = UCNA_STATUS | (mscod << MCI_STATUS.MSCOD_SHIFT) | MCACOD.MEMORY_READ;
  return { status, addr, misc: MISC_PHYSICAL_LINE };
}

/** Memory controller: an error that ECC has corrected. */
export function correctedMemoryError(addr: bigint): ErrorRecord {
  return { status: CORRECTED_STATUS | MCACOD.MEMORY_READ, addr, misc: MISC_PHYSICAL_LINE };
}

/**
 * The core consumes poison. A page walk cannot be taken up again where it stood: its context is corrupt (smi-mca facts 4.1 leaves
 * this open; PCC is our choice, and makes the host panic).
 */
export function consumedPoison(
  access: AccessKind,
  addr: bigint,
): { readonly bank: number; readonly error: ErrorRecord } {
  const fetch = access === "fetch";
  const context = access === "walk" ? MCI_STATUS.PCC : 0n;
  const status = SRAR_STATUS | context | (fetch ? MCACOD.INSTRUCTION_FETCH : MCACOD.DATA_LOAD);
  return { bank: fetch ? BANK.IFU : BANK.DCU, error: { status, addr, misc: MISC_PHYSICAL_LINE } };
}
