import { describe, expect, it } from "vitest";
import { MSR } from "../../arch/msr.js";
import { INTERRUPTIBILITY } from "../../arch/vmx.js";
import { REG } from "../../cpu/layout.js";
import { GPR } from "../../platform/seam.js";
import { type GuestStep, TestHost, type TestTd } from "../testing.js";

const SMI = { reason: 6, qualification: 0n };
const MSMI = { reason: 6, qualification: 1n };
const MTF = { reason: 37 };
const NMI = { reason: 0, interruptionInfo: 0x80000202 };

const start = (filter = true): { host: TestHost; td: TestTd } => {
  const host = new TestHost({ filter }).bringUp();
  return { host, td: host.runnableTd() };
};

/** Repeats what an interrupted guest does: one instruction, then the exit, as often as the module lets it. */
function stepped(
  td: TestTd,
  first: GuestStep,
  each: GuestStep,
): { steps: number; status: bigint; gprs: BigUint64Array } {
  const { lp } = td.host;
  const before = lp.entries;
  const { status, gprs } = td.enter([first, ...Array.from({ length: 40 }, () => each)]);
  // The first entry executed nothing, the last one neither.
  return { steps: lp.entries - before - 2, status, gprs };
}

describe("single-step filter", () => {
  it("lets an SMI right after entry out after 1 to 32 instructions", () => {
    const { host, td } = start();
    const seen = new Set<number>();
    for (let i = 0; i < 40; i++) {
      const { steps, status } = stepped(td, SMI, ({ guest }) => {
        if (guest.controls.monitorTrapFlag)
          expect(guest.state.get32(REG.INTERRUPTIBILITY)).toBe(INTERRUPTIBILITY.MOV_SS);
        guest.state.set32(REG.INTERRUPTIBILITY, 0);
        return SMI;
      });
      expect(status).toBe(6n);
      expect(steps).toBeGreaterThanOrEqual(1);
      expect(steps).toBeLessThanOrEqual(32);
      seen.add(steps);
    }
    expect(seen.size).toBeGreaterThan(10);
    expect(host.machine.guest.controls.monitorTrapFlag).toBe(false);
  });

  it("does so the same way every time", () => {
    const lengths = (): number[] => {
      const { td } = start();
      return Array.from({ length: 8 }, () => stepped(td, SMI, SMI).steps);
    };
    expect(lengths()).toEqual(lengths());
  });

  it("lets go what comes late or far away, and everything when it is off", () => {
    const far: GuestStep = ({ guest }) => {
      guest.state.rip -= 33n;
      return SMI;
    };
    const late: GuestStep = ({ machine }) => {
      machine.clock += 4097;
      return SMI;
    };
    for (const step of [far, late]) {
      const { host, td } = start();
      expect(td.enter([step]).status).toBe(6n);
      expect(host.lp.entries).toBe(1);
    }
    const { td } = start(false);
    expect(td.enter([SMI]).status).toBe(6n);
  });

  it("never holds an MSMI, at once or while it steps", () => {
    const { td } = start();
    expect(td.enter([MSMI]).status).toBe(0x6000_0005_0000_0006n);
    const other = start();
    expect(other.td.enter([NMI, MSMI]).status).toBe(0x6000_0005_0000_0006n);
  });

  it("sends interrupts and NMIs again", () => {
    const { host, td } = start();
    const interrupt = { reason: 1, interruptionInfo: 0x80000031 };
    td.enter([
      interrupt,
      ({ guest: { state } }) => {
        state.setGpr(GPR.RAX, 0n);
        return { reason: 12, instructionLength: 1 };
      },
      ({ machine }) => {
        machine.clock += 5000;
        return interrupt;
      },
    ]);
    expect(host.lp.ipis).toEqual([{ kind: "fixed", vector: 0x31 }]);
    host.lp.ipis.length = 0;
    // The NMI is remembered until the steps are done, and then comes by itself.
    const nmiWhenSent: GuestStep = ({ ipis }) => (ipis.length > 0 ? NMI : MTF);
    const { status, gprs } = td.enter([NMI, ...Array.from({ length: 40 }, () => nmiWhenSent)]);
    expect([status, gprs[GPR.R9]]).toEqual([0n, 0x80000202n]);
    expect(host.lp.ipis).toEqual([{ kind: "nmi", vector: 0 }]);
  });

  it("keeps virtual interrupts away meanwhile", () => {
    const { host, td } = start();
    const tpr = (): number => host.memory.read32(host.machine.guest.controls.virtualApicPage + 0x80, td.hkid);
    td.enter([
      SMI,
      () => {
        expect(tpr()).toBe(0xf0);
        return { reason: 12, instructionLength: 1 };
      },
      ({ machine }) => {
        expect(tpr()).toBe(0);
        machine.clock += 5000;
        return SMI;
      },
    ]);
  });

  it("kills the TD when the local APIC is off", () => {
    const { host, td } = start();
    host.machine.msrs.set(MSR.IA32_APIC_BASE, 0xfee00000n);
    expect(td.enter([SMI]).status).toBe(0xe000_0007_0000_0006n);
    expect(td.enter([]).status).toBe(0xe000_0604_0000_0000n);
  });
});
