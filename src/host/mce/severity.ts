import { MCACOD, MCG_STATUS, MCI_STATUS, MSCOD } from "../../arch/mca.js";
import type { MachineCheckRecord } from "./record.js";

/** Severities from harmless to fatal (Linux mce/internal.h, enum severity_level). */
export const SEVERITY = {
  /** No error. */
  NO: 0,
  /** Uncorrected, no action required: left for polling. */
  UCNA: 1,
  /** Not this event's business: the bank stays as it is. */
  KEEP: 2,
  SOME: 3,
  /** Action optional. */
  AO: 4,
  UC: 5,
  /** Action required. */
  AR: 6,
  PANIC: 7,
} as const;
export type Severity = (typeof SEVERITY)[keyof typeof SEVERITY];

const SEVERITY_NAMES = Object.fromEntries(Object.entries(SEVERITY).map(([name, value]) => [value, name]));
export const severityName = (severity: Severity): string => SEVERITY_NAMES[severity] ?? String(severity);

/** What the #MC interrupted, as far as the saved CS and IP tell. */
export type ErrorContext = "user" | "kernel" | "kernel-recoverable";

/** What a record is graded by, beside its own fields. */
export interface GradingConditions {
  readonly context: ErrorContext;
  /** True in the #MC handler, false when polling. */
  readonly exception: boolean;
  /** MCG_CAP.SER_P. */
  readonly ser: boolean;
  /** Skylake-X of stepping 4 or more. */
  readonly skylakeX: boolean;
}

/** One row of the table. What a row does not name does not matter to it. */
export interface SeverityRow {
  /** Number in the table of smi-mca facts 3.5. */
  readonly row: number;
  readonly name: string;
  readonly severity: Severity;
  /** MCi_STATUS under `mask` equals `value`. */
  readonly mask?: bigint;
  readonly value?: bigint;
  /** MCG_STATUS under `mcgMask` equals `mcgValue`. */
  readonly mcgMask?: bigint;
  readonly mcgValue?: bigint;
  readonly context?: ErrorContext;
  /** Only in the #MC handler. */
  readonly exception?: true;
  readonly ser?: boolean;
  readonly skylakeX?: true;
  readonly banks?: readonly [first: number, last: number];
}

const { VAL, OVER, UC, EN, MISCV, ADDRV, PCC, S, AR, MCACOD: CODE } = MCI_STATUS;
const { RIPV, EIPV, MCIP, SEAM_NR } = MCG_STATUS;
const ADDRESS = ADDRV | MISCV;
/** Software recoverable, action required, with an address: the bits that such rows look at, and how they stand. */
const SRAR_MASK = OVER | UC | S | AR | ADDRESS;
const SRAR = UC | S | AR | ADDRESS;
/** Scrub codes are told apart by all but the channel. */
const CODE_WITHOUT_CHANNEL = CODE & ~0xfn;

/**
 * The first row that matches decides (smi-mca facts 3.5; Linux 6.16 mce/severity.c). Rows 6 and 7 are for the #MC handler
 * alone: outside of it RIPV says nothing.
 */
export const SEVERITY_TABLE: readonly SeverityRow[] = [
  { row: 1, name: "no error in the bank", severity: SEVERITY.NO, mask: VAL, value: 0n },
  { row: 2, name: "error reporting is not enabled", severity: SEVERITY.NO, mask: EN, value: 0n, exception: true },
  { row: 3, name: "processor context is corrupt", severity: SEVERITY.PANIC, mask: PCC, value: PCC },
  {
    row: 4,
    name: "machine check without MCIP",
    severity: SEVERITY.PANIC,
    mcgMask: MCIP,
    mcgValue: 0n,
    exception: true,
  },
  {
    row: 5,
    name: "neither restart nor error IP is valid",
    severity: SEVERITY.PANIC,
    mcgMask: RIPV | EIPV,
    mcgValue: 0n,
    exception: true,
  },
  {
    row: 6,
    name: "kernel cannot be restarted",
    severity: SEVERITY.PANIC,
    mcgMask: RIPV,
    mcgValue: 0n,
    context: "kernel",
    exception: true,
  },
  {
    row: 7,
    name: "kernel with a fix-up cannot be restarted",
    severity: SEVERITY.PANIC,
    mcgMask: RIPV,
    mcgValue: 0n,
    context: "kernel-recoverable",
    exception: true,
  },
  { row: 8, name: "corrected error", severity: SEVERITY.KEEP, mask: UC, value: 0n, ser: false },
  {
    row: 9,
    name: "memory scrubbing found an error, action optional",
    severity: SEVERITY.AO,
    mask: UC | AR | CODE_WITHOUT_CHANNEL,
    value: UC | MCACOD.MEMORY_SCRUB,
    ser: true,
  },
  {
    row: 10,
    name: "last-level cache write-back found an error, action optional",
    severity: SEVERITY.AO,
    mask: UC | AR | CODE,
    value: UC | MCACOD.L3_EXPLICIT_WRITEBACK,
    ser: true,
  },
  {
    row: 11,
    name: "Skylake-X: scrubbing reports an uncorrected error as corrected",
    severity: SEVERITY.AO,
    mask: ADDRESS | UC | MCI_STATUS.MSCOD | CODE_WITHOUT_CHANNEL,
    value: ADDRESS | (MSCOD.SKYLAKE_X_SCRUB << MCI_STATUS.MSCOD_SHIFT) | MCACOD.MEMORY_SCRUB,
    skylakeX: true,
    banks: [13, 18],
  },
  {
    row: 12,
    name: "uncorrected, no action required",
    severity: SEVERITY.UCNA,
    mask: UC | S | AR,
    value: UC,
    ser: true,
  },
  {
    row: 13,
    name: "action required but not signaled: no such state",
    severity: SEVERITY.PANIC,
    mask: OVER | UC | S | AR,
    value: UC | AR,
    ser: true,
  },
  { row: 14, name: "not signaled", severity: SEVERITY.KEEP, mask: S, value: 0n, ser: true },
  {
    row: 15,
    name: "action required, and an earlier error is lost",
    severity: SEVERITY.PANIC,
    mask: OVER | UC | S | AR,
    value: OVER | UC | S | AR,
    ser: true,
  },
  {
    row: 16,
    name: "action required by another thread's error",
    severity: SEVERITY.KEEP,
    mask: SRAR_MASK,
    value: SRAR,
    mcgMask: RIPV | EIPV,
    mcgValue: RIPV,
    ser: true,
  },
  {
    row: 17,
    name: "data load in kernel code with a fix-up",
    severity: SEVERITY.AR,
    mask: SRAR_MASK | CODE,
    value: SRAR | MCACOD.DATA_LOAD,
    context: "kernel-recoverable",
    ser: true,
  },
  {
    row: 18,
    name: "data load of a user process",
    severity: SEVERITY.AR,
    mask: SRAR_MASK | CODE,
    value: SRAR | MCACOD.DATA_LOAD,
    context: "user",
    ser: true,
  },
  {
    row: 19,
    name: "instruction fetch of a user process",
    severity: SEVERITY.AR,
    mask: SRAR_MASK | CODE,
    value: SRAR | MCACOD.INSTRUCTION_FETCH,
    context: "user",
    ser: true,
  },
  {
    row: 20,
    name: "data load in SEAM non-root mode",
    severity: SEVERITY.AR,
    mask: SRAR_MASK | CODE,
    value: SRAR | MCACOD.DATA_LOAD,
    mcgMask: SEAM_NR,
    mcgValue: SEAM_NR,
    context: "kernel",
    ser: true,
  },
  {
    row: 21,
    name: "instruction fetch in SEAM non-root mode",
    severity: SEVERITY.AR,
    mask: SRAR_MASK | CODE,
    value: SRAR | MCACOD.INSTRUCTION_FETCH,
    mcgMask: SEAM_NR,
    mcgValue: SEAM_NR,
    context: "kernel",
    ser: true,
  },
  {
    row: 22,
    name: "data load in kernel code that cannot do without it",
    severity: SEVERITY.PANIC,
    mask: SRAR_MASK | CODE,
    value: SRAR | MCACOD.DATA_LOAD,
    context: "kernel",
    ser: true,
  },
  {
    row: 23,
    name: "instruction fetch in kernel code",
    severity: SEVERITY.PANIC,
    mask: SRAR_MASK | CODE,
    value: SRAR | MCACOD.INSTRUCTION_FETCH,
    context: "kernel",
    ser: true,
  },
  {
    row: 24,
    name: "action required for an unknown error code",
    severity: SEVERITY.PANIC,
    mask: OVER | UC | S | AR,
    value: UC | S | AR,
    ser: true,
  },
  {
    row: 25,
    name: "action optional for an unknown error code",
    severity: SEVERITY.SOME,
    mask: OVER | UC | S | AR,
    value: UC | S,
    ser: true,
  },
  {
    row: 26,
    name: "action optional, and an earlier error is lost",
    severity: SEVERITY.SOME,
    mask: OVER | UC | S | AR,
    value: OVER | UC | S,
    ser: true,
  },
  {
    row: 27,
    name: "uncorrected, and an earlier error is lost",
    severity: SEVERITY.PANIC,
    mask: OVER | UC,
    value: OVER | UC,
  },
  { row: 28, name: "uncorrected in kernel code", severity: SEVERITY.PANIC, mask: UC, value: UC, context: "kernel" },
  { row: 29, name: "uncorrected", severity: SEVERITY.UC, mask: UC, value: UC },
  { row: 30, name: "some other error", severity: SEVERITY.SOME },
];

function matches(row: SeverityRow, record: MachineCheckRecord, conditions: GradingConditions): boolean {
  if (row.mask !== undefined && (record.status & row.mask) !== row.value) return false;
  if (row.mcgMask !== undefined && (record.mcgStatus & row.mcgMask) !== row.mcgValue) return false;
  if (row.context !== undefined && row.context !== conditions.context) return false;
  if (row.exception === true && !conditions.exception) return false;
  if (row.ser !== undefined && row.ser !== conditions.ser) return false;
  if (row.skylakeX === true && !conditions.skylakeX) return false;
  return row.banks === undefined || (record.bank >= row.banks[0] && record.bank <= row.banks[1]);
}

/** The row that decides about a record. */
export function gradeRecord(record: MachineCheckRecord, conditions: GradingConditions): SeverityRow {
  const row = SEVERITY_TABLE.find((candidate) => matches(candidate, record, conditions));
  if (row === undefined) throw new Error("severity table: the last row matches everything");
  return row;
}

/** The row of a number. */
export function severityRow(number: number): SeverityRow {
  const row = SEVERITY_TABLE[number - 1];
  if (row === undefined) throw new RangeError(`severity table: no row ${number}`);
  return row;
}
