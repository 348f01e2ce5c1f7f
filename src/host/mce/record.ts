import { MCG_STATUS, MCI, MCI_MISC, MCI_STATUS } from "../../arch/mca.js";
import { PAGE_SHIFT } from "../mm/page.js";
import { bankMsr, type MachineCheckProcessor } from "./processor.js";

/** One error as the kernel records it (struct mce). */
export interface MachineCheckRecord {
  readonly lp: number;
  readonly bank: number;
  readonly status: bigint;
  /** MCi_ADDR, without the KeyID where the host profile takes it out; 0 without ADDRV. */
  readonly addr: bigint;
  /** MCi_ADDR as the bank has it. */
  readonly rawAddr: bigint;
  /** MCi_MISC; 0 without MISCV. */
  readonly misc: bigint;
  readonly mcgStatus: bigint;
  /** Saved CS and IP of the #MC; 0 where they say nothing about the error, and in records of polling. */
  readonly cs: number;
  readonly ip: bigint;
}

/** How a record's address is read. */
export interface AddressReading {
  /** MCG_CAP.SER_P: MISC tells how many low address bits count. */
  readonly ser: boolean;
  /** Lowest bit of the KeyID field in a physical address. */
  readonly keyIdShift: number;
  readonly masksKeyId: boolean;
}

/** The fields of a record that are known before a bank is read. */
export type RecordBase = Pick<MachineCheckRecord, "lp" | "mcgStatus" | "cs" | "ip">;

/** A record of a bank by its STATUS alone. */
export function recordOfStatus(base: RecordBase, bank: number, status: bigint): MachineCheckRecord {
  return { ...base, bank, status, addr: 0n, rawAddr: 0n, misc: 0n };
}

/** Reads ADDR and MISC of a record's bank (mce_read_aux). */
export function readAuxiliary(
  lp: MachineCheckProcessor,
  record: MachineCheckRecord,
  reading: AddressReading,
): MachineCheckRecord {
  const has = (bit: bigint): boolean => (record.status & bit) !== 0n;
  const misc = has(MCI_STATUS.MISCV) ? lp.readMsr(bankMsr(record.bank, MCI.MISC)) : 0n;
  const rawAddr = has(MCI_STATUS.ADDRV) ? lp.readMsr(bankMsr(record.bank, MCI.ADDR)) : 0n;
  let addr = rawAddr;
  if (reading.ser && has(MCI_STATUS.MISCV)) {
    const lsb = misc & MCI_MISC.ADDRESS_LSB;
    addr = (addr >> lsb) << lsb;
  }
  if (reading.masksKeyId) addr = withoutKeyId(addr, reading.keyIdShift);
  return { ...record, misc, rawAddr, addr };
}

/** The physical address in an address that carries a KeyID. */
export function withoutKeyId(address: bigint, keyIdShift: number): bigint {
  return address & ((1n << BigInt(keyIdShift)) - 1n);
}

/** True if the record names a page: a physical address, known at least to the page (Linux mce/intel.c). */
export function hasUsableAddress(record: MachineCheckRecord): boolean {
  const needed = MCI_STATUS.ADDRV | MCI_STATUS.MISCV;
  if ((record.status & needed) !== needed) return false;
  const mode = (record.misc & MCI_MISC.MODE) >> MCI_MISC.MODE_SHIFT;
  return mode === MCI_MISC.MODE_PHYSICAL && (record.misc & MCI_MISC.ADDRESS_LSB) <= BigInt(PAGE_SHIFT);
}

/** Page frame of an address. With a KeyID left in it, it is far beyond the memory that there is. */
export const framePfn = (address: bigint): number => Number(address >> BigInt(PAGE_SHIFT));

/** MCACOD classes of memory errors (SDM 3B 16.9.2): memory controller, cache hierarchy, generic cache. */
const MEMORY_ERROR_CLASSES = [
  { mask: 0xef80n, value: 0x0080n },
  { mask: 0xef00n, value: 0x0100n },
  { mask: 0xeffcn, value: 0x000cn },
] as const;

export function isMemoryError(record: MachineCheckRecord): boolean {
  return MEMORY_ERROR_CLASSES.some(({ mask, value }) => (record.status & mask) === value);
}

export const canRestart = (mcgStatus: bigint): boolean => (mcgStatus & MCG_STATUS.RIPV) !== 0n;
