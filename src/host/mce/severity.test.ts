import { describe, expect, it } from "vitest";
import { MCG_STATUS, MCI_STATUS } from "../../arch/mca.js";
import type { MachineCheckRecord } from "./record.js";
import { type GradingConditions, gradeRecord, type SEVERITY, SEVERITY_TABLE, severityName } from "./severity.js";
import { DCU_SRAR, IFU_SRAR } from "./testing.js";

const { VAL, OVER, UC, EN, MISCV, ADDRV, PCC, S, AR } = MCI_STATUS;
const { RIPV, EIPV, MCIP, SEAM_NR } = MCG_STATUS;
const FULL = RIPV | EIPV | MCIP;

interface Case extends Partial<GradingConditions> {
  readonly row: number;
  readonly severity: keyof typeof SEVERITY;
  readonly status: bigint;
  readonly mcg?: bigint;
  readonly bank?: number;
}

function grade({ status, mcg = FULL, bank = 1, ...conditions }: Omit<Case, "row" | "severity">) {
  const record: MachineCheckRecord = {
    lp: 0,
    bank,
    status,
    addr: 0n,
    rawAddr: 0n,
    misc: 0n,
    mcgStatus: mcg,
    cs: 0,
    ip: 0n,
  };
  return gradeRecord(record, { context: "user", exception: true, ser: true, skylakeX: false, ...conditions });
}

/** One case or more that reaches each row, past all rows before it. */
const CASES: readonly Case[] = [
  { row: 1, severity: "NO", status: 0n, mcg: 0n },
  { row: 1, severity: "NO", status: DCU_SRAR & ~VAL },
  { row: 2, severity: "NO", status: VAL | UC | PCC },
  { row: 3, severity: "PANIC", status: DCU_SRAR | PCC },
  { row: 3, severity: "PANIC", status: VAL | PCC, mcg: 0n, exception: false },
  { row: 4, severity: "PANIC", status: DCU_SRAR, mcg: RIPV | EIPV },
  { row: 5, severity: "PANIC", status: DCU_SRAR, mcg: MCIP },
  { row: 6, severity: "PANIC", status: DCU_SRAR, mcg: EIPV | MCIP | SEAM_NR, context: "kernel" },
  { row: 7, severity: "PANIC", status: DCU_SRAR, mcg: EIPV | MCIP, context: "kernel-recoverable" },
  { row: 8, severity: "KEEP", status: VAL | EN, ser: false },
  { row: 9, severity: "AO", status: VAL | EN | UC | S | 0xc0n },
  { row: 9, severity: "AO", status: VAL | EN | UC | 0xcfn },
  { row: 10, severity: "AO", status: VAL | EN | UC | S | 0x17an },
  { row: 11, severity: "AO", status: VAL | EN | ADDRV | MISCV | 0x0010_00c3n, bank: 13, skylakeX: true },
  { row: 11, severity: "AO", status: VAL | EN | ADDRV | MISCV | 0x0010_00c3n, bank: 18, skylakeX: true },
  { row: 12, severity: "UCNA", status: 0xbc000000082a0090n, bank: 13 },
  { row: 12, severity: "UCNA", status: 0xbc000000082a0090n, mcg: 0n, exception: false, context: "kernel" },
  { row: 13, severity: "PANIC", status: VAL | EN | UC | AR },
  { row: 14, severity: "KEEP", status: VAL | EN | ADDRV },
  { row: 14, severity: "KEEP", status: VAL | EN | ADDRV | MISCV | 0x0010_00c3n, bank: 12, skylakeX: true },
  { row: 15, severity: "PANIC", status: DCU_SRAR | OVER },
  { row: 16, severity: "KEEP", status: DCU_SRAR, mcg: RIPV | MCIP },
  { row: 16, severity: "KEEP", status: IFU_SRAR, mcg: RIPV | MCIP | SEAM_NR, context: "kernel" },
  { row: 17, severity: "AR", status: DCU_SRAR, context: "kernel-recoverable" },
  { row: 18, severity: "AR", status: DCU_SRAR },
  { row: 18, severity: "AR", status: DCU_SRAR, mcg: FULL | SEAM_NR },
  { row: 19, severity: "AR", status: IFU_SRAR },
  { row: 20, severity: "AR", status: DCU_SRAR, mcg: FULL | SEAM_NR, context: "kernel" },
  { row: 21, severity: "AR", status: IFU_SRAR, mcg: FULL | SEAM_NR, context: "kernel" },
  { row: 22, severity: "PANIC", status: DCU_SRAR, context: "kernel" },
  { row: 23, severity: "PANIC", status: IFU_SRAR, context: "kernel" },
  { row: 24, severity: "PANIC", status: VAL | EN | UC | S | AR | ADDRV | MISCV | 0x151n },
  { row: 24, severity: "PANIC", status: IFU_SRAR, context: "kernel-recoverable" },
  { row: 25, severity: "SOME", status: VAL | EN | UC | S | 0x90n },
  { row: 26, severity: "SOME", status: VAL | EN | UC | S | OVER | 0x90n },
  { row: 27, severity: "PANIC", status: VAL | EN | UC | OVER, ser: false },
  { row: 28, severity: "PANIC", status: VAL | EN | UC, ser: false, context: "kernel" },
  { row: 29, severity: "UC", status: VAL | EN | UC, ser: false },
  { row: 30, severity: "SOME", status: VAL | EN | S },
];

describe("severity table", () => {
  it("is numbered in order, each row with a name of its own", () => {
    expect(SEVERITY_TABLE.map((row) => row.row)).toEqual(Array.from({ length: 30 }, (_, i) => i + 1));
    expect(new Set(SEVERITY_TABLE.map((row) => row.name)).size).toBe(30);
  });

  it("has a case for every row", () => {
    expect(new Set(CASES.map((test) => test.row))).toEqual(new Set(SEVERITY_TABLE.map((row) => row.row)));
  });

  it.each(CASES)("row $row: $severity", ({ row, severity, ...test }) => {
    const decided = grade(test);
    expect({ row: decided.row, severity: severityName(decided.severity) }).toEqual({ row, severity });
  });

  it("has no mask that its value exceeds", () => {
    for (const { row, mask, value, mcgMask, mcgValue } of SEVERITY_TABLE) {
      expect((value ?? 0n) & ~(mask ?? 0n), `row ${row}`).toBe(0n);
      expect((mcgValue ?? 0n) & ~(mcgMask ?? 0n), `row ${row}`).toBe(0n);
    }
  });
});

/** The truth table of smi-mca facts 3.5: a TD's error, delivered as #MC in the host kernel. */
describe("a TD's error in kernel context", () => {
  const seam = FULL | SEAM_NR;
  it.each([
    { what: "data load", status: DCU_SRAR, mcg: seam, severity: "AR", row: 20 },
    { what: "instruction fetch", status: IFU_SRAR, mcg: seam, severity: "AR", row: 21 },
    { what: "EIPV=0", status: DCU_SRAR, mcg: seam & ~EIPV, severity: "KEEP", row: 16 },
    { what: "RIPV=0", status: DCU_SRAR, mcg: seam & ~RIPV, severity: "PANIC", row: 6 },
    { what: "MCIP=0", status: DCU_SRAR, mcg: seam & ~MCIP, severity: "PANIC", row: 4 },
    { what: "OVER=1", status: DCU_SRAR | OVER, mcg: seam, severity: "PANIC", row: 15 },
    { what: "PCC=1", status: DCU_SRAR | PCC, mcg: seam, severity: "PANIC", row: 3 },
    { what: "another MCACOD", status: (DCU_SRAR & ~0xffffn) | 0x135n, mcg: seam, severity: "PANIC", row: 24 },
    { what: "SEAM_NR=0, load", status: DCU_SRAR, mcg: FULL, severity: "PANIC", row: 22 },
    { what: "SEAM_NR=0, fetch", status: IFU_SRAR, mcg: FULL, severity: "PANIC", row: 23 },
    { what: "ADDRV=0", status: DCU_SRAR & ~ADDRV, mcg: seam, severity: "PANIC", row: 24 },
    { what: "MISCV=0", status: IFU_SRAR & ~MISCV, mcg: seam, severity: "PANIC", row: 24 },
  ])("$what: $severity", ({ status, mcg, severity, row }) => {
    const decided = grade({ status, mcg, context: "kernel" });
    expect({ row: decided.row, severity: severityName(decided.severity) }).toEqual({ row, severity });
  });
});
