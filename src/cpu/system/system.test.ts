import { beforeEach, describe, expect, it } from "vitest";
import { type Assembler, byte, cr0, cr4, ds, eax, rax, rbx, rcx, rdx } from "../../arch/assembler/index.js";
import { EXIT_REASON } from "../../arch/vmx.js";
import { REG, SEG, SEG_SIZE, SEGMENT } from "../layout.js";
import { AT, type Ring, SELECTOR, TestMachine } from "../testing.js";

const bare = new TestMachine();
const guest = new TestMachine();
const UD = 6;
const NM = 7;
const NP = 11;
const SS = 12;
const GP = 13;
type Code = (asm: Assembler) => void;
const bytes =
  (...values: number[]): Code =>
  (asm) =>
    asm.db(...values);

beforeEach(() => {
  bare.reset();
  guest.reset();
  guest.enterGuest();
});

function vectorOf(code: Code, ring: Ring = 0, machine = bare): number | null {
  machine.ring(ring);
  return machine.run(code).vector;
}

describe("privilege: #GP(0) in ring 3", () => {
  it.each([
    ["MOV CR0", bytes(0x0f, 0x22, 0xc0)],
    ["MOV from CR0", bytes(0x0f, 0x20, 0xc0)],
    ["MOV DR0", bytes(0x0f, 0x23, 0xc0)],
    ["CLTS", bytes(0x0f, 0x06)],
    ["LMSW", bytes(0x0f, 0x01, 0xf0)],
    ["LGDT", bytes(0x0f, 0x01, 0x13)],
    ["LIDT", bytes(0x0f, 0x01, 0x1b)],
    ["LLDT", bytes(0x0f, 0x00, 0xd0)],
    ["LTR", bytes(0x0f, 0x00, 0xd8)],
    ["INVLPG", bytes(0x0f, 0x01, 0x3b)],
    ["INVPCID", bytes(0x66, 0x0f, 0x38, 0x82, 0x03)],
    ["HLT", bytes(0xf4)],
    ["INVD", bytes(0x0f, 0x08)],
    ["WBINVD", bytes(0x0f, 0x09)],
    ["RDMSR", bytes(0x0f, 0x32)],
    ["WRMSR", bytes(0x0f, 0x30)],
    ["RDPMC", bytes(0x0f, 0x33)],
    ["SWAPGS", bytes(0x0f, 0x01, 0xf8)],
    ["SYSRET", bytes(0x48, 0x0f, 0x07)],
    ["SYSEXIT", bytes(0x0f, 0x35)],
    ["CLI", bytes(0xfa)],
    ["STI", bytes(0xfb)],
    ["IN", bytes(0xec)],
    ["TDCALL", bytes(0x66, 0x0f, 0x01, 0xcc)],
  ])("%s", (_name, code) => {
    guest.state.setGpr(3, BigInt(AT.DATA));
    expect(vectorOf(code, 3, guest)).toBe(GP);
    expect(guest.stack(2)).toEqual([0n, BigInt(AT.CODE)]);
  });
});

describe("not advertised: #UD at any privilege", () => {
  const CASES: readonly [string, Code][] = [
    ["VEX", bytes(0xc5, 0xf8, 0x77, 0x90, 0x90)],
    ["AVX", bytes(0xc5, 0xfc, 0x28, 0xc1)],
    ["VEX with three bytes", bytes(0xc4, 0xe2, 0x78, 0xf2, 0xc0)],
    ["EVEX", bytes(0x62, 0xf1, 0x7c, 0x48, 0x28, 0xc0)],
    ["RDPID", bytes(0xf3, 0x0f, 0xc7, 0xf8)],
    ["SEAMRET", bytes(0x66, 0x0f, 0x01, 0xcd)],
    ["SEAMOPS", bytes(0x66, 0x0f, 0x01, 0xce)],
    ["UD0", bytes(0x0f, 0xff, 0xc0)],
    ["UD1", bytes(0x0f, 0xb9, 0xc0)],
    ["UD2", bytes(0x0f, 0x0b)],
    ["MOV CR1", bytes(0x0f, 0x20, 0xc8)],
    ["MOV CR5", bytes(0x0f, 0x22, 0xe8)],
    ["MOV CR9", bytes(0x44, 0x0f, 0x20, 0xc8)],
    ["MOV DR8", bytes(0x44, 0x0f, 0x21, 0xc0)],
    ["LOCK of a register", bytes(0xf0, 0x01, 0xc0)],
    ["LOCK of a load", bytes(0xf0, 0x8b, 0x03)],
    ["MOV to CS", bytes(0x8e, 0xc8)],
    ["PUSH ES in 64-bit code", bytes(0x06)],
    ["INTO in 64-bit code", bytes(0xce)],
    ["far JMP in 64-bit code", bytes(0xea, 0, 0, 0, 0, 0, 0)],
    ["LES in 64-bit code", bytes(0xc4, 0x03, 0x90, 0x90, 0x90)],
    ["XGETBV without OSXSAVE", bytes(0x0f, 0x01, 0xd0)],
    ["XSAVE without OSXSAVE", bytes(0x0f, 0xae, 0x23)],
    ["RDFSBASE without FSGSBASE", bytes(0xf3, 0x0f, 0xae, 0xc0)],
  ];
  it.each(CASES)("%s", (_name, code) => {
    for (const ring of [0, 3] as const) expect(vectorOf(code, ring)).toBe(UD);
  });

  it("MONITOR and MWAIT in ring 3, MOV DR4 with CR4.DE, STAC in ring 3, SYSCALL without SCE", () => {
    expect(vectorOf(bytes(0x0f, 0x01, 0xc8), 3, guest)).toBe(UD);
    expect(vectorOf(bytes(0x0f, 0x01, 0xc9), 3, guest)).toBe(UD);
    bare.state.set(REG.CR4, 0x628n);
    expect(vectorOf(bytes(0x0f, 0x21, 0xe0))).toBe(UD);
    expect(vectorOf(bytes(0x0f, 0x01, 0xcb), 3)).toBe(UD);
    bare.state.set(REG.EFER, 0xd00n);
    expect(vectorOf((asm) => asm.op("syscall"), 3)).toBe(UD);
  });

  it("TZCNT acts as BSF: with a source of zero the destination stays", () => {
    bare.state.setGpr(0, 5n);
    expect(vectorOf(bytes(0xf3, 0x0f, 0xbc, 0xc3))).toBeNull();
    expect(bare.state.gpr(0)).toBe(5n);
    expect(bare.state.rflags & 0x40n).toBe(0x40n);
  });
});

describe("instructions that exit", () => {
  it.each([
    ["CPUID", bytes(0x0f, 0xa2), EXIT_REASON.CPUID, 0],
    ["HLT", bytes(0xf4), EXIT_REASON.HLT, 0],
    ["WBINVD", bytes(0x0f, 0x09), EXIT_REASON.WBINVD, 0],
    ["INVD", bytes(0x0f, 0x08), EXIT_REASON.INVD, 0],
    ["RDPMC", bytes(0x0f, 0x33), EXIT_REASON.RDPMC, 0],
    ["VMCALL", bytes(0x0f, 0x01, 0xc1), EXIT_REASON.VMCALL, 0],
    ["TDCALL", bytes(0x66, 0x0f, 0x01, 0xcc), EXIT_REASON.TDCALL, 0],
    ["MONITOR", bytes(0x0f, 0x01, 0xc8), EXIT_REASON.MONITOR, 0],
    ["MWAIT", bytes(0x0f, 0x01, 0xc9), EXIT_REASON.MWAIT, 0],
    ["IN AL, 60", bytes(0xe4, 0x60), EXIT_REASON.IO_INSTRUCTION, 0x60_0048],
    ["OUT 61, AL", bytes(0xe6, 0x61), EXIT_REASON.IO_INSTRUCTION, 0x61_0040],
    ["IN EAX, DX", bytes(0xed), EXIT_REASON.IO_INSTRUCTION, 0x3f8_000b],
    ["OUT DX, AX", bytes(0x66, 0xef), EXIT_REASON.IO_INSTRUCTION, 0x3f8_0001],
    ["REP OUTSB", bytes(0xf3, 0x6e), EXIT_REASON.IO_INSTRUCTION, 0x3f8_0030],
    ["INSD", bytes(0x6d), EXIT_REASON.IO_INSTRUCTION, 0x3f8_001b],
  ])("%s", (_name, code, reason, qualification) => {
    guest.state.setGpr(2, 0x3f8n);
    const exit = guest.exit(code);
    expect(exit.reason).toBe(reason);
    expect(exit.qualification).toBe(BigInt(qualification));
    expect(exit.instructionLength).toBe(guest.end - AT.CODE);
    expect(guest.state.rip).toBe(BigInt(AT.CODE));
  });

  it.each([
    ["VMLAUNCH", bytes(0x0f, 0x01, 0xc2), EXIT_REASON.VMLAUNCH],
    ["SEAMCALL", bytes(0x66, 0x0f, 0x01, 0xcf), EXIT_REASON.SEAMCALL],
  ])("%s exits in ring 3, too", (_name, code, reason) => {
    guest.ring(3);
    expect(guest.exit(code).reason).toBe(reason);
  });
  it.each([
    ["ENCLS", bytes(0x0f, 0x01, 0xcf)],
    ["PCONFIG", bytes(0x0f, 0x01, 0xc5)],
    ["MONITOR", bytes(0x0f, 0x01, 0xc8)],
  ])("%s is undefined in ring 3", (_name, code) => {
    guest.ring(3);
    expect(guest.run(code).vector).toBe(6);
  });

  it("the I/O bitmap of the TSS opens ports to ring 3", () => {
    guest.ring(3);
    guest.state.setSegment(SEGMENT.TR, { selector: SELECTOR.TSS, base: BigInt(AT.TSS), limit: 0x1ff, rights: 0x8b });
    guest.state.setGpr(2, 0x3f8n);
    expect(guest.exit(bytes(0xec)).reason).toBe(EXIT_REASON.IO_INSTRUCTION);
    guest.bytes[AT.TSS + 0x68 + 0x7f] = 2;
    // Port 3F9 is closed now: the byte port stays open, the wide one does not.
    expect(guest.exit(bytes(0xec)).reason).toBe(EXIT_REASON.IO_INSTRUCTION);
    expect(guest.run(bytes(0xed)).vector).toBe(GP);
  });
});

describe("control registers in SEAM non-root", () => {
  it("host-owned bits: the shadow is read, a change exits, the same value keeps the real bit", () => {
    Object.assign(guest.core.controls, { cr0Mask: 0x20n, cr0Shadow: 0n, cr4Mask: 0x2040n, cr4Shadow: 0n });
    guest.state.set(REG.CR4, guest.state.get(REG.CR4) | 0x2040n);
    const real = guest.state.get(REG.CR4);
    guest.run((asm) => {
      asm.mov(rbx, cr0);
      asm.mov(rcx, cr4);
      asm.mov(rax, rcx);
      asm.or(rax, 0x80);
      asm.mov(cr4, rax);
    });
    expect(guest.state.gpr(3) & 0x20n).toBe(0n);
    expect(guest.state.gpr(1) & 0x2040n).toBe(0n);
    expect(guest.state.get(REG.CR4)).toBe(real | 0x80n);
    const exit = guest.exit((asm) => {
      asm.or(rax, 0x40);
      asm.mov(cr4, rax);
    });
    expect(exit.reason).toBe(EXIT_REASON.CR_ACCESS);
    expect(exit.qualification).toBe(4n);
  });

  it.each([
    ["CLTS with TS host-owned and seen set", bytes(0x0f, 0x06), 8n, 8n, 0x20n],
    ["LMSW that changes MP", bytes(0x0f, 0x01, 0xf0), 2n, 0n, 0x3_0030n],
  ])("%s exits", (_name, code, mask, shadow, qualification) => {
    Object.assign(guest.core.controls, { cr0Mask: mask, cr0Shadow: shadow });
    guest.state.setGpr(0, 3n);
    expect(guest.exit(code)).toMatchObject({ reason: EXIT_REASON.CR_ACCESS, qualification });
  });

  it("CLTS with TS host-owned and seen clear leaves TS; LMSW cannot clear PE", () => {
    Object.assign(guest.core.controls, { cr0Mask: 9n, cr0Shadow: 1n });
    guest.state.set(REG.CR0, guest.state.get(REG.CR0) | 8n);
    guest.state.setGpr(0, 2n);
    expect(
      guest.run((asm) => {
        asm.op("clts");
        asm.db(0x0f, 0x01, 0xf0);
      }).vector,
    ).toBeNull();
    expect(guest.state.get(REG.CR0) & 9n).toBe(9n);
  });

  it.each([
    ["CR0: PG without PE", 0x0f, 0x22, 0xc0, 0x8000_0010n],
    ["CR0: NW without CD", 0x0f, 0x22, 0xc0, 0xa000_0033n],
    ["CR0: a high bit", 0x0f, 0x22, 0xc0, 0x1_8000_0033n],
    ["CR0: PG cleared in 64-bit mode", 0x0f, 0x22, 0xc0, 0x33n],
    ["CR3: bits above the physical address width", 0x0f, 0x22, 0xd8, 1n << 60n],
    ["CR4: PAE cleared in IA-32e mode", 0x0f, 0x22, 0xe0, 0x600n],
    ["CR4: not advertised (LA57)", 0x0f, 0x22, 0xe0, 0x1620n],
    ["CR8: above 15", 0x44, 0x0f, 0x22, 0xc0, 16n],
    ["DR7: a high bit", 0x0f, 0x23, 0xf8, 1n << 32n],
  ])("%s: #GP(0)", (_name, ...rest) => {
    const value = rest.pop() as bigint;
    guest.state.setGpr(0, value);
    expect(guest.run(bytes(...(rest as number[]))).vector).toBe(GP);
  });
});

describe("MSRs", () => {
  const bit = (index: number, write: boolean): void => {
    const high = index >= 0xc000_0000 ? 1024 : 0;
    const at = AT.MSR_BITMAP + high + (write ? 2048 : 0) + ((index & 0x1fff) >> 3);
    guest.bytes[at] = (guest.bytes[at] as number) | (1 << (index & 7));
  };
  const access = (index: number, write: boolean): Code => {
    return (asm) => {
      asm.mov(rcx, BigInt(index));
      asm.op(write ? "wrmsr" : "rdmsr");
    };
  };
  it.each([0x174, 0x1fff, 0xc000_0080, 0xc000_1fff])("the bitmap decides for %i", (index) => {
    for (const write of [false, true]) {
      bit(index, write);
      const reason = write ? EXIT_REASON.MSR_WRITE : EXIT_REASON.MSR_READ;
      expect(guest.exit(access(index, write)).reason).toBe(reason);
    }
  });
  it.each([0x2000, 0x4000_0000, 0xc000_2000])("%i lies beyond it: an exit", (index) => {
    expect(guest.exit(access(index, false)).reason).toBe(EXIT_REASON.MSR_READ);
  });
  it.each([
    ["LSTAR not canonical", 0xc000_0082, 0x8000_0000_0000n],
    ["PAT with a reserved type", 0x277, 2n],
    ["a read-only one", 0xc000_0080, 1n],
    ["FMASK above 32 bits", 0xc000_0084, 1n << 32n],
    ["TPR above 8 bits", 0x808, 0x100n],
    ["EOI with a value", 0x80b, 1n],
    ["SELF IPI above 8 bits", 0x83f, 0x100n],
    ["PPR, which is read-only", 0x80a, 0n],
    ["XAPIC_DISABLE_STATUS, which is read-only", 0xbd, 0n],
    ["SPEC_CTRL.DDPD_U, which is not advertised", 0x48, 0x100n],
  ])("write of %s: #GP(0)", (_name, index, value) => {
    guest.state.setGpr(0, value & 0xffff_ffffn);
    guest.state.setGpr(2, value >> 32n);
    expect(guest.run(access(index, true)).vector).toBe(GP);
  });

  it.each([
    ["PRED_CMD", 0x49],
    ["FLUSH_CMD", 0x10b],
    ["EOI", 0x80b],
  ])("read of %s, which is write-only: #GP(0)", (_name, index) => {
    expect(guest.run(access(index, false)).vector).toBe(GP);
  });

  it("TPR, SELF IPI, EOI and PPR without an exit", () => {
    const { view, state } = guest;
    const write = (asm: Assembler, index: number, value: number): void => {
      asm.mov(rcx, BigInt(index));
      asm.mov(rax, BigInt(value));
      asm.xor(rdx, rdx);
      asm.op("wrmsr");
    };
    guest.run((asm) => {
      write(asm, 0x808, 0x30);
      write(asm, 0x83f, 0x71);
    });
    expect(view.getUint32(AT.VIRTUAL_APIC + 0x80, true)).toBe(0x30);
    expect(view.getUint32(AT.VIRTUAL_APIC + 0x200 + 3 * 16, true)).toBe(1 << 17);
    state.rflags = 0x202n;
    expect(guest.run((asm) => asm.op("nop")).vector).toBe(0x71);
    expect(view.getUint32(AT.VIRTUAL_APIC + 0xa0, true)).toBe(0x70);
    guest.run((asm) => {
      write(asm, 0x80b, 0);
      asm.mov(rcx, 0x80an);
      asm.op("rdmsr");
    });
    expect(state.gpr(0)).toBe(0x30n);
    expect(view.getUint32(AT.VIRTUAL_APIC + 0x100 + 3 * 16, true)).toBe(0);
  });

  it("CR8 is TPR 7:4", () => {
    guest.state.setGpr(0, 9n);
    guest.run((asm) => {
      asm.db(0x44, 0x0f, 0x22, 0xc0);
      asm.db(0x44, 0x0f, 0x20, 0xc3);
    });
    expect(guest.view.getUint32(AT.VIRTUAL_APIC + 0x80, true)).toBe(0x90);
    expect(guest.state.gpr(3)).toBe(9n);
  });
});

describe("SYSCALL and its kin", () => {
  it("SYSCALL and SYSRET", () => {
    const { state } = bare;
    bare.ring(3);
    state.set(REG.STAR, (0x1bn << 48n) | (BigInt(SELECTOR.CODE64) << 32n));
    state.set(REG.LSTAR, BigInt(AT.HANDLERS + 0x80 * 16));
    state.set(REG.FMASK, 0x200n);
    state.rflags = 0x1_0202n;
    expect(bare.run((asm) => asm.op("syscall")).vector).toBe(0x80);
    expect([state.cpl, state.gpr(1), state.gpr(11), state.rflags]).toEqual([0, BigInt(AT.CODE + 2), 0x202n, 2n]);
    expect([bare.selector(SEGMENT.CS), bare.selector(SEGMENT.SS)]).toEqual([SELECTOR.CODE64, SELECTOR.DATA]);
    bare.load((asm) => asm.op("sysretq"), { address: AT.CODE + 0x100 });
    bare.end = AT.CODE + 2;
    expect(bare.go().vector).toBeNull();
    expect([state.cpl, state.rflags]).toEqual([3, 0x202n]);
    expect([bare.selector(SEGMENT.CS), bare.selector(SEGMENT.SS)]).toEqual([0x2b, 0x23]);
  });

  it("SYSRET to an address that is not canonical: #GP(0) in ring 0", () => {
    bare.state.setGpr(1, 1n << 47n);
    expect(bare.run((asm) => asm.op("sysretq")).vector).toBe(GP);
    expect(bare.stack(3)[2]).toBe(BigInt(SELECTOR.CODE64));
  });

  it("SYSENTER", () => {
    const { state } = bare;
    bare.ring(3);
    state.set(REG.SYSENTER_EIP, BigInt(AT.HANDLERS + 0x81 * 16));
    expect(bare.run(bytes(0x0f, 0x34)).vector).toBe(GP);
    bare.ring(3);
    state.set(REG.SYSENTER_CS, BigInt(SELECTOR.CODE64));
    state.set(REG.SYSENTER_ESP, 0x8800n);
    expect(bare.run(bytes(0x0f, 0x34)).vector).toBe(0x81);
    expect([state.cpl, state.gpr(4)]).toEqual([0, 0x8800n]);
  });
});

describe("segments", () => {
  const load: Code = (asm) => asm.mov(ds, rax);
  it.each([
    ["beyond the GDT", 0x200, GP, 0x200],
    ["not present", SELECTOR.ABSENT, NP, SELECTOR.ABSENT],
    ["a TSS", SELECTOR.TSS, GP, SELECTOR.TSS],
    ["RPL above DPL", SELECTOR.DATA | 3, GP, SELECTOR.DATA],
    ["an LDT selector without LDT", 0x14, GP, 0x14],
  ])("DS := %s", (_name, selector, vector, error) => {
    bare.state.setGpr(0, BigInt(selector));
    expect(bare.run(load).vector).toBe(vector);
    expect(bare.stack(1)).toEqual([BigInt(error)]);
  });

  it.each([
    ["null in ring 3", 0, 3, GP, 0],
    ["read-only", SELECTOR.READ_ONLY, 0, GP, SELECTOR.READ_ONLY],
    ["not present", SELECTOR.ABSENT, 0, SS, SELECTOR.ABSENT],
    ["another DPL", SELECTOR.USER_DATA, 0, GP, SELECTOR.USER_DATA & ~3],
  ] as const)("SS := %s", (_name, selector, ring, vector, error) => {
    bare.ring(ring);
    bare.state.setGpr(0, BigInt(selector));
    expect(bare.run(bytes(0x8e, 0xd0)).vector).toBe(vector);
    expect(bare.stack(1)).toEqual([BigInt(error)]);
  });

  it("null and a data segment; the accessed bit is set", () => {
    bare.view.setBigUint64(AT.GDT + SELECTOR.DATA, 0x00cf_9200_0000_ffffn, true);
    bare.state.setGpr(0, BigInt(SELECTOR.DATA));
    expect(bare.run(load).vector).toBeNull();
    expect(bare.view.getBigUint64(AT.GDT + SELECTOR.DATA, true)).toBe(0x00cf_9300_0000_ffffn);
    bare.state.setGpr(0, 0n);
    expect(bare.run(load).vector).toBeNull();
    expect(bare.state.get32(REG.SEGMENTS + SEGMENT.DS * SEG_SIZE + SEG.RIGHTS) & 0x1_0000).toBe(0x1_0000);
  });

  it("LTR makes the TSS busy, and a busy one is refused", () => {
    bare.state.setGpr(0, BigInt(SELECTOR.TSS));
    expect(bare.run(bytes(0x0f, 0x00, 0xd8)).vector).toBeNull();
    expect((bare.view.getUint8(AT.GDT + SELECTOR.TSS + 5) & 15).toString()).toBe("11");
    expect(bare.run(bytes(0x0f, 0x00, 0xd8)).vector).toBe(GP);
  });

  const ZF = 0x40n;
  it.each([
    ["LAR data", [0x0f, 0x02, 0xd8], SELECTOR.DATA, 0, true, 0xcf_9300n],
    ["LAR null", [0x0f, 0x02, 0xd8], 0, 0, false, 0n],
    ["LAR of ring 0 from ring 3", [0x0f, 0x02, 0xd8], SELECTOR.DATA, 3, false, 0n],
    ["LAR conforming from ring 3", [0x0f, 0x02, 0xd8], SELECTOR.CONFORMING, 3, true, 0xaf_9f00n],
    ["LSL with granularity", [0x0f, 0x03, 0xd8], SELECTOR.DATA, 0, true, 0xffff_ffffn],
    ["LSL of a TSS", [0x0f, 0x03, 0xd8], SELECTOR.TSS, 0, true, 0x67n],
    ["VERR", [0x0f, 0x00, 0xe0], SELECTOR.DATA, 0, true, 0n],
    ["VERW read-only", [0x0f, 0x00, 0xe8], SELECTOR.READ_ONLY, 0, false, 0n],
    ["VERW", [0x0f, 0x00, 0xe8], SELECTOR.USER_DATA, 3, true, 0n],
  ] as const)("%s", (_name, code, selector, ring, zero, value) => {
    bare.ring(ring);
    bare.state.setGpr(0, BigInt(selector));
    expect(bare.run(bytes(...code)).vector).toBeNull();
    expect((bare.state.rflags & ZF) !== 0n).toBe(zero);
    expect(bare.state.gpr(3)).toBe(value);
  });
});

describe("IRET", () => {
  const frame = (...words: bigint[]): void => {
    bare.state.setGpr(4, BigInt(AT.STACK - words.length * 8));
    words.forEach((value, n) => {
      bare.view.setBigUint64(AT.STACK - (words.length - n) * 8, value, true);
    });
  };
  it("to ring 3, 64-bit: flags, stack, inner data segments dropped", () => {
    const target = BigInt(AT.CODE + 2);
    frame(target, BigInt(SELECTOR.USER_CODE64), 0x3202n, BigInt(AT.STACK), BigInt(SELECTOR.USER_DATA));
    expect(bare.run((asm) => asm.op("iretq")).vector).toBeNull();
    expect([bare.state.cpl, bare.state.rflags, bare.state.gpr(4)]).toEqual([3, 0x3202n, BigInt(AT.STACK)]);
    expect(bare.selector(SEGMENT.DS)).toBe(0);
  });
  it("to compatibility mode", () => {
    frame(BigInt(AT.CODE + 2), BigInt(SELECTOR.USER_CODE32), 2n, BigInt(AT.STACK), BigInt(SELECTOR.USER_DATA));
    bare.run((asm) => asm.op("iretq"));
    expect(bare.state.longMode).toBe(false);
    expect(bare.selector(SEGMENT.CS)).toBe(SELECTOR.USER_CODE32);
  });
  it.each([
    ["a null CS", 0n, 0x10n, GP, 0n],
    ["a data segment as CS", BigInt(SELECTOR.DATA), 0x10n, GP, BigInt(SELECTOR.DATA)],
    ["a null SS in ring 3", BigInt(SELECTOR.USER_CODE64), 0n, GP, 0n],
    ["an SS of another privilege", BigInt(SELECTOR.USER_CODE64), 0x10n, GP, 0x10n],
  ])("%s: nothing changed", (_name, cs, stack, vector, error) => {
    frame(BigInt(AT.CODE), cs, 2n, BigInt(AT.STACK), stack);
    expect(bare.run((asm) => asm.op("iretq")).vector).toBe(vector);
    expect(bare.stack(3)).toEqual([error, BigInt(AT.CODE), BigInt(SELECTOR.CODE64)]);
  });
  it("NT in IA-32e mode: #GP(0)", () => {
    bare.state.rflags = 0x4002n;
    expect(bare.run((asm) => asm.op("iretq")).vector).toBe(GP);
  });
  it("ring 3 cannot change IF and IOPL", () => {
    bare.ring(3);
    bare.state.rflags = 0x202n;
    frame(BigInt(AT.CODE + 2), BigInt(SELECTOR.USER_CODE64), 0x3002n, BigInt(AT.STACK), BigInt(SELECTOR.USER_DATA));
    bare.run((asm) => asm.op("iretq"));
    expect(bare.state.rflags).toBe(0x202n);
  });
});

describe("PUSHF and POPF", () => {
  it.each([
    [0, 0n, 0x24_7fd7n & ~0x1_0000n],
    [3, 0n, 0x24_4dd7n],
    [3, 0x3000n, 0x24_4fd7n | 0x3000n],
  ] as const)("POPF in ring %i with IOPL %i", (ring, iopl, expected) => {
    bare.ring(ring);
    bare.state.rflags = iopl | 2n;
    bare.load((asm) => {
      asm.mov(rax, 0x7fff_ffffn & ~0x100n);
      asm.push(rax);
      asm.op("popf");
    });
    bare.go();
    expect(bare.state.rflags).toBe(expected & ~0x100n);
  });
  it("PUSHF shows RF as zero", () => {
    bare.run((asm) => {
      asm.op("pushf");
      asm.pop(rax);
    });
    expect(bare.state.gpr(0)).toBe(2n);
  });
});

describe("ENTER, far transfers, tables", () => {
  it("ENTER with nesting copies the enclosing frames", () => {
    const { state, view } = bare;
    state.setGpr(5, BigInt(AT.DATA + 0x100));
    view.setBigUint64(AT.DATA + 0xf8, 0xaaaan, true);
    bare.run(bytes(0xc8, 0x20, 0x00, 0x02));
    expect(state.gpr(5)).toBe(BigInt(AT.STACK - 8));
    expect(state.gpr(4)).toBe(BigInt(AT.STACK - 24 - 0x20));
    expect(view.getBigUint64(AT.STACK - 8, true)).toBe(BigInt(AT.DATA + 0x100));
    expect(view.getBigUint64(AT.STACK - 16, true)).toBe(0xaaaan);
    expect(view.getBigUint64(AT.STACK - 24, true)).toBe(BigInt(AT.STACK - 8));
  });

  it("a far call into 32-bit code and the far return from it", () => {
    const { state, view } = bare;
    view.setUint32(AT.DATA, AT.CODE + 0x200, true);
    view.setUint16(AT.DATA + 4, SELECTOR.CODE32, true);
    // RETF with an operand size of 64 bits is REX.W; in 32-bit code the frame is of 4-byte words.
    bare.bytes.set([0xcb], AT.CODE + 0x200);
    state.setGpr(3, BigInt(AT.DATA));
    bare.run(bytes(0xff, 0x1b));
    expect(state.longMode).toBe(true);
    expect(state.gpr(4)).toBe(BigInt(AT.STACK));
  });

  it("a far jump whose descriptor cannot be written leaves everything", () => {
    bare.view.setBigUint64(AT.GDT + SELECTOR.CODE64, 0x00af_9a00_0000_ffffn, true);
    bare.state.set(REG.CR0, 0x8001_0033n);
    bare.gate(14, { selector: SELECTOR.CONFORMING });
    bare.map(AT.GDT, BigInt(AT.GDT) | 1n);
    bare.view.setUint32(AT.DATA, AT.CODE + 0x200, true);
    bare.view.setUint16(AT.DATA + 4, SELECTOR.CODE64, true);
    bare.state.setGpr(3, BigInt(AT.DATA));
    expect(bare.run(bytes(0xff, 0x1b)).vector).toBe(14);
    expect(bare.stack(5)[4]).toBe(BigInt(AT.STACK));
  });

  it("LGDT and SGDT, LIDT and SIDT", () => {
    const { view } = bare;
    view.setUint16(AT.DATA, 0x123, true);
    view.setBigUint64(AT.DATA + 2, BigInt(AT.GDT), true);
    bare.run((asm) => {
      asm.mov(rbx, BigInt(AT.DATA));
      asm.lgdt(byte(rbx));
      asm.sgdt(byte(rbx, 0x10));
      asm.sidt(byte(rbx, 0x20));
      asm.mov(eax, 0);
    });
    expect(view.getUint16(AT.DATA + 0x10, true)).toBe(0x123);
    expect(view.getBigUint64(AT.DATA + 0x12, true)).toBe(BigInt(AT.GDT));
    expect(view.getUint16(AT.DATA + 0x20, true)).toBe(0xfff);
    view.setBigUint64(AT.DATA + 2, 1n << 60n, true);
    expect(bare.run((asm) => asm.lgdt(byte(rbx))).vector).toBe(GP);
  });

  it("SMSW to memory writes 16 bits", () => {
    bare.view.setBigUint64(AT.DATA, -1n, true);
    bare.run((asm) => {
      asm.mov(rbx, BigInt(AT.DATA));
      asm.db(0x0f, 0x01, 0x23);
    });
    expect(bare.view.getBigUint64(AT.DATA, true)).toBe(0xffff_ffff_ffff_0033n);
  });
});

describe("XSAVE", () => {
  const AREA = AT.DATA;
  const XSAVE = { xsave: [0x0f, 0xae, 0x23], xsaveopt: [0x0f, 0xae, 0x33], xsavec: [0x0f, 0xc7, 0x23] };
  const XSAVES = [0x0f, 0xc7, 0x2b];
  const XRSTOR = [0x0f, 0xae, 0x2b];
  const XRSTORS = [0x0f, 0xc7, 0x1b];
  beforeEach(() => {
    bare.reset();
    bare.state.set(REG.CR4, bare.state.get(REG.CR4) | 0x4_0000n);
    bare.state.setGpr(3, BigInt(AREA));
    bare.state.setGpr(0, 3n);
    bare.state.set(REG.XMM, 0x1234n);
  });
  const header = (n: number): bigint => bare.view.getBigUint64(AREA + 512 + n * 8, true);

  it("standard format: XSTATE_BV names what is in use, XCOMP_BV stays", () => {
    bare.run(bytes(...XSAVE.xsave));
    expect([header(0), header(1)]).toEqual([2n, 0n]);
    expect(bare.view.getBigUint64(AREA + 160, true)).toBe(0x1234n);
    expect(bare.view.getUint32(AREA + 28, true)).toBe(0xffff);
  });
  it("compacted formats", () => {
    for (const code of [XSAVE.xsavec, XSAVES]) {
      bare.bytes.fill(0xff, AREA + 512, AREA + 576);
      bare.run(bytes(...code));
      // The rest of the header stays, as on a real CPU.
      const untouched = (1n << 64n) - 1n;
      expect([header(0), header(1), header(2), header(7)]).toEqual([2n, (1n << 63n) | 3n, untouched, untouched]);
    }
  });
  it("what was saved is restored, what was not is initial", () => {
    bare.state.set32(REG.MXCSR, 0x1fa0);
    bare.run(bytes(...XSAVE.xsavec));
    bare.state.set(REG.XMM, 0n);
    bare.state.set16(REG.FCW, 0x27f);
    bare.state.set32(REG.MXCSR, 0x1f80);
    expect(bare.run(bytes(...XRSTOR)).vector).toBeNull();
    expect(bare.state.get(REG.XMM)).toBe(0x1234n);
    expect(bare.state.get16(REG.FCW)).toBe(0x37f);
    expect(bare.state.get32(REG.MXCSR)).toBe(0x1fa0);
  });
  it("XSAVEOPT leaves out what is in its initial state", () => {
    bare.bytes.fill(0xff, AREA, AREA + 512);
    bare.view.setBigUint64(AREA + 512, 3n, true);
    bare.run(bytes(...XSAVE.xsaveopt));
    expect(header(0)).toBe(2n);
    expect(bare.view.getBigUint64(AREA, true)).toBe((1n << 64n) - 1n);
    expect(bare.view.getBigUint64(AREA + 160, true)).toBe(0x1234n);
  });
  it("FXSAVE and FXRSTOR: a round trip that leaves the last 48 bytes to software", () => {
    bare.bytes.fill(0xff, AREA, AREA + 512);
    bare.state.set32(REG.MXCSR, 0x1fa0);
    bare.state.set16(REG.FCW, 0x27f);
    bare.run(bytes(0x0f, 0xae, 0x03));
    expect(bare.view.getUint16(AREA, true)).toBe(0x27f);
    expect(bare.view.getUint32(AREA + 24, true)).toBe(0x1fa0);
    expect(bare.view.getBigUint64(AREA + 464, true)).toBe((1n << 64n) - 1n);
    bare.state.set(REG.XMM, 0n);
    bare.state.set16(REG.FCW, 0x37f);
    bare.state.set32(REG.MXCSR, 0x1f80);
    expect(bare.run(bytes(0x0f, 0xae, 0x0b)).vector).toBeNull();
    expect(bare.state.get(REG.XMM)).toBe(0x1234n);
    expect(bare.state.get16(REG.FCW)).toBe(0x27f);
    expect(bare.state.get32(REG.MXCSR)).toBe(0x1fa0);
  });
  it.each([
    ["FXSAVE", [0x0f, 0xae, 0x03]],
    ["XSAVE", XSAVE.xsave],
  ])("%s to a page that is not present: a write fault", (_name, code) => {
    bare.map(AREA, 0n);
    expect(bare.run(bytes(...code)).vector).toBe(14);
    expect(bare.stack(1)).toEqual([2n]);
  });
  it("XGETBV of 1 tells what is in use", () => {
    bare.state.setGpr(1, 1n);
    bare.run((asm) => asm.op("xgetbv"));
    expect(bare.state.gpr(0)).toBe(2n);
  });
  const refused: readonly [string, readonly number[], () => void, number][] = [
    ["XSAVE, not aligned", XSAVE.xsave, () => bare.state.setGpr(3, BigInt(AREA + 8)), GP],
    ["XSAVE with CR0.TS", XSAVE.xsave, () => bare.state.set(REG.CR0, 0x8001_003bn), NM],
    ["XRSTOR, XSTATE_BV beyond XCR0", XRSTOR, () => bare.view.setBigUint64(AREA + 512, 4n, true), GP],
    ["XRSTOR, reserved header bytes", XRSTOR, () => bare.view.setBigUint64(AREA + 528, 1n, true), GP],
    ["XRSTOR, MXCSR", XRSTOR, () => bare.view.setUint32(AREA + 24, 0x1_0000, true), GP],
    ["XRSTORS of the standard format", XRSTORS, () => {}, GP],
    ["XSAVES in ring 3", XSAVES, () => bare.ring(3), GP],
  ];
  it.each(refused)("%s", (_name, code, prepare, vector) => {
    prepare();
    expect(bare.run(bytes(...code)).vector).toBe(vector);
  });
});
