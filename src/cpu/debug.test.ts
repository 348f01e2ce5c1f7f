import { beforeEach, describe, expect, it } from "vitest";
import { type Assembler, qword, rax, rbx, ss } from "../arch/assembler/index.js";
import { REG } from "./layout.js";
import { AT, SELECTOR, TestMachine } from "./testing.js";

const machine = new TestMachine();
const { state, core } = machine;
const DB = 1;
const DR6 = REG.DR + 32;
const DR7 = REG.DR + 40;
const BS = 0x4000n;
const TF = 0x102n;
const RF = 0x1_0000n;
const DATA = BigInt(AT.DATA);

beforeEach(() => machine.reset());

function breakpoint(n: number, address: bigint, kind: number, bytes: 1 | 2 | 4 | 8 = 1): void {
  const length = { 1: 0, 2: 1, 8: 2, 4: 3 }[bytes];
  state.set(REG.DR + n * 8, address);
  state.set(DR7, state.get(DR7) | (1n << BigInt(n * 2)) | (BigInt(kind | (length << 2)) << BigInt(16 + n * 4)));
}

/** Runs; the return address of the debug exception less the start of the code, null without one. */
function trappedAt(code: (asm: Assembler) => void): number | null {
  const { vector } = machine.run(code);
  if (vector === null) return null;
  expect(vector).toBe(DB);
  return Number(machine.stack(1)[0]) - AT.CODE;
}

describe("single step", () => {
  it("traps after one instruction; the handler runs without TF, the frame keeps it", () => {
    state.rflags = TF;
    expect(trappedAt((asm) => asm.op("nop"))).toBe(1);
    expect(state.get(DR6)).toBe(0xffff_0ff0n | BS);
    expect(state.rflags & 0x100n).toBe(0n);
    expect(machine.stack(3)[2]).toBe(TF);
  });

  it("traps after each iteration of a repeated string instruction", () => {
    machine.load((asm) => {
      asm.db(0xbf, 0, 0, 2, 0, 0xb9, 3, 0, 0, 0);
      asm.string("stosb", "rep");
      asm.op("nop");
    });
    core.run(2);
    for (const [rcx, offset] of [
      [2n, 10],
      [1n, 10],
      [0n, 12],
    ] as const) {
      state.rflags = TF;
      machine.go(5);
      expect(state.gpr(1)).toBe(rcx);
      expect(Number(machine.stack(1)[0]) - AT.CODE).toBe(offset);
      state.rip = BigInt(AT.CODE + offset);
    }
  });

  it("POPF that sets TF is not trapped, the next instruction is", () => {
    expect(
      trappedAt((asm) => {
        asm.push(0x102);
        asm.op("popf");
        asm.op("nop");
        asm.op("nop");
      }),
    ).toBe(7);
  });

  it("waits behind MOV SS", () => {
    state.setGpr(0, BigInt(SELECTOR.DATA));
    state.rflags = TF;
    expect(
      trappedAt((asm) => {
        asm.mov(ss, rax);
        asm.op("nop");
        asm.op("nop");
      }),
    ).toBe(3);
  });

  it("an instruction that delivers an event is not trapped", () => {
    state.rflags = TF;
    expect(machine.run((asm) => asm.int(0x40)).vector).toBe(0x40);
    expect(state.get(REG.PENDING_DEBUG)).toBe(0n);
  });

  it("SYSCALL that masks TF is not trapped", () => {
    machine.ring(3);
    state.set(REG.STAR, BigInt(SELECTOR.CODE64) << 32n);
    state.set(REG.LSTAR, BigInt(AT.HANDLERS + 0x80 * 16));
    state.set(REG.FMASK, 0x100n);
    state.rflags = TF;
    expect(machine.run((asm) => asm.op("syscall")).vector).toBe(0x80);
  });

  it("a fault instead of the instruction is not trapped", () => {
    state.rflags = TF;
    expect(machine.run((asm) => asm.op("ud2")).vector).toBe(6);
    expect(state.get(DR6) & BS).toBe(0n);
  });

  it("a trap that the module left pending comes before the next instruction", () => {
    state.set(REG.PENDING_DEBUG, BS);
    expect(trappedAt((asm) => asm.op("nop"))).toBe(0);
    expect(state.get(DR6) & BS).toBe(BS);
  });
});

describe("instruction breakpoints", () => {
  it("fault before the instruction, with RF clear in the frame", () => {
    breakpoint(2, BigInt(AT.CODE + 1), 0);
    expect(
      trappedAt((asm) => {
        asm.op("nop");
        asm.op("stc");
      }),
    ).toBe(1);
    expect(state.get(DR6)).toBe(0xffff_0ff0n | 4n);
    expect(machine.stack(3)[2]).toBe(2n);
  });

  it("RF holds them off for one instruction, also when IRET sets it", () => {
    breakpoint(0, BigInt(AT.CODE), 0);
    state.rflags = RF | 2n;
    expect(trappedAt((asm) => asm.op("nop"))).toBeNull();
    state.rip = BigInt(AT.CODE);
    expect(machine.go().vector).toBe(DB);
    // The handler sets RF in its frame and returns.
    machine.view.setBigUint64(Number(state.gpr(4)) + 16, 0x1_0002n, true);
    machine.load((asm) => asm.op("iretq"), { address: AT.CODE + 0x800 });
    machine.end = AT.CODE + 1;
    expect(machine.go().vector).toBeNull();
    expect(state.rflags & RF).toBe(0n);
  });

  it("no enabled one, no effect", () => {
    state.set(REG.DR, BigInt(AT.CODE));
    expect(trappedAt((asm) => asm.op("nop"))).toBeNull();
  });

  it("RF ends with the next instruction when nothing is enabled", () => {
    state.rflags = RF | 2n;
    machine.run((asm) => asm.op("nop"));
    expect(state.rflags & RF).toBe(0n);
  });

  it("an exception other than #DB saves RF = 1", () => {
    machine.run((asm) => asm.op("ud2"));
    expect(machine.stack(3)[2]).toBe(RF | 2n);
  });
});

const READ = (asm: Assembler): void => asm.mov(rax, qword(rbx));
const WRITE = (asm: Assembler): void => asm.mov(qword(rbx), rax);
const UPDATE = (asm: Assembler): void => asm.add(qword(rbx), 1);
const PUSH = (asm: Assembler): void => asm.push(rax);

describe("data breakpoints", () => {
  it.each([
    ["write on a write", 1, 8, DATA, WRITE, true],
    ["write on an update", 1, 4, DATA + 4n, UPDATE, true],
    ["write on a read", 1, 8, DATA, READ, false],
    ["access on a read", 3, 1, DATA + 7n, READ, true],
    ["access beside the data", 3, 1, DATA + 8n, READ, false],
    ["the bits under the length do not count", 1, 4, DATA + 6n, WRITE, true],
    ["a push", 1, 8, BigInt(AT.STACK - 8), PUSH, true],
  ] as const)("%s", (_name, kind, bytes, address, code, hit) => {
    breakpoint(1, address, kind, bytes);
    const at = trappedAt((asm) => {
      asm.mov(rbx, DATA);
      code(asm);
      asm.op("nop");
    });
    expect(at !== null).toBe(hit);
    if (!hit) return;
    expect(at).toBeGreaterThan(7);
    expect(state.get(DR6)).toBe(0xffff_0ff0n | 2n);
  });

  it("traps after the write has been made, together with a single step", () => {
    breakpoint(3, DATA, 1, 8);
    state.setGpr(3, DATA);
    state.setGpr(0, 5n);
    state.rflags = TF;
    expect(trappedAt(WRITE)).toBe(3);
    expect(machine.view.getBigUint64(AT.DATA, true)).toBe(5n);
    expect(state.get(DR6)).toBe(0xffff_0ff0n | 8n | BS);
  });

  it("system instructions are watched as well", () => {
    breakpoint(0, DATA, 1, 2);
    state.setGpr(3, DATA);
    expect(trappedAt((asm) => asm.sgdt(qword(rbx)))).toBe(3);
  });

  it("accesses that were cached before are seen, and cost nothing when the breakpoint is gone", () => {
    machine.run((asm) => {
      asm.mov(rbx, DATA);
      asm.mov(qword(rbx), rbx);
    });
    breakpoint(0, DATA, 1, 8);
    expect(trappedAt(WRITE)).toBe(3);
    state.set(DR7, 0x400n);
    expect(trappedAt(WRITE)).toBeNull();
  });
});

describe("general detect", () => {
  it("faults before the move, and is cleared for the handler", () => {
    state.set(DR7, 0x2400n);
    expect(trappedAt((asm) => asm.db(0x0f, 0x21, 0xc0))).toBe(0);
    expect(state.get(DR6) & 0x2000n).toBe(0x2000n);
    expect(state.get(DR7)).toBe(0x400n);
  });
});
