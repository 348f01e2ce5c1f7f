import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { type Assembler, qword, rax, rbx, rcx, rdi, rdx, rsi } from "../arch/assembler/index.js";
import { LOCAL, REG } from "./layout.js";
import { AT, TestMachine } from "./testing.js";

const machine = new TestMachine();
const { state, core } = machine;

beforeEach(() => machine.reset());

/** Instructions and ticks that a run of so many ticks takes. */
function count(ticks: number): [number, number] {
  const { retired, ticks: before } = core;
  core.run(ticks);
  return [core.retired - retired, core.ticks - before];
}

describe("retired and ticks", () => {
  it.each([0, 1, 2, 3, 7])("plain code: exactly %i", (n) => {
    machine.load((asm) => {
      for (let k = 0; k < 10; k++) asm.inc(rax);
    });
    expect(count(n)).toEqual([n, n]);
    expect(state.gpr(0)).toBe(BigInt(n));
    expect(state.rip).toBe(BigInt(AT.CODE + 3 * n));
  });

  it("a fault counts nothing", () => {
    machine.load((asm) => {
      asm.op("nop");
      asm.op("ud2");
    });
    // NOP, then two turns of the handler.
    expect(count(3)).toEqual([3, 3]);
    expect(Number(machine.stack(1)[0])).toBe(AT.CODE + 1);
  });

  it("a repeated string instruction costs a tick for each element and retires once", () => {
    machine.load((asm) => {
      asm.string("stosb", "rep");
      asm.op("nop");
    });
    state.setGpr(1, 10n);
    state.setGpr(7, BigInt(AT.DATA));
    expect(count(4)).toEqual([0, 4]);
    expect(state.gpr(1)).toBe(6n);
    expect(state.rip).toBe(BigInt(AT.CODE));
    expect(count(7)).toEqual([2, 7]);
    expect(state.rip).toBe(BigInt(AT.CODE + 3));
  });

  it("with RCX = 0 it is one instruction", () => {
    machine.load((asm) => asm.string("movsb", "rep"));
    expect(count(1)).toEqual([1, 1]);
  });

  it("system instructions count one each", () => {
    machine.load((asm) => {
      asm.op("clts");
      asm.op("rdtsc");
      asm.op("nop");
      asm.int(0x40);
    });
    expect(count(4)).toEqual([4, 4]);
    expect(Number(state.rip)).toBe(AT.HANDLERS + 0x40 * 16);
  });
});

describe("exits", () => {
  const guest = new TestMachine();
  it("an instruction that the module carries out counts when it is done", () => {
    guest.enterGuest();
    guest.load((asm) => {
      asm.op("nop");
      asm.op("cpuid");
      asm.op("nop");
    });
    const before = guest.core.retired;
    const stop = guest.core.run(10);
    expect(stop).toMatchObject({ kind: "vm-exit", exit: { reason: 10, instructionLength: 2 } });
    expect(guest.core.retired - before).toBe(1);
    guest.state.rip += 2n;
    // Its tick is the first one of the next run.
    guest.core.run(1);
    expect(guest.core.retired - before).toBe(2);
    guest.core.run(1);
    expect(guest.core.retired - before).toBe(3);
  });

  it("one that is repeated does not", () => {
    guest.reset();
    guest.enterGuest();
    guest.load((asm) => asm.op("cpuid"));
    const before = guest.core.retired;
    guest.core.run(10);
    guest.core.run(10);
    expect(guest.core.retired).toBe(before);
  });

  it("an event that is injected instead leaves it undone", () => {
    guest.reset();
    guest.enterGuest();
    guest.load((asm) => asm.op("cpuid"));
    const before = guest.core.retired;
    guest.core.run(10);
    Object.assign(guest.core.entryEvent, { interruptionInfo: 0x8000_0314, errorCode: 0, instructionLength: 0 });
    guest.core.run(0);
    expect(guest.core.retired).toBe(before);
    expect(Number(guest.stack(1)[0])).toBe(AT.CODE);
  });
});

/** Pieces of random programs: registers, memory, flags, strings, system instructions, faults, code that changes itself. */
const PIECES: readonly ((asm: Assembler, n: number) => void)[] = [
  (asm, n) => asm.add(rax, n),
  (asm, n) => asm.mov(qword(AT.DATA + n * 8), rax),
  (asm, n) => asm.sub(rbx, qword(AT.DATA + n * 8)),
  (asm) => asm.adc(rax, rbx),
  (asm, n) => {
    asm.mov(rdi, BigInt(AT.DATA + 0xfc0 + n));
    asm.mov(rcx, BigInt(n * 5));
    asm.string("stosb", "rep");
  },
  (asm, n) => {
    asm.mov(rsi, BigInt(AT.DATA + n));
    asm.mov(rdi, BigInt(AT.DATA + 0xff8));
    asm.mov(rcx, BigInt(n * 3));
    asm.string("movsw", "rep");
  },
  (asm, n) => {
    asm.mov(rdi, BigInt(AT.DATA));
    asm.mov(rcx, BigInt(n * 7));
    asm.string("scasb", "repe");
  },
  (asm, n) => {
    asm.mov(rcx, BigInt(n + 1));
    const again = asm.here("again");
    asm.add(rdx, rcx);
    asm.loop(again);
  },
  (asm) => asm.op("rdtsc"),
  (asm) => {
    asm.op("sti");
    asm.op("cli");
  },
  (asm, n) => asm.db(0xc6, 0x05, 1, 0, 0, 0, n, 0xb8, 1, 0, 0, 0),
  (asm) => {
    asm.push(rax);
    asm.pop(rbx);
  },
  (asm, n) => asm.int(0x80 + n),
];
const program = fc.array(fc.tuple(fc.nat(PIECES.length - 1), fc.nat(15)), { minLength: 1, maxLength: 24 });

/** Runs a program in slices and gives all that can be seen of the end. */
function endState(pieces: readonly (readonly [number, number])[], slices: readonly number[]): unknown {
  machine.reset();
  // INT handlers return.
  for (let n = 0x80; n < 0x90; n++) machine.bytes.set([0x48, 0xff, 0xc2, 0x48, 0xcf], AT.HANDLERS + n * 16);
  state.set(LOCAL.RANDOM, 1n);
  machine.load((asm) => {
    for (const [kind, n] of pieces) (PIECES[kind] as (typeof PIECES)[number])(asm, n);
  });
  const { retired, ticks } = core;
  const TOTAL = 3000;
  for (let n = 0; core.ticks - ticks < TOTAL; n++) {
    const left = TOTAL - (core.ticks - ticks);
    core.clock = core.ticks - ticks;
    core.run(Math.min(left, slices[n % slices.length] as number));
  }
  const gprs = Array.from({ length: 16 }, (_, n) => state.gpr(n));
  return {
    gprs,
    rip: state.rip,
    rflags: state.rflags,
    interruptibility: state.get32(REG.INTERRUPTIBILITY),
    retired: core.retired - retired,
    memory: machine.bytes.slice(AT.STACK - 0x100, AT.DATA + 0x1200).join(),
  };
}

describe("slices", () => {
  it("of any size lead to the same end", () => {
    fc.assert(
      fc.property(
        program,
        fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 }),
        (pieces, slices) => {
          expect(endState(pieces, slices)).toEqual(endState(pieces, [3000]));
        },
      ),
      { numRuns: 60, seed: 1 },
    );
  });
});
