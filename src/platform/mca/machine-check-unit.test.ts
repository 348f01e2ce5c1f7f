import { describe, expect, it } from "vitest";
import { BANK, MCI_CTL2, MCI_STATUS } from "../../arch/mca.js";
import { MSR, X2APIC_MSR } from "../../arch/msr.js";
import { ProcessorFault } from "../faults.js";
import { testMachine } from "../testing.js";
import { McaBank } from "./bank.js";
import { MachineCheckUnit, packageBanks } from "./machine-check-unit.js";

const OS = { inSmm: false };
const SMM = { inSmm: true };
const unit = (lmce = true, featureControl = 0x100001n): MachineCheckUnit =>
  new MachineCheckUnit({ lmce, seamNr: true }, packageBanks(), () => featureControl);

describe("overwrite rules (smi-mca facts 3.2)", () => {
  const corrected = { status: MCI_STATUS.VAL | (1n << 38n) | 0x90n, addr: 1n, misc: 1n };
  const recoverable = { status: 0xbd80_0000_0000_0134n, addr: 2n, misc: 2n };
  const fatal = { status: 0xbe00_0000_0000_0135n, addr: 3n, misc: 3n };
  const rows = [
    ["fatal over recoverable", recoverable, fatal, 3n],
    ["fatal over corrected", corrected, fatal, 3n],
    ["recoverable over corrected", corrected, recoverable, 2n],
    ["recoverable stays against recoverable", recoverable, { ...recoverable, addr: 9n }, 2n],
    ["recoverable stays against corrected", recoverable, corrected, 2n],
    ["fatal stays against recoverable", fatal, recoverable, 3n],
    ["fatal stays against fatal", fatal, { ...fatal, addr: 9n }, 3n],
    ["corrected stays against corrected", corrected, { ...corrected, addr: 9n }, 1n],
  ] as const;
  it.each(rows)("%s", (_name, first, second, addr) => {
    const bank = new McaBank();
    bank.log(first);
    expect(bank.status & MCI_STATUS.OVER).toBe(0n);
    bank.log(second);
    expect(bank.addr).toBe(addr);
    expect(bank.status & MCI_STATUS.OVER).toBe(MCI_STATUS.OVER);
    const sticky = MCI_STATUS.S | MCI_STATUS.AR;
    expect(bank.status & sticky).toBe((first.status | second.status) & sticky);
  });

  it("corrected errors are counted", () => {
    const bank = new McaBank();
    for (let i = 0; i < 3; i++) bank.log(corrected);
    expect(bank.correctedCount).toBe(3n);
    bank.log(recoverable);
    expect(bank.correctedCount).toBe(0n);
  });
});

describe("registers (3.1, 2.2)", () => {
  it("MCG_CAP is the sheet's value, less what is off, and read only", () => {
    expect(unit().read(MSR.IA32_MCG_CAP, OS)).toBe(0x0f001c15n);
    expect(unit(false).read(MSR.IA32_MCG_CAP, OS)).toBe(0x07001c15n);
    expect(() => unit().write(MSR.IA32_MCG_CAP, 0n, SMM)).toThrow(ProcessorFault);
  });

  it("status registers take only zero from the operating system, anything from SMM", () => {
    const mca = unit();
    for (const index of [MSR.IA32_MCG_STATUS, 0x405, 0x406, 0x407]) {
      expect(() => mca.write(index, 1n, OS)).toThrow(ProcessorFault);
      mca.write(index, 5n, SMM);
      expect(mca.read(index, OS)).toBe(5n);
      mca.write(index, 0n, OS);
      expect(mca.read(index, OS)).toBe(0n);
    }
  });

  it("MCG_CTL and banks beyond the last do not exist", () => {
    for (const index of [MSR.IA32_MCG_CTL, 0x400 + 4 * BANK.COUNT, 0x280 + BANK.COUNT]) {
      expect(() => unit().read(index, SMM)).toThrow(ProcessorFault);
    }
    expect(unit().read(0x400 + 4 * (BANK.COUNT - 1), OS)).toBe(0xffff_ffff_ffff_ffffn);
  });

  it("MCG_EXT_CTL needs LMCE_P and FEATURE_CONTROL", () => {
    const mca = unit();
    mca.write(MSR.IA32_MCG_EXT_CTL, 1n, OS);
    expect(mca.lmceEnabled).toBe(true);
    expect(() => mca.write(MSR.IA32_MCG_EXT_CTL, 2n, OS)).toThrow(ProcessorFault);
    expect(() => unit(false).read(MSR.IA32_MCG_EXT_CTL, OS)).toThrow(ProcessorFault);
    expect(() => unit(true, 1n).read(MSR.IA32_MCG_EXT_CTL, OS)).toThrow(ProcessorFault);
  });

  it("firmware's bits of CTL2 survive read-modify-write, and only SMM changes them", () => {
    const mca = unit();
    const index = MSR.IA32_MC0_CTL2 + 1;
    mca.write(index, MCI_CTL2.MSMI_EN, SMM);
    mca.write(index, mca.read(index, OS) | MCI_CTL2.CMCI_EN | 1n, OS);
    expect(mca.read(index, OS)).toBe(MCI_CTL2.MSMI_EN | MCI_CTL2.CMCI_EN | 1n);
    expect(() => mca.write(index, MCI_CTL2.CMCI_EN, OS)).toThrow(ProcessorFault);
    expect(() => mca.write(index, MCI_CTL2.MSMI_EN | MCI_CTL2.CSMI_EN, OS)).toThrow(ProcessorFault);
    expect(() => mca.write(index, MCI_CTL2.MSMI_EN | (1n << 20n), OS)).toThrow(ProcessorFault);
  });

  it("SMM_MCA_CONTROL exists in SMM only and hides what it says from everybody else", () => {
    const mca = unit();
    expect(() => mca.read(MSR.SMM_MCA_CONTROL, OS)).toThrow(ProcessorFault);
    expect(() => mca.write(MSR.SMM_MCA_CONTROL, 1n, OS)).toThrow(ProcessorFault);
    mca.bank(BANK.IMC).log({ status: MCI_STATUS.VAL | 0x90n, addr: 0n, misc: 0n });
    mca.bank(BANK.DCU).log({ status: 0xbd80_0000_0000_0134n, addr: 0n, misc: 0n });
    const status = (bank: number, who: { inSmm: boolean }): bigint => mca.read(0x401 + 4 * bank, who);
    mca.write(MSR.SMM_MCA_CONTROL, 1n, SMM);
    expect([status(BANK.IMC, OS), status(BANK.DCU, OS) !== 0n, status(BANK.IMC, SMM) !== 0n]).toEqual([0n, true, true]);
    mca.write(MSR.SMM_MCA_CONTROL, 2n, SMM);
    expect([status(BANK.IMC, OS) !== 0n, status(BANK.DCU, OS)]).toEqual([true, 0n]);
  });

  it("memory controllers belong to the package, core banks to the processor", () => {
    const { platform } = testMachine({ logicalProcessors: 4, packages: 2 });
    const [a, b, c] = platform.lps;
    a?.machineCheckUnit.bank(BANK.IMC).log({ status: 1n, addr: 0n, misc: 0n });
    a?.machineCheckUnit.bank(BANK.DCU).log({ status: 1n, addr: 0n, misc: 0n });
    const valid = (lp: typeof a, bank: number): boolean | undefined => lp?.machineCheckUnit.bank(bank).valid;
    expect([valid(b, BANK.IMC), valid(b, BANK.DCU), valid(c, BANK.IMC)]).toEqual([true, false, false]);
  });
});

describe("corrected errors (6.3)", () => {
  it("C1: CSMI is a plain SMI", () => {
    const { platform, lp, log } = testMachine();
    platform.correctedError(0x5040);
    expect(lp.smiCount).toBe(1);
    expect(log[1]).toMatchObject({ event: "smi-latched", fields: { msmi: false } });
    expect(lp.machineCheckUnit.bank(BANK.IMC)).toMatchObject({ status: 0x9c00_0040_0000_0090n, addr: 0x5040n });
  });

  it("C2: without CSMI it is CMCI, as LVT and threshold say", () => {
    const { platform, lp } = testMachine({ csmi: false });
    const vectors: number[] = [];
    lp.hostIdt = { machineCheck: () => undefined, nmi: () => undefined, interrupt: (vector) => vectors.push(vector) };
    lp.hostInterruptFlag = true;
    platform.correctedError(0x5040);
    lp.writeMsr(X2APIC_MSR.LVT_CMCI, 0xf9n);
    lp.writeMsr(MSR.IA32_MC0_CTL2 + BANK.IMC, lp.readMsr(MSR.IA32_MC0_CTL2 + BANK.IMC) | MCI_CTL2.CMCI_EN | 3n);
    platform.correctedError(0x5040);
    expect(vectors).toEqual([]);
    platform.correctedError(0x5040);
    expect(vectors).toEqual([0xf9]);
  });
});
