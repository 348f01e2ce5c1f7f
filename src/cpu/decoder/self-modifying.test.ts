import { beforeEach, describe, expect, it } from "vitest";
import { byte, dword, eax, qword, rax, rbx, rcx } from "../../arch/assembler/index.js";
import { INDEX_ARENA, RECORD_ARENA, RECORD_SIZE } from "../layout.js";
import { AT, SELECTOR, TestMachine } from "../testing.js";

const machine = new TestMachine();
const { state, core } = machine;
const limits = { ...core.executor.code.limits };

beforeEach(() => {
  machine.reset();
  Object.assign(core.executor.code.limits, limits);
});

describe("stores into code", () => {
  it("the next instruction", () => {
    machine.run((asm) => {
      const next = asm.label("next");
      asm.db(0xc6, 0x05, 1, 0, 0, 0, 0x07);
      asm.bind(next);
      // mov eax, imm32: the store changes its immediate.
      asm.db(0xb8, 1, 0, 0, 0);
    });
    expect(state.gpr(0)).toBe(7n);
  });

  it("an instruction that has been executed, in a loop", () => {
    machine.run((asm) => {
      asm.mov(rcx, 5n);
      const again = asm.here("again");
      asm.db(0xb8, 1, 0, 0, 0);
      asm.add(rbx, rax);
      asm.inc(byte(AT.CODE + 8));
      asm.loop(again);
    });
    expect(state.gpr(3)).toBe(1n + 2n + 3n + 4n + 5n);
  });

  it("the same page, beside the code: the code goes on", () => {
    machine.run((asm) => {
      asm.mov(qword(AT.CODE + 0x800), 3);
      asm.mov(rax, qword(AT.CODE + 0x800));
    });
    expect(state.gpr(0)).toBe(3n);
  });

  it("through an alias mapping", () => {
    machine.map(AT.DATA, BigInt(AT.CODE) | 7n);
    machine.run((asm) => {
      asm.mov(rcx, 2n);
      const again = asm.here("again");
      asm.db(0xb8, 1, 0, 0, 0);
      asm.mov(byte(AT.DATA + 8), 9);
      asm.loop(again);
    });
    expect(state.gpr(0)).toBe(9n);
  });

  it("by a repeated string instruction", () => {
    machine.run((asm) => {
      asm.mov(rcx, 2n);
      const again = asm.here("again");
      asm.db(0xb8, 1, 0, 0, 0);
      asm.mov(rbx, rcx);
      asm.db(0xbf, 8, 0, 1, 0, 0xb9, 4, 0, 0, 0, 0x50, 0x31, 0xc0, 0xb0, 0x22);
      asm.string("stosb", "rep");
      asm.pop(rax);
      asm.mov(rcx, rbx);
      asm.loop(again);
    });
    expect(state.gpr(0)).toBe(0x2222_2222n);
  });

  it("by the host", () => {
    machine.run((asm) => asm.db(0xb8, 1, 0, 0, 0));
    machine.bytes[AT.CODE + 1] = 4;
    core.invalidateCode(AT.CODE + 1, 1);
    state.rip = BigInt(AT.CODE);
    machine.go();
    expect(state.gpr(0)).toBe(4n);
  });
});

describe("code across two pages", () => {
  const EDGE = AT.CODE + 0xffe;
  const start = (): void => machine.load((asm) => asm.db(0xb8, 0x11, 0x22, 0x33, 0x44), { address: EDGE });
  const value = (): bigint => {
    state.rip = BigInt(EDGE);
    machine.go();
    return state.gpr(0);
  };

  it("sees a change of its second page", () => {
    start();
    expect(value()).toBe(0x4433_2211n);
    machine.bytes[AT.CODE + 0x1000] = 0x99;
    core.invalidateCode(AT.CODE + 0x1000, 1);
    expect(value()).toBe(0x4433_9911n);
  });

  it("sees that the second page has been mapped elsewhere", () => {
    start();
    expect(value()).toBe(0x4433_2211n);
    machine.bytes.set([0xaa, 0xbb, 0xcc, 0xeb, 0xfe], AT.DATA);
    machine.map(AT.CODE + 0x1000, BigInt(AT.DATA) | 7n);
    expect(value()).toBe(0xccbb_aa11n);
  });

  it("faults for the second page when that is gone", () => {
    start();
    expect(value()).toBe(0x4433_2211n);
    machine.map(AT.CODE + 0x1000, 0n);
    state.rip = BigInt(EDGE);
    expect(machine.go().vector).toBe(14);
    expect(machine.stack(2)).toEqual([16n, BigInt(EDGE)]);
  });

  it("two instructions that cross into one page by different ways", () => {
    start();
    expect(value()).toBe(0x4433_2211n);
    // Another first page before the same second one.
    machine.bytes.set([0xb9], AT.DATA + 0xffe);
    machine.bytes.set([0x55], AT.DATA + 0xfff);
    machine.map(AT.DATA + 0x1000, BigInt(AT.CODE + 0x1000) | 7n);
    const { end } = machine;
    for (let n = 0; n < 3; n++) {
      state.rip = BigInt(AT.DATA + 0xffe);
      machine.end = AT.DATA + 0x1003;
      machine.go();
      expect(state.gpr(1)).toBe(0x4433_2255n);
      machine.end = end;
      expect(value()).toBe(0x4433_2211n);
    }
  });
});

describe("one page, two modes", () => {
  it("means one thing in 64-bit and another in 32-bit code", () => {
    // 48 is DEC EAX in 32-bit code and REX.W in 64-bit code.
    const code = [0x48, 0x90, 0xeb, 0xfe];
    const page = 0xd000;
    machine.bytes.set(code, page);
    machine.end = page + 2;
    for (let n = 0; n < 3; n++) {
      for (const bits of [64, 32, 16] as const) {
        machine.ring(0, bits === 64 ? 64 : 32);
        if (bits === 16)
          state.setSegment(1, { selector: SELECTOR.CODE16, base: 0n, limit: 0xffff_ffff, rights: 0x809b });
        state.setGpr(0, 0x5_0000n);
        state.rip = BigInt(page);
        machine.go();
        expect(state.gpr(0)).toBe({ 64: 0x5_0000n, 32: 0x4_ffffn, 16: 0x5_ffffn }[bits]);
      }
    }
  });
});

describe("full arenas", () => {
  it.each([
    ["records", { record: RECORD_ARENA.BASE + 4200 * RECORD_SIZE }],
    ["indexes", { index: INDEX_ARENA.BASE + 4 * INDEX_ARENA.SIZE }],
  ])("%s: everything is forgotten and decoded again", (_name, limit) => {
    Object.assign(core.executor.code.limits, limit);
    const PAGES = 24;
    for (let n = 0; n < PAGES; n++) {
      const next = n === PAGES - 1 ? AT.CODE : AT.CODE + (n + 1) * 0x1000;
      machine.load(
        (asm) => {
          for (let k = 0; k < 8; k++) asm.add(eax, 1);
          asm.mov(rbx, BigInt(next));
          if (n === PAGES - 1) {
            asm.dec(rcx);
            asm.j("nz", Object.assign(asm.label("start"), { address: AT.CODE }));
          } else asm.jmp(rbx);
        },
        { address: AT.CODE + n * 0x1000 },
      );
    }
    state.rip = BigInt(AT.CODE);
    state.setGpr(1, 3n);
    machine.go(5000);
    expect(state.gpr(0)).toBe(BigInt(3 * PAGES * 8));
  });
});

describe("breakAt", () => {
  it("stops once, before the instruction", () => {
    const seen: bigint[] = [];
    machine.load((asm) => {
      asm.mov(rcx, 3n);
      const again = asm.here("again");
      asm.inc(rax);
      asm.loop(again);
      asm.mov(dword(AT.DATA), 1);
    });
    core.breakAt(BigInt(AT.CODE + 7), (rip) => seen.push(rip));
    expect(core.run(100).kind).toBe("budget");
    expect(state.rip).toBe(BigInt(AT.CODE + 7));
    expect(state.gpr(0)).toBe(0n);
    machine.go();
    expect(seen).toEqual([BigInt(AT.CODE + 7)]);
    expect(state.gpr(0)).toBe(3n);
  });
});
