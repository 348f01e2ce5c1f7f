import { MCI, MCI_STATUS } from "../../arch/mca.js";
import { MSR } from "../../arch/msr.js";
import type { EventBus } from "../../platform/event-bus.js";
import type { MemoryFailure } from "../mm/memory-failure.js";
import { bankMsr, bankStatus, type MachineCheckProcessor } from "./processor.js";
import {
  type AddressReading,
  framePfn,
  hasUsableAddress,
  type MachineCheckRecord,
  readAuxiliary,
  recordOfStatus,
  withoutKeyId,
} from "./record.js";
import { gradeRecord, SEVERITY, type SeverityRow, severityName, severityRow } from "./severity.js";

/** Records kept; older ones are dropped. */
const RECORDS_MAX = 1024;

export interface LogEntry {
  readonly record: MachineCheckRecord;
  /** Row of the severity table, by number and name. */
  readonly row: SeverityRow;
  readonly source: "exception" | "poll";
}

/** The log as a value; rows by number. */
export interface MachineCheckLogState {
  readonly entries: readonly LogEntryState[];
  /** How many of the last entries wait for `process`. */
  readonly unprocessed: number;
}
type LogEntryState = Omit<LogEntry, "row"> & { readonly row: number };

export interface MachineCheckLogConfig {
  readonly events: EventBus;
  readonly memoryFailure: MemoryFailure;
  readonly keyIdShift: number;
  readonly skylakeX?: boolean;
}

/** The kernel's machine-check log, and what follows from a record in process context. */
export class MachineCheckLog {
  readonly #config: MachineCheckLogConfig;
  readonly #entries: LogEntry[] = [];
  readonly #unprocessed: LogEntry[] = [];

  constructor(config: MachineCheckLogConfig) {
    this.#config = config;
  }

  get state(): MachineCheckLogState {
    const entries = this.#entries.map((entry) => ({ ...entry, row: entry.row.row }));
    return { entries, unprocessed: this.#unprocessed.length };
  }

  restore(state: MachineCheckLogState): void {
    const entries = state.entries.map((entry) => ({ ...entry, row: severityRow(entry.row) }));
    this.#entries.splice(0, Infinity, ...entries);
    this.#unprocessed.splice(0, Infinity, ...entries.slice(entries.length - state.unprocessed));
  }

  /** Logged errors, oldest first. */
  get entries(): readonly LogEntry[] {
    return this.#entries;
  }

  add(record: MachineCheckRecord, row: SeverityRow, source: LogEntry["source"]): void {
    const entry = { record, row, source };
    this.#entries.push(entry);
    if (this.#entries.length > RECORDS_MAX) this.#entries.shift();
    this.#unprocessed.push(entry);
  }

  /** True if `process` has something to do. */
  get hasUnprocessed(): boolean {
    return this.#unprocessed.length > 0;
  }

  /**
   * The kernel's work queue: pages of errors that ask for no immediate action are taken out of use. It may make SEAMCALLs (zaps)
   * and so runs in process context only, never out of #MC or an interrupt. Linux takes the KeyID out of the address here in
   * every version (smi-mca facts 3.8).
   */
  process(): void {
    for (let entry = this.#unprocessed.shift(); entry !== undefined; entry = this.#unprocessed.shift()) {
      const { record, row } = entry;
      if (row.severity !== SEVERITY.AO && row.severity !== SEVERITY.UCNA) continue;
      if (!hasUsableAddress(record)) continue;
      const pfn = framePfn(withoutKeyId(record.addr, this.#config.keyIdShift));
      this.#config.memoryFailure.memoryFailure(pfn, 0, null, record.lp);
    }
  }

  /**
   * machine_check_poll(): logs and clears corrected errors and uncorrected ones that ask for no action. What #MC signals stays in
   * its bank, unless everything is wanted, as at boot. Returns what was logged.
   */
  poll(
    lp: MachineCheckProcessor,
    reading: AddressReading,
    banks: readonly number[],
    wanted: "unsignaled" | "all" = "unsignaled",
  ): readonly MachineCheckRecord[] {
    const logged: MachineCheckRecord[] = [];
    const base = { lp: lp.id, mcgStatus: lp.readMsr(MSR.IA32_MCG_STATUS), cs: 0, ip: 0n };
    for (const bank of banks) {
      const status = bankStatus(lp, bank);
      if ((status & MCI_STATUS.VAL) === 0n) continue;
      if (wanted === "unsignaled" && isSignaled(status, reading.ser)) continue;
      const record = readAuxiliary(lp, recordOfStatus(base, bank, status), reading);
      const conditions = { context: "kernel", exception: false, ser: reading.ser } as const;
      const row = gradeRecord(record, { ...conditions, skylakeX: this.#config.skylakeX ?? false });
      this.add(record, row, "poll");
      logged.push(record);
      this.#emit(record, row);
      lp.writeMsr(bankMsr(bank, MCI.STATUS), 0n);
    }
    return logged;
  }

  #emit(record: MachineCheckRecord, row: SeverityRow): void {
    this.#config.events.emit("mce", "machine-check-poll", record.lp, null, {
      bank: record.bank,
      status: record.status,
      addr: record.rawAddr,
      misc: record.misc,
      severity: severityName(row.severity),
      row: row.row,
      name: row.name,
    });
  }
}

/** Left to the #MC handler: uncorrected, enabled and, where the processor tells, signaled. */
function isSignaled(status: bigint, ser: boolean): boolean {
  if ((status & MCI_STATUS.UC) === 0n || (status & MCI_STATUS.EN) === 0n) return false;
  return !ser || (status & MCI_STATUS.S) !== 0n;
}
