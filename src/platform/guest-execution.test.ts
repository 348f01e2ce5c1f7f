import { describe, expect, it } from "vitest";
import { BANK, MCG_STATUS } from "../arch/mca.js";
import { LOCAL, REG } from "../cpu/layout.js";
import type { VmExit } from "../cpu/vm-exit.js";
import type { PlatformConfig } from "./config.js";
import { ProcessorShutdown } from "./faults.js";
import type { AccessKind, CoreStop } from "./guest-core.js";
import { enteringModule, fakeModule, instructionExit, testMachine } from "./testing.js";

const TD = 40;
const gprs = (): BigUint64Array<ArrayBuffer> => new BigUint64Array(16);

function guest(config: Partial<PlatformConfig> = {}) {
  const machine = testMachine(config);
  const exits: VmExit[] = [];
  machine.platform.loadModule(enteringModule(exits));
  return { ...machine, exits };
}

describe("slices", () => {
  it("stop exactly at boundaries, in SEAM non-root", () => {
    const { platform, lp, core, exits } = guest();
    core.step = (c) => (c.retired === 1000 ? instructionExit() : null);
    const seen: [number, string][] = [];
    for (const at of [1, 500, 501, 1000]) platform.boundaries.at(at, () => seen.push([core.retired, lp.mode]));
    lp.seamcall(gprs());
    expect(seen).toEqual([1, 500, 501, 1000].map((at) => [at, "seam-non-root"]));
    expect(exits.map(({ reason }) => reason)).toEqual([77]);
  });

  it("a boundary is exact although iterations of rep use up ticks", () => {
    const { platform, lp, core } = guest();
    core.step = (c) => {
      if (c.retired === 20) return instructionExit();
      // Seven further iterations of the instruction at hand.
      c.ticks += 7;
      return null;
    };
    const seen: number[] = [];
    platform.boundaries.at(13, () => seen.push(core.retired));
    lp.seamcall(gprs());
    expect(seen).toEqual([13]);
    expect(platform.clock.now).toBe(core.ticks);
  });

  it("stop at timers, whose interrupts exit with their vector", () => {
    const { platform, lp, core, exits } = guest();
    platform.clock.setTimer(250, () => lp.raiseInterrupt(0xec));
    lp.seamcall(gprs());
    expect(core.retired).toBe(250);
    expect(platform.clock.now).toBe(250);
    expect(exits[0]).toMatchObject({ reason: 1, interruptionInfo: 0x800000ec });
    expect(lp.latches.empty).toBe(true);
  });

  it("a boundary's event is pending on that boundary: the next instruction does not run", () => {
    const { platform, lp, core, exits } = guest();
    platform.boundaries.at(77, () => lp.raise("smi"));
    lp.seamcall(gprs());
    expect(core.retired).toBe(77);
    expect(exits[0]).toMatchObject({ reason: 6, qualification: 0n });
  });

  it("P6: an exit by the instruction itself wins; the SMI is taken after SEAMRET", () => {
    const { platform, lp, core, exits, log } = guest();
    core.step = (c) => {
      if (c.retired < 9) return null;
      lp.raise("smi");
      return instructionExit();
    };
    platform.smi.handler = null;
    lp.seamcall(gprs());
    expect(exits.map(({ reason }) => reason)).toEqual([77]);
    expect(log.map(({ event }) => event)).toEqual(["smi-latched", "seamret", "smm-enter", "smm-exit"]);
  });
});

describe("shadows, traps and windows", () => {
  it("P23: a MOV-SS shadow delays an SMI by one instruction", () => {
    const { platform, lp, core, exits } = guest();
    platform.boundaries.at(4, () => {
      core.state.set32(REG.INTERRUPTIBILITY, 2);
      lp.raise("smi");
    });
    lp.seamcall(gprs());
    expect(core.retired).toBe(5);
    expect(exits[0]?.reason).toBe(6);
  });

  it("P22: IF = 0, an STI shadow and blocked NMIs do not hold an SMI", () => {
    const { platform, lp, core, exits } = guest();
    platform.boundaries.at(4, () => {
      core.state.set32(REG.INTERRUPTIBILITY, 1 | 8);
      lp.raise("smi");
    });
    lp.seamcall(gprs());
    expect(core.retired).toBe(4);
    expect(exits[0]?.reason).toBe(6);
    expect(core.state.get32(REG.INTERRUPTIBILITY)).toBe(9);
  });

  it("the monitor trap flag exits after one instruction, and an SMI goes before it", () => {
    const { lp, core, exits } = guest();
    core.controls.monitorTrapFlag = true;
    lp.seamcall(gprs());
    expect(core.retired).toBe(1);
    core.step = () => {
      lp.raise("smi");
      return null;
    };
    lp.seamcall(gprs());
    expect(core.retired).toBe(2);
    expect(exits.map(({ reason }) => reason)).toEqual([37, 6]);
  });

  it("NMI-window exit: at once when NMIs are open, else after the IRET", () => {
    const { lp, core, exits } = guest();
    core.controls.nmiWindowExiting = true;
    lp.seamcall(gprs());
    expect(core.retired).toBe(0);
    core.state.set32(REG.INTERRUPTIBILITY, 8);
    core.step = (c) => {
      if (c.retired === 3) c.state.set32(REG.INTERRUPTIBILITY, 0);
      return null;
    };
    lp.seamcall(gprs());
    expect(core.retired).toBe(4);
    expect(exits.map(({ reason }) => reason)).toEqual([8, 8]);
  });

  it("an injected event is delivered before a pending exit", () => {
    const { platform, lp, core, exits } = guest();
    const enter = platform.seamModule;
    platform.loadModule(
      fakeModule((context, registers) => {
        context.guest.entryEvent.interruptionInfo = 0x80000314;
        lp.raise("smi");
        enter?.seamcall(context, registers);
      }),
    );
    lp.seamcall(gprs());
    expect(core.delivered).toEqual([0x80000314]);
    expect(core.retired).toBe(0);
    expect(exits[0]?.reason).toBe(6);
  });

  it("a triple fault is exit 2", () => {
    const { lp, core, exits } = guest();
    core.step = () => ({ kind: "triple-fault" });
    lp.seamcall(gprs());
    expect(exits[0]?.reason).toBe(2);
  });
});

describe("posted interrupts (kvm-tdx-host facts 4.2)", () => {
  it("the notification vector goes to the virtual APIC, at entry and while the guest runs", () => {
    const { platform, lp, core, exits } = guest();
    core.controls.postedInterrupts = true;
    core.controls.notificationVector = 0xf2;
    core.step = (c) => (c.retired === 50 ? instructionExit() : null);
    lp.selfIpi(0xf2);
    platform.boundaries.at(20, () => lp.raiseInterrupt(0xf2));
    lp.seamcall(gprs());
    expect(core.posted).toBe(2);
    expect(exits.map(({ reason }) => reason)).toEqual([77]);
    expect(lp.latches.empty).toBe(true);
  });

  it("any other vector exits, and so does that one where nothing is posted", () => {
    const { lp, core, exits } = guest();
    core.controls.notificationVector = 0xf2;
    lp.selfIpi(0xf2);
    lp.seamcall(gprs());
    expect(exits[0]).toMatchObject({ reason: 1, interruptionInfo: 0x800000f2 });
  });
});

/** The guest's instruction after the tenth makes one access. */
function accessing(config: Partial<PlatformConfig>, access: AccessKind, keyId = TD) {
  const machine = guest(config);
  const { platform, core } = machine;
  platform.memory.seam.fill(0x8000, 4096, 0x11, TD);
  let passed = 0;
  core.step = (c): CoreStop | null => {
    if (c.retired === 12) return instructionExit();
    if (c.retired !== 10) return null;
    if (c.passes.length > passed) {
      passed = c.passes.length;
      return null;
    }
    return { kind: "odd-access", hpa: 0x8048, length: 8, access, keyId };
  };
  const unit = machine.lp.machineCheckUnit;
  return { ...machine, unit };
}

describe("poison consumption by a TD", () => {
  it("M1: banks, MSMI, exit 6 with bit 0, one SMM entry after SEAMRET", () => {
    const { platform, lp, core, exits, log, unit } = accessing({}, "load");
    lp.writeMsr(0x4d0, 1n);
    platform.memory.poisonLine(0x8040);
    const registers = gprs();
    expect(lp.seamcall(registers)).toBe("ok");
    expect(core.retired).toBe(10);
    expect(exits[0]).toMatchObject({ reason: 6, qualification: 1n });
    expect(registers[0]).toBe(0x6000_0005_0000_0006n);
    const address = (BigInt(TD) << 46n) | 0x8040n;
    expect(unit.bank(BANK.IMC)).toMatchObject({ status: 0xbc00_0000_082a_0090n, addr: address, misc: 0x86n });
    expect(unit.bank(BANK.DCU)).toMatchObject({ status: 0xbd80_0000_0000_0134n, addr: address, misc: 0x86n });
    expect(unit.status).toBe(0x100fn);
    expect(log.map(({ event }) => event)).toEqual([
      "mca-logged",
      "mca-logged",
      "smi-latched",
      "seamret",
      "smm-enter",
      "smm-exit",
    ]);
    expect(log[2]?.fields).toEqual({ msmi: true });
    expect(log[4]?.fields).toMatchObject({ smiCount: 1, rax: 0x6000_0005_0000_0006n });
    // MSMI and the memory controller's CSMI merged: nothing is lost (I1).
    expect([lp.smiLatched, lp.smiCount, lp.latches.merged]).toEqual([2, 1, 1]);
  });

  it("M2: a line that the host has written reports the owner code", () => {
    const { platform, lp, unit } = accessing({}, "load");
    platform.memory.host.write64(0x8040, 1n);
    lp.seamcall(gprs());
    expect(unit.bank(BANK.IMC).status).toBe(0xbc00_0000_082b_0090n);
  });

  it("an instruction fetch reports to the IFU", () => {
    const { platform, lp, unit } = accessing({}, "fetch");
    platform.memory.poisonLine(0x8040);
    lp.seamcall(gprs());
    expect(unit.bank(BANK.IFU).status).toBe(0xbd80_0000_0000_0150n);
    expect(unit.bank(BANK.DCU).valid).toBe(false);
  });

  it("a page walk corrupts the context", () => {
    const { platform, lp, unit } = accessing({}, "walk");
    platform.memory.poisonLine(0x8040);
    lp.seamcall(gprs());
    expect(unit.bank(BANK.DCU).status).toBe(0xbf80_0000_0000_0134n);
  });

  it("D1: without morphing it is exit 0 with vector 18, and no SMM", () => {
    const { platform, lp, exits, log } = accessing({ emca: false }, "load");
    platform.memory.poisonLine(0x8040);
    lp.seamcall(gprs());
    expect(exits[0]).toMatchObject({ reason: 0, interruptionInfo: 0x80000312 });
    expect(log.map(({ event }) => event)).not.toContain("smm-enter");
  });

  it("M4: a store to a poisoned line is no event", () => {
    const { platform, lp, core, exits } = accessing({}, "store");
    platform.memory.poisonLine(0x8040);
    lp.seamcall(gprs());
    expect(exits[0]?.reason).toBe(77);
    expect(core.passes).toEqual([undefined]);
    expect(platform.memory.lineState(0x8040).poison).toBe("integrity");
  });

  it("a healthy line of an odd page passes, and the shared alias of a private line reads zeros", () => {
    const { platform, lp, core } = accessing({}, "load");
    platform.memory.poisonLine(0x8000);
    lp.seamcall(gprs());
    expect(core.passes).toEqual([undefined]);
    const alias = accessing({}, "load", 0);
    alias.lp.seamcall(gprs());
    expect(alias.core.passes).toEqual([new Uint8Array(8)]);
  });

  it("an MSMI from an instruction in a MOV-SS shadow does not wait for the next one", () => {
    const { platform, lp, core, exits } = accessing({}, "load");
    platform.memory.poisonLine(0x8040);
    platform.boundaries.at(10, () => core.state.set32(REG.INTERRUPTIBILITY, 2));
    lp.seamcall(gprs());
    expect(exits[0]).toMatchObject({ reason: 6, qualification: 1n });
    expect(core.retired).toBe(10);
  });

  it("M29: a machine check while MCIP is set shuts the processor and TDX down", () => {
    const { platform, lp, unit } = accessing({}, "load");
    platform.memory.poisonLine(0x8040);
    unit.status = MCG_STATUS.MCIP;
    expect(() => lp.seamcall(gprs())).toThrow(ProcessorShutdown);
    expect(platform.seamModule).toBeNull();
  });

  it("M22: without SEAM_NR the platform does not tell where it happened", () => {
    const { platform, lp, unit } = accessing({ seamNr: false }, "load");
    platform.memory.poisonLine(0x8040);
    lp.seamcall(gprs());
    expect(unit.status).toBe(0x7n);
    expect(lp.readMsr(0x179)).toBe(0x0f000c15n);
  });

  it("M10: without LMCE every processor gets an MSMI; the others were not concerned", () => {
    const { platform, lp, unit } = accessing({ logicalProcessors: 2 }, "load");
    platform.memory.poisonLine(0x8040);
    lp.seamcall(gprs());
    expect(unit.status).toBe(0x1007n);
    const other = platform.lps[1];
    expect(other?.machineCheckUnit.status).toBe(MCG_STATUS.MCIP | MCG_STATUS.RIPV);
    expect(other?.smiCount).toBe(1);
  });
});

describe("watchLoad", () => {
  it("tells the access once, and poison planted there is consumed by it", () => {
    const { platform, lp, core, exits } = guest();
    platform.memory.seam.fill(0x8000, 4096, 0x11, TD);
    const seen: unknown[] = [];
    core.step = (c): CoreStop | null => {
      if (c.retired !== 5) return null;
      if (c.state.get32(LOCAL.WATCH_LOAD) === 1) return { kind: "watch", gpa: 0x7010, hpa: 0x8010, access: "load" };
      return { kind: "odd-access", hpa: 0x8010, length: 4, access: "load", keyId: TD };
    };
    platform.watchLoad((gpa, hpa, kind) => {
      seen.push([gpa, hpa, kind, core.retired]);
      platform.memory.poisonLine(hpa);
    });
    lp.seamcall(gprs());
    expect(seen).toEqual([[0x7010, 0x8010, "load", 5]]);
    expect(exits[0]).toMatchObject({ reason: 6, qualification: 1n });
    expect(core.flushes).toBeGreaterThan(0);
  });

  it("can be taken back, and a fetch is another watch", () => {
    const { platform, core } = guest();
    const cancel = platform.watchLoad(() => undefined, "fetch");
    expect(core.state.get32(LOCAL.WATCH_LOAD)).toBe(2);
    cancel();
    expect(core.state.get32(LOCAL.WATCH_LOAD)).toBe(0);
  });
});

it("a boundary action that throws ends the run right there, and the host can go on with SEAMCALLs", () => {
  const { platform, lp, core } = guest();
  platform.boundaries.at(500, () => {
    throw new Error("limit");
  });
  expect(() => lp.seamcall(gprs())).toThrow("limit");
  expect([core.retired, platform.clock.now, lp.mode]).toEqual([500, 500, "root"]);
  platform.loadModule(fakeModule(() => undefined));
  expect(lp.seamcall(gprs())).toBe("ok");
});
