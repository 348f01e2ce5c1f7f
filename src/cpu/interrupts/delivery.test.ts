import { beforeEach, describe, expect, it } from "vitest";
import { type Assembler, qword, rax, rbx, ss } from "../../arch/assembler/index.js";
import { REG, SEGMENT } from "../layout.js";
import { AT, SELECTOR, TestMachine } from "../testing.js";

const bare = new TestMachine();
const guest = new TestMachine();
const VECTOR = { DF: 8, TS: 10, NP: 11, SS: 12, GP: 13, PF: 14 } as const;
const RF = 0x1_0000n;
const IF = 0x200n;
const NMI_BLOCKED = 8;

beforeEach(() => {
  bare.reset();
  guest.reset();
  guest.enterGuest();
});

describe("frames in 64-bit mode", () => {
  it("without a stack switch: aligned, old SS and RSP, flags", () => {
    bare.state.setGpr(4, BigInt(AT.STACK - 5));
    bare.state.rflags = IF | 2n;
    expect(bare.run((asm) => asm.op("ud2")).vector).toBe(6);
    expect(bare.state.gpr(4)).toBe(BigInt(((AT.STACK - 5) & ~15) - 40));
    expect(bare.stack(5)).toEqual([
      BigInt(AT.CODE),
      BigInt(SELECTOR.CODE64),
      IF | RF | 2n,
      BigInt(AT.STACK - 5),
      BigInt(SELECTOR.DATA),
    ]);
    // An interrupt gate clears IF.
    expect(bare.state.rflags & IF).toBe(0n);
  });

  it("a trap gate leaves IF", () => {
    bare.gate(6, { type: 15 });
    bare.state.rflags = IF | 2n;
    bare.run((asm) => asm.op("ud2"));
    expect(bare.state.rflags & IF).toBe(IF);
  });

  it("from ring 3: RSP0, null SS of the new level, error code", () => {
    bare.ring(3);
    expect(bare.run((asm) => asm.op("hlt")).vector).toBe(VECTOR.GP);
    expect(bare.state.gpr(4)).toBe(BigInt(AT.RING0_STACK - 48));
    expect(bare.stack(6)).toEqual([
      0n,
      BigInt(AT.CODE),
      BigInt(SELECTOR.USER_CODE64),
      RF | 2n,
      BigInt(AT.STACK),
      BigInt(SELECTOR.USER_DATA),
    ]);
    expect(bare.state.cpl).toBe(0);
    expect(bare.selector(SEGMENT.SS)).toBe(0);
  });

  it("IST", () => {
    bare.gate(6, { ist: 1 });
    bare.run((asm) => asm.op("ud2"));
    expect(bare.state.gpr(4)).toBe(BigInt(AT.IST_STACK - 40));
    expect(bare.selector(SEGMENT.SS)).toBe(SELECTOR.DATA);
  });

  it("NT and TF are cleared and kept in the frame", () => {
    bare.state.rflags = 0x4002n;
    bare.run((asm) => asm.op("ud2"));
    expect(bare.state.rflags & 0x4000n).toBe(0n);
    expect(bare.stack(3)[2]).toBe(0x4002n | RF);
  });

  it("32-bit protected mode through 386 gates, with a stack switch", () => {
    const { state, view } = bare;
    state.set(REG.EFER, 0n);
    state.set(REG.CR0, 0x33n);
    view.setUint32(AT.IDT + 6 * 8, (AT.HANDLERS & 0xffff) | (SELECTOR.CODE32 << 16), true);
    view.setUint32(AT.IDT + 6 * 8 + 4, (AT.HANDLERS & 0xffff_0000) | 0x8e00, true);
    view.setUint32(AT.TSS + 4, AT.RING0_STACK, true);
    view.setUint32(AT.TSS + 8, SELECTOR.DATA, true);
    bare.ring(3, 32);
    bare.run((asm) => asm.op("ud2"), { bits: 32 });
    expect(state.gpr(4)).toBe(BigInt(AT.RING0_STACK - 20));
    expect(bare.stack(5, 4)).toEqual([
      BigInt(AT.CODE),
      BigInt(SELECTOR.USER_CODE32),
      RF | 2n,
      BigInt(AT.STACK),
      BigInt(SELECTOR.USER_DATA),
    ]);
  });
});

describe("software interrupts", () => {
  it.each([
    ["INT n", (asm: Assembler) => asm.int(0x40), 0x40, 2],
    ["INT3", (asm: Assembler) => asm.op("int3"), 3, 1],
    ["INT1", (asm: Assembler) => asm.db(0xf1), 1, 1],
  ] as const)("%s returns behind itself", (_name, code, vector, length) => {
    expect(bare.run(code).vector).toBe(vector);
    expect(bare.stack(3)).toEqual([BigInt(AT.CODE + length), BigInt(SELECTOR.CODE64), 2n]);
  });

  it.each([
    ["INT n", (asm: Assembler) => asm.int(0x40), 0x40],
    ["INT3", (asm: Assembler) => asm.op("int3"), 3],
  ] as const)("%s from ring 3 needs DPL 3", (_name, code, vector) => {
    bare.ring(3);
    expect(bare.run(code).vector).toBe(VECTOR.GP);
    expect(bare.stack(2)).toEqual([BigInt((vector << 3) | 2), BigInt(AT.CODE)]);
    bare.ring(3);
    bare.gate(vector, { dpl: 3 });
    expect(bare.run(code).vector).toBe(vector);
  });

  it("INT1 does not check the DPL", () => {
    bare.ring(3);
    expect(bare.run((asm) => asm.db(0xf1)).vector).toBe(1);
  });
});

describe("faults of delivery", () => {
  const ud2 = (asm: Assembler): void => asm.op("ud2");
  it.each([
    ["a gate that is not present: #NP", () => bare.gate(6, { present: false }), VECTOR.NP, 6 * 8 + 3],
    ["no gate: #GP", () => bare.gate(6, { type: 5 }), VECTOR.GP, 6 * 8 + 3],
    ["a null selector: #GP", () => bare.gate(6, { selector: 0 }), VECTOR.GP, 1],
    ["32-bit code: #GP", () => bare.gate(6, { selector: SELECTOR.CODE32 }), VECTOR.GP, SELECTOR.CODE32 | 1],
    ["a data segment: #GP", () => bare.gate(6, { selector: SELECTOR.DATA }), VECTOR.GP, SELECTOR.DATA | 1],
  ] as const)("%s", (_name, prepare, vector, error) => {
    prepare();
    expect(bare.run(ud2).vector).toBe(vector);
    expect(bare.stack(2)).toEqual([BigInt(error), BigInt(AT.CODE)]);
  });

  it("beyond the IDT's limit", () => {
    expect(
      bare.run((asm) => {
        asm.mov(rax, 0n);
        asm.int(0xff);
      }).vector,
    ).toBe(0xff);
    bare.state.set32(REG.IDTR_LIMIT, 0xfef);
    expect(bare.run((asm) => asm.int(0xff)).vector).toBe(VECTOR.GP);
    expect(bare.stack(1)).toEqual([BigInt(0xff * 8 + 2)]);
  });

  const PAGE_FAULT = (asm: Assembler): void => {
    asm.mov(rbx, 0x4000_0000n);
    asm.mov(rax, qword(rbx));
  };
  const GENERAL = (asm: Assembler): void => {
    asm.mov(rbx, 1n << 62n);
    asm.mov(rax, qword(rbx));
  };
  const DIVIDE = (asm: Assembler): void => {
    asm.xor(rbx, rbx);
    asm.div(rbx);
  };
  it.each([
    ["#DE then #NP", DIVIDE, 0, VECTOR.DF],
    ["#GP then #NP", GENERAL, VECTOR.GP, VECTOR.DF],
    ["#PF then #NP", PAGE_FAULT, VECTOR.PF, VECTOR.DF],
    ["#UD then #NP", ud2, 6, VECTOR.NP],
  ] as const)("%s", (_name, code, first, second) => {
    bare.gate(first, { present: false });
    expect(bare.run(code).vector).toBe(second);
    if (second === VECTOR.DF) expect(bare.stack(1)).toEqual([0n]);
  });

  it("#PF whose gate page is missing: #DF; without a #DF gate: triple fault", () => {
    bare.gate(VECTOR.PF, { present: false });
    bare.gate(VECTOR.DF, { present: false });
    expect(bare.run(PAGE_FAULT).stop.kind).toBe("triple-fault");
    guest.gate(VECTOR.PF, { present: false });
    guest.gate(VECTOR.DF, { present: false });
    expect(guest.exit(PAGE_FAULT).reason).toBe(2);
  });

  it("a stack that is not canonical: #SS on IST, else #DF chain", () => {
    bare.view.setBigUint64(AT.TSS + 0x24, 1n << 62n, true);
    bare.gate(6, { ist: 1 });
    expect(bare.run(ud2).vector).toBe(VECTOR.SS);
    expect(bare.stack(1)).toEqual([1n]);
  });

  it("TSS limit", () => {
    bare.ring(3);
    bare.state.setSegment(SEGMENT.TR, { selector: SELECTOR.TSS, base: BigInt(AT.TSS), limit: 10, rights: 0x8b });
    // #TS needs the same TSS: it doubles and triples.
    expect(bare.run(ud2).stop.kind).toBe("triple-fault");
  });
});

describe("injected events", () => {
  const inject = (info: number, errorCode = 0, instructionLength = 0): number | null => {
    Object.assign(guest.core.entryEvent, { interruptionInfo: info, errorCode, instructionLength });
    guest.load((asm) => asm.op("nop"));
    const { vector } = guest.go(10);
    expect(guest.core.entryEvent.interruptionInfo).toBe(0);
    return vector;
  };
  it.each([
    ["external interrupt", 0x8000_0041, 0, 0x41, 0, 2n],
    ["NMI", 0x8000_0202, 0, 2, 0, 2n],
    ["hardware exception", 0x8000_0306, 0, 6, 0, 2n | RF],
    ["software interrupt", 0x8000_0440, 2, 0x40, 2, 2n],
    ["privileged software exception", 0x8000_0501, 1, 1, 1, 2n],
    ["software exception", 0x8000_0603, 1, 3, 1, 2n],
  ] as const)("%s", (_name, info, length, vector, offset, flags) => {
    expect(inject(info, 0, length)).toBe(vector);
    expect(guest.stack(3)).toEqual([BigInt(AT.CODE + offset), BigInt(SELECTOR.CODE64), flags]);
    expect(guest.state.get32(REG.INTERRUPTIBILITY)).toBe(vector === 2 ? NMI_BLOCKED : 0);
  });

  it("with an error code; CR2 stays what the module has set", () => {
    guest.state.set(REG.CR2, 0x1234n);
    expect(inject(0x8000_0b0e, 0x15)).toBe(VECTOR.PF);
    expect(guest.stack(2)).toEqual([0x15n, BigInt(AT.CODE)]);
    expect(guest.state.get(REG.CR2)).toBe(0x1234n);
  });

  it("with no ticks it is delivered and nothing executed", () => {
    Object.assign(guest.core.entryEvent, { interruptionInfo: 0x8000_0306, errorCode: 0, instructionLength: 0 });
    guest.load((asm) => asm.op("nop"));
    const { retired } = guest.core;
    expect(guest.core.run(0).kind).toBe("budget");
    expect(guest.core.retired).toBe(retired);
    expect(Number(guest.state.rip)).toBe(AT.HANDLERS + 6 * 16);
  });

  it("takes the place of pending debug exceptions", () => {
    guest.state.set(REG.PENDING_DEBUG, 0x4000n);
    expect(inject(0x8000_0306)).toBe(6);
    expect(guest.state.get(REG.PENDING_DEBUG)).toBe(0n);
  });

  it("IRET ends NMI blocking", () => {
    expect(inject(0x8000_0202)).toBe(2);
    guest.load((asm) => asm.op("iretq"), { address: AT.CODE + 0x100 });
    guest.end = AT.CODE + 1;
    expect(guest.go().vector).toBeNull();
    expect(guest.state.get32(REG.INTERRUPTIBILITY)).toBe(0);
  });
});

describe("virtual interrupts", () => {
  const post = (vector: number): void =>
    guest.view.setUint32(AT.VIRTUAL_APIC + 0x200 + (vector >> 5) * 16, 1 << (vector & 31), true);
  const returnAddress = (): number => Number(guest.stack(1)[0]) - AT.CODE;

  it("waits for IF, then for the instruction after STI", () => {
    post(0x51);
    expect(
      guest.run((asm) => {
        asm.op("nop");
        asm.op("sti");
        asm.op("nop");
        asm.op("nop");
      }).vector,
    ).toBe(0x51);
    expect(returnAddress()).toBe(3);
  });

  it("STI with IF set has no shadow", () => {
    guest.state.rflags = IF | 2n;
    post(0x51);
    expect(guest.run((asm) => asm.op("sti")).vector).toBe(0x51);
    expect(returnAddress()).toBe(0);
  });

  it("waits for the instruction after MOV SS", () => {
    guest.state.setGpr(0, BigInt(SELECTOR.DATA));
    guest.load((asm) => {
      asm.mov(ss, rax);
      asm.op("nop");
      asm.op("nop");
    });
    guest.core.run(1);
    guest.state.rflags = IF | 2n;
    post(0x51);
    expect(guest.go().vector).toBe(0x51);
    expect(returnAddress()).toBe(3);
  });

  it("MOV SS in the shadow of STI has a shadow of its own", () => {
    guest.state.setGpr(0, BigInt(SELECTOR.DATA));
    post(0x51);
    guest.run((asm) => {
      asm.op("sti");
      asm.mov(ss, rax);
      asm.op("nop");
      asm.op("nop");
    });
    expect(returnAddress()).toBe(4);
  });

  it("the priority class must be above TPR's", () => {
    guest.state.rflags = IF | 2n;
    guest.view.setUint32(AT.VIRTUAL_APIC + 0x80, 0x50, true);
    post(0x51);
    expect(guest.run((asm) => asm.op("nop")).vector).toBeNull();
    guest.view.setUint32(AT.VIRTUAL_APIC + 0x80, 0x4f, true);
    expect(guest.go().vector).toBe(0x51);
  });

  it("a debug trap comes first, the interrupt hits its handler's first instruction if IF is left", () => {
    guest.gate(1, { type: 15 });
    guest.state.rflags = IF | 0x102n;
    guest.load((asm) => asm.op("nop"));
    guest.core.run(1);
    post(0x51);
    expect(guest.go().vector).toBe(0x51);
    expect(Number(guest.stack(1)[0])).toBe(AT.HANDLERS + 16);
  });

  it("comes before an instruction breakpoint", () => {
    guest.state.rflags = IF | 2n;
    guest.state.set(REG.DR, BigInt(AT.CODE));
    guest.state.set(REG.DR + 40, 0x401n);
    post(0x51);
    expect(guest.run((asm) => asm.op("nop")).vector).toBe(0x51);
  });
});
