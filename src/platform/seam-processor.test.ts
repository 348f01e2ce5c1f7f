import { expect, it } from "vitest";
import { REG, STATE_SIZE } from "../cpu/layout.js";
import type { SeamContext } from "./seam.js";
import { fakeModule, testMachine } from "./testing.js";

const TD = 40;

function inSeam(use: (context: SeamContext) => void) {
  const machine = testMachine({ logicalProcessors: 4, packages: 2, seed: 3n });
  machine.platform.loadModule(fakeModule((context) => use(context)));
  machine.platform.lps[3]?.seamcall(new BigUint64Array(16));
  return machine;
}

it("saves the register block to a vCPU's page and loads it back, and leaves nothing of it for the host", () => {
  inSeam(({ guest, memory }) => {
    guest.state.setGpr(3, 0x1122n);
    guest.state.rip = 0x4444n;
    guest.state.set(REG.XCR0, 3n);
    guest.save(0x9000, TD);
    guest.clear();
    expect([guest.state.gpr(3), guest.state.rip, guest.state.rflags]).toEqual([0n, 0n, 2n]);
    expect([guest.state.get(REG.XCR0), guest.state.get(REG.FMASK), guest.state.get(REG.DR + 40)]).toEqual([
      3n,
      0x20200n,
      0x400n,
    ]);
    guest.load(0x9000, TD);
    expect([guest.state.gpr(3), guest.state.rip]).toEqual([0x1122n, 0x4444n]);
    expect(memory.read(0x9000, STATE_SIZE, 0)).toEqual(new Uint8Array(STATE_SIZE));
  });
});

it("tells the module where it runs", () => {
  inSeam((context) => {
    expect(context.lp).toEqual({ id: 3, package: 1, x2apicId: 3 });
    expect(context.callerInterruptFlag).toBe(false);
    expect(context.cpuid(1, 0)[1] >>> 24).toBe(3);
    expect(context.tsc()).toBe(0n);
    expect(context.platform).toMatchObject({ maxPhysicalAddressBits: 52, logicalProcessors: 4 });
  });
});

it("draws the same random numbers for the same seed", () => {
  const draws = (seed: bigint): bigint[] => {
    const { platform, lp } = testMachine({ seed });
    const seen: bigint[] = [];
    platform.loadModule(fakeModule((context) => seen.push(context.random64(), context.random64())));
    lp.seamcall(new BigUint64Array(16));
    return seen;
  };
  expect(draws(1n)).toEqual(draws(1n));
  expect(draws(1n)).not.toEqual(draws(2n));
});

it("a self-IPI waits for SEAMRET", () => {
  const { platform, lp } = testMachine();
  const taken: string[] = [];
  lp.hostIdt = {
    machineCheck: () => undefined,
    nmi: () => taken.push("nmi"),
    interrupt: (vector) => taken.push(`${vector}`),
  };
  lp.hostInterruptFlag = true;
  platform.loadModule(
    fakeModule((context) => {
      context.selfIpi("fixed", 0x55);
      context.selfIpi("nmi", 0);
      context.selfIpi("init", 0);
      expect(taken).toEqual([]);
    }),
  );
  lp.seamcall(new BigUint64Array(16));
  expect(taken).toEqual(["nmi", "85"]);
  expect(lp.latches.pending()).toEqual(["init"]);
});
