import { describe, expect, it } from "vitest";
import { MSR } from "../arch/msr.js";
import { ProcessorFault } from "./faults.js";
import { testMachine } from "./testing.js";

const processor = () => testMachine({ hostMemoryBytes: 0x8000000, logicalProcessors: 2 });

describe("what TDH.SYS.INIT looks for (tdx-module facts 2.3, smi-mca facts 1.3)", () => {
  it("TME is locked, enabled, AES-XTS, and divides its KeyIDs", () => {
    const { platform, lp } = processor();
    const activate = lp.readMsr(MSR.IA32_TME_ACTIVATE);
    expect(activate & 3n).toBe(3n);
    expect((activate >> 4n) & 15n).toBe(0n);
    expect((activate >> 32n) & 15n).toBe(6n);
    expect((activate >> 36n) & 15n).toBe(1n);
    expect(lp.readMsr(MSR.IA32_MKTME_KEYID_PARTITIONING)).toBe((32n << 32n) | 31n);
    expect(platform.topology).toMatchObject({ firstPrivateKeyId: 32, keyIdCount: 64, keyIdShift: 46 });
  });

  it("SMRR is there, locked, aligned and outside every CMR", () => {
    const { platform, lp } = processor();
    expect(lp.readMsr(MSR.IA32_MTRRCAP) & 0x4800n).toBe(0x4800n);
    const mask = lp.readMsr(MSR.IA32_SMRR_PHYSMASK);
    expect(mask & 0xc00n).toBe(0xc00n);
    const base = Number(lp.readMsr(MSR.IA32_SMRR_PHYSBASE) & ~0xfffn);
    const size = Number((1n << 52n) - (mask & ~0xfffn));
    expect(base % size).toBe(0);
    expect(platform.memoryMap.smram).toEqual({ base, size });
    for (const cmr of platform.topology.cmrs) expect(cmr.base >= base + size || cmr.base + cmr.size <= base).toBe(true);
    expect(() => lp.writeMsr(MSR.IA32_SMRR_PHYSBASE, 0n)).toThrow(ProcessorFault);
  });

  it("CPUID is not capped, x2APIC is on and locked, TSC_ADJUST is zero", () => {
    const { platform, lp } = processor();
    expect(lp.readMsr(MSR.IA32_MISC_ENABLE) & (1n << 22n)).toBe(0n);
    expect(lp.readMsr(MSR.IA32_ARCH_CAPABILITIES) & (1n << 21n)).toBe(1n << 21n);
    expect(lp.readMsr(MSR.IA32_XAPIC_DISABLE_STATUS)).toBe(1n);
    expect(lp.readMsr(MSR.IA32_APIC_BASE)).toBe(0xfee00d00n);
    expect(platform.lps[1]?.readMsr(MSR.IA32_APIC_BASE)).toBe(0xfee00c00n);
    expect(lp.readMsr(MSR.IA32_TSC_ADJUST)).toBe(0n);
  });
});

describe("RDMSR and WRMSR", () => {
  it("what does not exist, or only elsewhere, is #GP", () => {
    const { lp } = processor();
    for (const index of [0x9999, MSR.IA32_INTR_PENDING, MSR.IA32_SMBASE, MSR.SMM_MCA_CONTROL, MSR.IA32_PRED_CMD]) {
      expect(() => lp.readMsr(index)).toThrow(ProcessorFault);
    }
    expect(() => lp.writeMsr(0x9999, 0n)).toThrow(ProcessorFault);
    expect(() => lp.writeMsr(MSR.IA32_TME_ACTIVATE, 0n)).toThrow(ProcessorFault);
    lp.writeMsr(MSR.IA32_PRED_CMD, 1n);
  });

  it("SMBASE is readable in SMM", () => {
    const { platform, lp } = processor();
    platform.smi.handler = { smi: ([it]) => expect(it?.readMsr(MSR.IA32_SMBASE)).toBe(BigInt(lp.smbase)) };
    lp.raise("smi");
    expect(lp.smiCount).toBe(1);
  });

  it("stored registers keep what is written, 64 bits", () => {
    const { lp } = processor();
    lp.writeMsr(MSR.IA32_LSTAR, -1n);
    expect(lp.readMsr(MSR.IA32_LSTAR)).toBe(0xffff_ffff_ffff_ffffn);
  });

  it("the TSC is the clock, at 1 GHz", () => {
    const { platform, lp } = processor();
    platform.clock.advance(1234);
    expect(lp.readMsr(MSR.IA32_TIME_STAMP_COUNTER)).toBe(1234n);
  });
});
