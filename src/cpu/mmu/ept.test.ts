import { beforeEach, describe, expect, it } from "vitest";
import { type Assembler, qword, rax, rbx } from "../../arch/assembler/index.js";
import { LOCAL, PAGE_META, REG } from "../layout.js";
import { AT, TestMachine } from "../testing.js";

const machine = new TestMachine();
const { state, view, core } = machine;
const EPT_VIOLATION = 48;
const EPT_MISCONFIG = 49;
const VE = 20;
const SUPPRESS_VE = 1n << 63n;
const Q = { READ: 1, WRITE: 2, FETCH: 4, LINEAR: 0x80, FINAL: 0x100 } as const;
const KEY_ID = 5;
const SHARED48 = 2 ** 47;

beforeEach(() => {
  machine.reset();
  machine.enterGuest();
});

function leaf(gpa: number, value: bigint, shared = false): void {
  machine.table(machine.eptLeaves(shared), gpa >> 12, value);
  core.flushAll();
}
/** Maps the data page of the guest to the shared half. */
function mapShared(): void {
  machine.map(AT.DATA, BigInt(AT.DATA) | BigInt(2 ** (core.controls.gpaw - 1)) | 7n);
}

const ACCESSES: readonly [string, number, (asm: Assembler) => void][] = [
  ["read", Q.READ, (asm) => asm.mov(rax, qword(rbx))],
  ["write", Q.WRITE, (asm) => asm.mov(qword(rbx), rax)],
  ["fetch", Q.FETCH, (asm) => asm.jmp(rbx)],
];
const RIGHTS = [0n, 1n, 3n, 5n];

describe("EPT violations", () => {
  for (const [name, bit, code] of ACCESSES)
    for (const rights of RIGHTS)
      for (const shared of [false, true]) {
        if ((Number(rights) & bit) !== 0) continue;
        it(`${name} of a ${shared ? "shared" : "private"} page with rights ${rights}`, () => {
          if (shared) mapShared();
          leaf(AT.DATA, BigInt(AT.DATA) | rights | SUPPRESS_VE, shared);
          const exit = machine.exit((asm) => {
            asm.mov(rbx, BigInt(AT.DATA + 0x18));
            code(asm);
          });
          expect(exit.reason).toBe(EPT_VIOLATION);
          expect(exit.qualification).toBe(BigInt(bit | (Number(rights) << 3) | Q.LINEAR | Q.FINAL));
          expect(exit.guestLinearAddress).toBe(BigInt(AT.DATA + 0x18));
          expect(exit.guestPhysicalAddress).toBe(AT.DATA + 0x18 + (shared ? SHARED48 : 0));
          expect(exit.instructionLength).toBe(0);
        });
      }

  it("the rights of all levels are combined", () => {
    machine.table(AT.SEPT + 0x2000, 0, BigInt(AT.SEPT + 0x3000) | 5n);
    core.flushAll();
    const exit = machine.exit((asm) => {
      asm.mov(rbx, BigInt(AT.DATA));
      asm.mov(qword(rbx), rax);
    });
    // The first write is the one that sets a dirty or accessed flag, or the program's own.
    expect(Number(exit.qualification) & 0x3a).toBe(Q.WRITE | (5 << 3));
  });

  it("a paging structure: bit 8 is clear, the address is the entry's", () => {
    leaf(AT.PT, SUPPRESS_VE);
    machine.table(AT.PD, 1, 0x20_0000n | 0xe7n);
    machine.load((asm) => asm.op("nop"));
    const stop = core.run(10);
    if (stop.kind !== "vm-exit") throw new Error(stop.kind);
    expect(Number(stop.exit.qualification) & (Q.FINAL | Q.LINEAR | Q.READ)).toBe(Q.LINEAR | Q.READ);
    expect(stop.exit.guestPhysicalAddress).toBe(AT.PT + (AT.CODE >> 12) * 8);
    expect(stop.exit.guestLinearAddress).toBe(BigInt(AT.CODE));
  });

  it("an accessed flag that cannot be set is a write to the paging structure", () => {
    leaf(AT.PT, BigInt(AT.PT) | 5n | SUPPRESS_VE);
    machine.load((asm) => asm.op("nop"));
    const stop = core.run(10);
    if (stop.kind !== "vm-exit") throw new Error(stop.kind);
    expect(Number(stop.exit.qualification) & (Q.FINAL | Q.WRITE)).toBe(Q.WRITE);
  });

  it("no shared EPT: a violation without rights", () => {
    core.controls.sharedRoot = 0;
    core.applyControls();
    mapShared();
    const exit = machine.exit((asm) => {
      asm.mov(rbx, BigInt(AT.DATA));
      asm.mov(rax, qword(rbx));
    });
    expect(exit.qualification).toBe(BigInt(Q.READ | Q.LINEAR | Q.FINAL));
  });

  it("writable but not readable: misconfiguration", () => {
    leaf(AT.DATA, BigInt(AT.DATA) | 2n);
    const exit = machine.exit((asm) => {
      asm.mov(rbx, BigInt(AT.DATA));
      asm.mov(rax, qword(rbx));
    });
    expect(exit.reason).toBe(EPT_MISCONFIG);
    expect(exit.guestPhysicalAddress).toBe(AT.DATA);
  });

  it("2 MiB EPT pages", () => {
    machine.table(AT.PD, 1, 0x20_0000n | 0xe7n);
    view.setBigUint64(0x31_2340, 77n, true);
    machine.run((asm) => {
      asm.mov(rbx, 0x31_2340n);
      asm.mov(rax, qword(rbx));
    });
    expect(state.gpr(0)).toBe(77n);
  });

  it("five levels, with the SHARED bit in bit 51", () => {
    machine.reset();
    machine.enterGuest({ gpaw: 52 });
    state.set32(LOCAL.EPT_LEVELS, 5);
    state.set(LOCAL.SHARED_MASK, 1n << 51n);
    core.flushAll();
    mapShared();
    machine.run((asm) => {
      asm.mov(rbx, BigInt(AT.DATA));
      asm.mov(qword(rbx), 0x55);
      asm.mov(rax, qword(rbx));
    });
    expect(state.gpr(0)).toBe(0x55n);
    expect(view.getUint8(AT.DATA)).toBe(0x55);
    leaf(AT.DATA, SUPPRESS_VE, true);
    const exit = machine.exit((asm) => {
      asm.mov(rbx, BigInt(AT.DATA));
      asm.mov(rax, qword(rbx));
    });
    expect(exit.guestPhysicalAddress).toBe(AT.DATA + 2 ** 51);
  });
});

describe("convertible #VE", () => {
  const read = (asm: Assembler): void => {
    asm.mov(rbx, BigInt(AT.DATA + 8));
    asm.mov(rax, qword(rbx));
  };
  beforeEach(() => {
    machine.reset();
    machine.enterGuest();
    // Reset and a new shared mask, should a test before have had five levels.
    state.set32(LOCAL.EPT_LEVELS, 4);
    state.set(LOCAL.SHARED_MASK, 1n << 47n);
    mapShared();
    leaf(AT.DATA, 0n, true);
  });

  it("fills the information area and goes through vector 20", () => {
    expect(machine.run(read).vector).toBe(VE);
    expect(view.getUint32(AT.VE_INFO, true)).toBe(EPT_VIOLATION);
    expect(view.getUint32(AT.VE_INFO + 4, true)).toBe(0xffff_ffff);
    expect(view.getBigUint64(AT.VE_INFO + 8, true)).toBe(BigInt(Q.READ | Q.LINEAR | Q.FINAL));
    expect(view.getBigUint64(AT.VE_INFO + 16, true)).toBe(BigInt(AT.DATA + 8));
    expect(view.getBigUint64(AT.VE_INFO + 24, true)).toBe(BigInt(AT.DATA + 8) | (1n << 47n));
    expect(machine.stack(1)[0]).toBe(BigInt(AT.CODE + 7));
  });

  it("stays an exit while the area is in use", () => {
    view.setUint32(AT.VE_INFO + 4, 1, true);
    expect(machine.exit(read).reason).toBe(EPT_VIOLATION);
  });

  it("stays an exit with suppress-#VE set", () => {
    leaf(AT.DATA, SUPPRESS_VE, true);
    expect(machine.exit(read).reason).toBe(EPT_VIOLATION);
  });

  it("stays an exit during event delivery, which it names", () => {
    // The stack lies in the shared page: pushing the frame violates.
    const exit = machine.exit((asm) => {
      asm.mov(rbx, BigInt(AT.DATA + 0x800));
      asm.db(0x48, 0x89, 0xdc);
      asm.op("ud2");
    });
    expect(exit.reason).toBe(EPT_VIOLATION);
    expect(exit.idtVectoringInfo >>> 0).toBe(0x8000_0306);
  });
});

describe("odd pages", () => {
  beforeEach(() => {
    machine.reset();
    // All of memory belongs to the TD, but for what a test says.
    machine.enterGuest({ keyId: KEY_ID });
    state.set32(LOCAL.EPT_LEVELS, 4);
    state.set(LOCAL.SHARED_MASK, 1n << 47n);
    for (let hpa = 0; hpa < 0x20_0000; hpa += 4096) machine.meta(hpa, KEY_ID);
  });
  const odd = (hpa: number): void => machine.meta(hpa, KEY_ID | PAGE_META.ODD);

  it("a load stops before it and finds what the platform passes", () => {
    odd(AT.DATA);
    machine.load((asm) => {
      asm.mov(rbx, BigInt(AT.DATA + 0x10));
      asm.mov(rax, qword(rbx));
      asm.mov(rbx, qword(rbx));
    });
    const rip = AT.CODE + 7;
    expect(core.run(10)).toEqual({ kind: "odd-access", hpa: AT.DATA + 0x10, length: 8, access: "load", keyId: KEY_ID });
    expect(state.rip).toBe(BigInt(rip));
    core.passOddAccess(Uint8Array.from([1, 2, 3, 4, 5, 6, 7, 8]));
    // The pass is for that instruction alone: the next one asks again.
    expect(core.run(10).kind).toBe("odd-access");
    expect(state.gpr(0)).toBe(0x0807_0605_0403_0201n);
    view.setBigUint64(AT.DATA + 0x10, 9n, true);
    core.passOddAccess(undefined);
    expect(core.run(10).kind).toBe("budget");
    expect(state.gpr(3)).toBe(9n);
  });

  it("a store and a page of another owner", () => {
    machine.meta(AT.DATA, 0);
    machine.load((asm) => {
      asm.mov(rbx, BigInt(AT.DATA));
      asm.mov(qword(rbx), rbx);
    });
    expect(core.run(10)).toMatchObject({ kind: "odd-access", access: "store", length: 8 });
    core.passOddAccess(undefined);
    expect(core.run(10).kind).toBe("budget");
    expect(view.getBigUint64(AT.DATA, true)).toBe(BigInt(AT.DATA));
  });

  it("a shared access is one with KeyID 0", () => {
    mapShared();
    odd(AT.DATA);
    machine.load((asm) => {
      asm.mov(rbx, BigInt(AT.DATA));
      asm.mov(rax, qword(rbx));
    });
    expect(core.run(10)).toMatchObject({ kind: "odd-access", keyId: 0 });
  });

  it("a page walk", () => {
    odd(AT.PT);
    machine.load((asm) => asm.op("nop"));
    expect(core.run(1)).toMatchObject({
      kind: "odd-access",
      access: "walk",
      length: 8,
      hpa: AT.PT + (AT.CODE >> 12) * 8,
    });
    core.passOddAccess(undefined);
    expect(core.run(1).kind).toBe("budget");
    expect(state.rip).toBe(BigInt(AT.CODE + 1));
  });

  it("code in an odd page asks for every instruction and keeps nothing", () => {
    machine.load(
      (asm) => {
        asm.mov(rax, 1n);
        asm.add(rax, 2);
      },
      { address: AT.CODE + 0x39 },
    );
    odd(AT.CODE);
    // The first instruction ends with its line, the second lies in the next one.
    const first = core.run(2);
    expect(first).toMatchObject({ kind: "odd-access", access: "fetch", hpa: AT.CODE + 0x39, length: 7 });
    core.passOddAccess(undefined);
    const second = core.run(2);
    expect(second).toMatchObject({ kind: "odd-access", access: "fetch", hpa: AT.CODE + 0x40, length: 64 });
    expect(state.gpr(0)).toBe(1n);
    // What memory holds is not what is fetched.
    core.passOddAccess(Uint8Array.from([0x48, 0xff, 0xc8, 0x90, 0x90, 0x90, 0x90, 0x90]));
    expect(core.run(1).kind).toBe("budget");
    expect(state.gpr(0)).toBe(0n);
    state.rip = BigInt(AT.CODE + 0x40);
    expect(core.run(1).kind).toBe("odd-access");
  });

  it("an instruction across two odd lines asks for both", () => {
    machine.load((asm) => asm.mov(rax, 7n), { address: AT.CODE + 0x3c });
    odd(AT.CODE);
    expect(core.run(1)).toMatchObject({ hpa: AT.CODE + 0x3c, length: 4 });
    core.passOddAccess(undefined);
    expect(core.run(1)).toMatchObject({ hpa: AT.CODE + 0x40, length: 64 });
    core.passOddAccess(undefined);
    expect(core.run(1).kind).toBe("budget");
    expect(state.gpr(0)).toBe(7n);
  });

  it("an instruction that crosses into an odd page", () => {
    machine.load((asm) => asm.mov(rax, 7n), { address: AT.CODE + 0xffc });
    odd(AT.CODE + 0x1000);
    expect(core.run(1)).toMatchObject({ access: "fetch", hpa: AT.CODE + 0x1000 });
    core.passOddAccess(undefined);
    expect(core.run(1).kind).toBe("budget");
    expect(state.gpr(0)).toBe(7n);
  });

  it("every iteration of a repeated string instruction has passes of its own", () => {
    odd(AT.DATA);
    machine.load((asm) => {
      asm.db(0xbe, 0, 0, 2, 0, 0xbf, 0, 0, 3, 0, 0xb9, 32, 0, 0, 0);
      asm.string("movsb", "rep");
    });
    let asked = 0;
    for (;;) {
      const stop = core.run(100);
      if (stop.kind === "budget") break;
      expect(stop.kind).toBe("odd-access");
      core.passOddAccess(undefined);
      asked++;
    }
    expect(asked).toBe(32);
    expect(state.gpr(1)).toBe(0n);
  });

  it("a virtual interrupt whose stack is odd is not lost", () => {
    odd(AT.STACK - 0x1000);
    view.setUint32(AT.VIRTUAL_APIC + 0x200 + 2 * 16, 1, true);
    state.rflags = 0x202n;
    machine.load((asm) => asm.op("nop"));
    let asked = 0;
    for (;;) {
      const stop = core.run(20);
      if (stop.kind === "budget") break;
      core.passOddAccess(undefined);
      asked++;
    }
    expect(asked).toBeGreaterThan(0);
    expect(Number(state.rip)).toBe(AT.HANDLERS + 64 * 16);
    expect(view.getUint32(AT.VIRTUAL_APIC + 0x100 + 2 * 16, true)).toBe(1);
    expect(view.getUint32(AT.VIRTUAL_APIC + 0x200 + 2 * 16, true)).toBe(0);
  });

  it("an event of VM entry whose stack is odd is not lost", () => {
    odd(AT.STACK - 0x1000);
    machine.load((asm) => asm.op("nop"));
    Object.assign(core.entryEvent, { interruptionInfo: 0x8000_0202, errorCode: 0, instructionLength: 0 });
    while (core.run(20).kind === "odd-access") core.passOddAccess(undefined);
    expect(Number(state.rip)).toBe(AT.HANDLERS + 2 * 16);
    expect(state.get32(REG.INTERRUPTIBILITY)).toBe(8);
  });
});
