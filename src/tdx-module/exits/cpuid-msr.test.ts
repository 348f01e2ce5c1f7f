import { describe, expect, it } from "vitest";
import { MSR } from "../../arch/msr.js";
import { TD_FIELD } from "../../arch/tdx-metadata.js";
import { MSR_BITMAP_RANGES } from "../../arch/tdx-msr.js";
import { REG } from "../../cpu/layout.js";
import { GPR } from "../../platform/seam.js";
import { enterLongMode, TestHost, type TestTd } from "../testing.js";

const INTERRUPT = { reason: 1, interruptionInfo: 0x800000f2 };
const VE = 0x80000314;
const GP = 0x80000b0d;

const start = (params = {}, vcpus = 1): TestTd => new TestHost().bringUp().runnableTd(params, vcpus);

interface Result {
  readonly injected: number | undefined;
  readonly registers: readonly number[];
}

/** One CPUID, RDMSR or WRMSR; RAX, RBX, RCX, RDX after it, and the exception if there was one. */
function execute(td: TestTd, reason: number, rax: number, rcx: number, rdx = 0, vcpu = 0): Result {
  const { lp } = td.host;
  lp.injected.length = 0;
  let registers: number[] = [];
  td.enter(
    [
      ({ guest }) => {
        enterLongMode(guest);
        guest.state.setGpr(GPR.RAX, BigInt(rax));
        guest.state.setGpr(GPR.RCX, BigInt(rcx));
        guest.state.setGpr(GPR.RDX, BigInt(rdx));
        return { reason, instructionLength: 2 };
      },
      ({ guest: { state } }) => {
        registers = [GPR.RAX, GPR.RBX, GPR.RCX, GPR.RDX].map((r) => Number(state.gpr(r)));
        return INTERRUPT;
      },
    ],
    {},
    vcpu,
  );
  // The guest reads VE_INFO, so that the next #VE is one.
  if (lp.injected[0] === VE) td.tdcall(3, {}, vcpu);
  return { injected: lp.injected[0], registers };
}
const cpuid = (td: TestTd, leaf: number, subleaf = 0, vcpu = 0): Result => execute(td, 10, leaf, subleaf, 0, vcpu);
const rdmsr = (td: TestTd, msr: number): Result => execute(td, 31, 0, msr);
const wrmsr = (td: TestTd, msr: number, value: number): Result =>
  execute(td, 32, value % 2 ** 32, msr, Math.floor(value / 2 ** 32));

describe("CPUID", () => {
  it.each([
    [0x2, 0],
    [0x9, 0],
    [0xb, 0],
    [0xf, 0],
    [0x10, 0],
    [0x16, 0],
    [0x1a, 0],
    [0x1f, 0],
    [0x4, 5],
    [0x7, 3],
    [0x21, 1],
    [0x24, 4],
    [0x40000000, 0],
    [0x4fffffff, 0],
    [0x80000002, 0],
    [0x80000006, 0],
    [0x80000009, 7],
  ])("leaf %i.%i is #VE", (leaf, subleaf) => {
    expect(cpuid(start(), leaf, subleaf).injected).toBe(VE);
  });

  it.each([
    [0x3, 0],
    [0x8, 0],
    [0xa, 0],
    [0xe, 0],
    [0x11, 0],
    [0x12, 5],
    [0x14, 0],
    [0x19, 0],
    [0x1d, 1],
    [0x20, 0],
    [0x22, 0],
    [0x23, 0],
    [0x24, 0],
    [0x50000000, 3],
    [0x5, 0],
  ])("leaf %i.%i is zero", (leaf, subleaf) => {
    expect(cpuid(start(), leaf, subleaf)).toEqual({ injected: undefined, registers: [0, 0, 0, 0] });
  });

  it("shows the smallest TD processor", () => {
    const td = start({}, 2);
    expect(cpuid(td, 0).registers).toEqual([0x23, 0x756e6547, 0x6c65746e, 0x49656e69]);
    const [eax, ebx, ecx, edx] = cpuid(td, 1, 0, 1).registers as [number, number, number, number];
    expect(eax).toBe(0x806f8);
    expect(ebx).toBe(0x01000800);
    // TSC deadline was not configured; HYPERVISOR is forced; OSXSAVE follows CR4.
    expect(ecx >>> 0).toBe(0xc6faa217);
    expect(edx >>> 0).toBe(0x1fa9fbff & ~0xb8440000);
    expect(cpuid(td, 0x21).registers).toEqual([0, 0x65746e49, 0x20202020, 0x5844546c]);
    expect(cpuid(td, 0x15).registers).toEqual([1, 40, 25_000_000, 0]);
    expect(cpuid(td, 6).registers).toEqual([4, 0, 0, 0]);
    expect(cpuid(td, 0x80000000).registers[0]).toBe(0x80000008);
    expect(cpuid(td, 0x80000001).registers).toEqual([0, 0, 0x121, 0x2c100800]);
    expect(cpuid(td, 0x80000007).registers[3]).toBe(0x100);
    expect(cpuid(td, 0x80000008).registers[0]).toBe(0x3034);
    expect(cpuid(td, 0xd).registers).toEqual([3, 576, 576, 0]);
    expect(cpuid(td, 0xd, 1).registers).toEqual([0xf, 576, 0, 0]);
  });

  it("follows TD_PARAMS and CR4", () => {
    const config = new Array<number>(48).fill(0);
    config[1] = 0x00020000;
    config[2] = 1 << 24;
    config[5 * 4 + 1] = 1 << 9;
    const td = start({ cpuid: config });
    td.enter([
      ({ guest: { state } }) => {
        state.set(REG.CR4, state.get(REG.CR4) | (1n << 18n));
        return INTERRUPT;
      },
    ]);
    const [, ebx, ecx] = cpuid(td, 1).registers as [number, number, number];
    expect((ebx >>> 16) & 0xff).toBe(2);
    expect((ecx >>> 24) & 0xf).toBe(0xf);
    expect((cpuid(td, 7).registers[1] as number) & (1 << 9)).toBe(1 << 9);
    expect((cpuid(start(), 7).registers[1] as number) & (1 << 9)).toBe(0);
  });

  it("tells the topology once the guest has asked for it", () => {
    const td = start({ maxVcpus: 4 }, 2);
    expect(td.tdcall(8, { RDX: TD_FIELD.TD_CTLS, R8: 2, R9: 2 }).status).toBe(0n);
    expect(cpuid(td, 0xb, 0, 1).registers).toEqual([0, 1, 0x100, 1]);
    expect(cpuid(td, 0x1f, 1, 1).registers).toEqual([2, 4, 0x201, 1]);
    expect(cpuid(td, 0x1f, 2, 1).registers).toEqual([0, 0, 2, 1]);
    expect(rdmsr(td, 0x802)).toMatchObject({ injected: undefined, registers: [0, expect.anything(), 0x802, 0] });
  });

  it("is #VE at a level where the guest wants it so", () => {
    const td = start();
    td.tdcall(5, { RCX: 1 });
    expect(cpuid(td, 0).injected).toBe(VE);
    td.tdcall(5, { RCX: 2 });
    expect(cpuid(td, 0).injected).toBeUndefined();
  });

  it("hides SYSCALL outside 64-bit mode", () => {
    const td = start();
    let edx = 0;
    td.enter([
      ({ guest: { state } }) => {
        state.setGpr(GPR.RAX, 0x80000001n);
        return { reason: 10, instructionLength: 2 };
      },
      ({ guest: { state } }) => {
        edx = Number(state.gpr(GPR.RDX));
        return INTERRUPT;
      },
    ]);
    expect(edx).toBe(0x2c100000);
  });
});

describe("MSRs", () => {
  it.each([
    ...[0x1b, 0x34, 0x3a, 0x3b, 0x8b, 0xce, 0xcf, 0x179, 0x200, 0x277 + 1, 0x400, 0x2ff].map(
      (msr) => [msr, VE, VE] as const,
    ),
    ...[0x802, 0x803, 0x80d, 0x80f, 0x828, 0x82f, 0x830, 0x832, 0x838, 0x839, 0x83e].map(
      (msr) => [msr, VE, VE] as const,
    ),
    ...[0x800, 0x804, 0x829, 0x831, 0x840, 0x8ff].map((msr) => [msr, GP, GP] as const),
    ...[0x8c, 0x98, 0x9b, 0x9e, 0x195, 0x276, 0x500, 0xd90, 0x122, 0xe1, 0xc1, 0x38f, 0x6a0, 0x6e1].map(
      (msr) => [msr, GP, GP] as const,
    ),
    [0x10, undefined, VE],
    [0x87, GP, GP],
    [0x982, GP, GP],
    [0x6e0, GP, GP],
    [0x1f8, GP, GP],
    [0x481, VE, GP],
    [0x480, undefined, GP],
    [0xc0000083, VE, VE],
    [0x4b564d00, VE, VE],
    [0xc0011029, VE, VE],
    [0x2000, VE, VE],
  ] as const)("0x%s", (msr, read, write) => {
    const td = start();
    if (msr !== 0x10) expect(rdmsr(td, msr).injected).toBe(read);
    expect(wrmsr(td, msr, 1).injected).toBe(write);
  });

  it("TSC deadline is the VMM's when CPUID has it", () => {
    const config = new Array<number>(48).fill(0);
    config[2] = 1 << 24;
    const td = start({ cpuid: config });
    expect(wrmsr(td, 0x6e0, 5).injected).toBe(VE);
  });

  it("computes what it shows", () => {
    const td = start();
    const value = (msr: number): bigint => {
      const { injected, registers } = rdmsr(td, msr);
      expect(injected).toBeUndefined();
      return (BigInt(registers[3] as number) << 32n) | BigInt(registers[0] as number);
    };
    expect(value(MSR.IA32_MISC_ENABLE)).toBe((1n << 12n) | 1n | (1n << 18n));
    expect(value(MSR.IA32_PERF_CAPABILITIES)).toBe(0n);
    expect(value(MSR.IA32_XAPIC_DISABLE_STATUS)).toBe(1n);
    // Native 0x400008b without the TSX bit and without what 1.5 does not know.
    expect(value(MSR.IA32_ARCH_CAPABILITIES)).toBe(0xbn);
    expect(wrmsr(td, MSR.IA32_ARCH_CAPABILITIES, 1).injected).toBe(GP);
  });

  it("lets the guest change SCE in EFER and nothing else", () => {
    const td = start();
    enter(td);
    expect(wrmsr(td, MSR.IA32_EFER, 0xd00).injected).toBeUndefined();
    expect(wrmsr(td, MSR.IA32_EFER, 0xd01).injected).toBeUndefined();
    expect(wrmsr(td, MSR.IA32_EFER, 0x501).injected).toBe(VE);
  });

  const enter = (td: TestTd): void => {
    td.enter([
      ({ guest }) => {
        enterLongMode(guest);
        return INTERRUPT;
      },
    ]);
  };

  it("keeps XSS within XFAM and DEBUGCTL within reason", () => {
    const td = start();
    expect(wrmsr(td, MSR.IA32_XSS, 0).injected).toBeUndefined();
    expect(wrmsr(td, MSR.IA32_XSS, 0x1800).injected).toBe(GP);
    expect(wrmsr(td, MSR.IA32_DEBUGCTL, 0x2002).injected).toBeUndefined();
    expect(rdmsr(td, MSR.IA32_DEBUGCTL).registers[0]).toBe(2);
    expect(wrmsr(td, MSR.IA32_DEBUGCTL, 0x10000).injected).toBe(GP);
    expect(wrmsr(td, MSR.IA32_DEBUGCTL, 0x40).injected).toBe(VE);
  });

  it("have a bitmap that lets native ones through", () => {
    const td = start();
    const { memory } = td.host;
    const native = (msr: number, write: boolean): boolean => {
      const range = MSR_BITMAP_RANGES.findIndex((base) => msr >= base && msr < base + 0x2000);
      const bit = msr - (MSR_BITMAP_RANGES[range] as number);
      const at = (td.tdcx[2] as number) + (write ? 0x800 : 0) + range * 0x400 + (bit >>> 3);
      return ((memory.read8(at, td.hkid) >>> (bit & 7)) & 1) === 0;
    };
    for (const msr of [0x48, 0x174, 0x277, 0x808, 0x80b, 0x810, 0x83f, 0xc0000081, 0xc0000102]) {
      expect([native(msr, false), native(msr, true)]).toEqual([true, true]);
    }
    for (const msr of [0x10, 0xbc, 0xda0, 0xc0000080, 0xc80]) {
      expect([native(msr, false), native(msr, true)]).toEqual([true, false]);
    }
    for (const msr of [0x1b, 0x802, 0x830, 0x10a, 0x1a0, 0xc0000083]) {
      expect([native(msr, false), native(msr, true)]).toEqual([false, false]);
    }
  });
});
