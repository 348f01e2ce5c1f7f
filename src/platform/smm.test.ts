import { describe, expect, it } from "vitest";
import { SAVE_STATE, SAVE_STATE_AREA, type SaveStateField } from "../arch/smm.js";
import { ProcessorFault, ProcessorShutdown } from "./faults.js";
import { HOST_RIP } from "./host-registers.js";
import type { SmmContext } from "./smm.js";
import { fakeModule, testMachine } from "./testing.js";

describe("save state (smi-mca facts 1.4)", () => {
  it("fields lie in the area and do not overlap", () => {
    const fields = Object.values(SAVE_STATE).sort((a, b) => a.offset - b.offset);
    let end: number = SAVE_STATE_AREA.FIRST;
    for (const { offset, bytes } of fields) {
      expect(offset).toBeGreaterThanOrEqual(end);
      end = offset + bytes;
    }
    expect(end).toBe(SAVE_STATE_AREA.END);
  });

  it("after SEAMRET it shows the outputs of SEAMCALL and the instruction behind it (1.6, I3)", () => {
    const { platform, lp } = testMachine();
    const image = new Map<SaveStateField, bigint>();
    platform.smi.handler = {
      smi: ([processor]) => {
        for (const field of Object.keys(SAVE_STATE) as SaveStateField[]) {
          image.set(field, (processor as SmmContext).saveState.read(field));
        }
      },
    };
    platform.loadModule(
      fakeModule((_context, gprs) => {
        lp.raise("smi");
        gprs[0] = 6n;
        gprs[9] = 0n;
      }),
    );
    lp.seamcall(BigUint64Array.from({ length: 16 }, (_, i) => 0x100n + BigInt(i)));
    expect(image.get("RAX")).toBe(6n);
    expect(image.get("R9")).toBe(0n);
    expect(image.get("R15")).toBe(0x10fn);
    expect(image.get("RDI")).toBe(0x107n);
    expect(image.get("RIP")).toBe(HOST_RIP.AFTER_SEAMCALL);
    expect(image.get("CS")).toBe(0x10n);
    expect(image.get("SMBASE")).toBe(BigInt(lp.smbase));
    expect(image.get("REVISION")).toBe(0x30101n);
    expect(image.get("IO_MISC")).toBe(0n);
    expect(image.get("AUTO_HALT")).toBe(0n);
    expect((image.get("CR4") as bigint) & 0x2040n).toBe(0x2040n);
    expect(image.get("IDT_BASE_HIGH")).toBe(0xffff_fe00n);
    // Real bytes of SMRAM, at the processor's own SMBASE.
    expect(platform.memory.view.getBigUint64(lp.smbase + 0x8000 + 0x7f5c, true)).toBe(6n);
    expect(platform.memory.host.read64(lp.smbase + 0x8000 + 0x7f58)).toBe(0xffff_ffff_ffff_ffffn);
  });

  it("what the handler writes is what RSM loads", () => {
    const { platform, lp } = testMachine();
    platform.smi.handler = { smi: ([processor]) => processor?.saveState.write("RBX", 0x1234n) };
    platform.loadModule(fakeModule(() => lp.raise("smi")));
    const gprs = new BigUint64Array(16);
    lp.seamcall(gprs);
    expect(gprs[3]).toBe(0x1234n);
  });

  it("SMBASE moves with RSM, and a misaligned one is a shutdown", () => {
    const { platform, lp } = testMachine({ hostMemoryBytes: 0x800000 });
    let smbase = BigInt(lp.smbase + 0x20000);
    platform.smi.handler = { smi: ([processor]) => processor?.saveState.write("SMBASE", smbase) };
    lp.raise("smi");
    expect(lp.smbase).toBe(Number(smbase));
    lp.raise("smi");
    expect(platform.memory.view.getUint32(Number(smbase) + 0xfef8, true)).toBe(Number(smbase));
    smbase += 4n;
    expect(() => lp.raise("smi")).toThrow(ProcessorShutdown);
    expect(lp.mode).toBe("shutdown");
  });

  it("auto-HALT restart: a halted host goes on waiting unless the handler clears the field (P15)", () => {
    const { platform, lp } = testMachine();
    const seen: bigint[] = [];
    let clear = false;
    platform.smi.handler = {
      smi: ([processor]) => {
        seen.push((processor as SmmContext).saveState.read("AUTO_HALT"));
        if (clear) processor?.saveState.write("AUTO_HALT", 0n);
      },
    };
    lp.hostHalted = true;
    lp.raise("smi");
    expect(lp.hostHalted).toBe(true);
    clear = true;
    lp.raise("smi");
    expect(lp.hostHalted).toBe(false);
    expect(seen).toEqual([1n, 1n]);
  });
});

describe("latching", () => {
  it("P10: SMIs that meet a waiting one merge; none is lost (I1)", () => {
    const { platform, lp } = testMachine();
    let inside = 0;
    platform.smi.handler = {
      smi: () => {
        if (inside++ > 0) return;
        for (let i = 0; i < 3; i++) lp.raise("smi");
      },
    };
    platform.loadModule(
      fakeModule(() => {
        for (let i = 0; i < 3; i++) lp.raise("smi");
      }),
    );
    lp.seamcall(new BigUint64Array(16));
    expect(lp.smiCount).toBe(2);
    expect(lp.readMsr(0x34)).toBe(2n);
    expect(lp.smiLatched).toBe(lp.smiCount + lp.latches.merged);
    expect(() => lp.writeMsr(0x34, 0n)).toThrow(ProcessorFault);
  });

  it("P4: an SMI in a short SEAMCALL is visible there, waits for SEAMRET, and leaves the result alone", () => {
    const { platform, lp, log } = testMachine();
    platform.loadModule(
      fakeModule((context, gprs) => {
        lp.raise("smi");
        expect(context.readMsr(0x9a)).toBe(4n);
        expect(lp.smiCount).toBe(0);
        gprs[0] = 0x77n;
      }),
    );
    const gprs = new BigUint64Array(16);
    expect(lp.seamcall(gprs)).toBe("ok");
    expect(gprs[0]).toBe(0x77n);
    expect(log.map(({ event, layer }) => `${layer} ${event}`)).toEqual([
      "platform smi-latched",
      "platform seamret",
      "smm smm-enter",
      "smm smm-exit",
    ]);
  });

  it("P14: an SMI that arrives in SEAM root after an NMI exit enters SMM; the NMI stays consumed", () => {
    const { platform, lp } = testMachine();
    const log: string[] = [];
    platform.smi.handler = { smi: () => log.push("smm") };
    lp.hostIdt = { machineCheck: () => undefined, nmi: () => log.push("nmi"), interrupt: () => undefined };
    platform.loadModule(
      fakeModule((context, gprs) => {
        lp.raise("nmi");
        const exit = context.enterGuest();
        lp.raise("smi");
        gprs[9] = BigInt(exit.interruptionInfo);
      }),
    );
    const gprs = new BigUint64Array(16);
    lp.seamcall(gprs);
    expect(gprs[9]).toBe(0x80000202n);
    expect(log).toEqual(["smm"]);
  });
});

describe("broadcast (1.10)", () => {
  it("P7: the handler runs once, when the last processor has left SEAM; then all leave SMM", () => {
    const { platform, lp, log } = testMachine({ logicalProcessors: 3 });
    const runs: number[][] = [];
    platform.smi.handler = { smi: (processors) => runs.push(processors.map((processor) => processor.lp.id)) };
    platform.loadModule(
      fakeModule(() => {
        platform.smi.broadcast();
        expect(platform.lps.map(({ mode }) => mode)).toEqual(["seam-root", "smm", "smm"]);
        expect(runs).toEqual([]);
      }),
    );
    lp.seamcall(new BigUint64Array(16));
    expect(runs).toEqual([[1, 2, 0]]);
    expect(platform.lps.map(({ mode, smiCount }) => [mode, smiCount])).toEqual(Array(3).fill(["root", 1]));
    expect(log.filter(({ event }) => event === "smm-exit").map((event) => event.lp)).toEqual([1, 2, 0]);
    expect(platform.smmEntries).toBe(3);
  });

  it("events of a waiting processor are open after its RSM", () => {
    const { platform, lp } = testMachine({ logicalProcessors: 2 });
    const other = platform.lps[1];
    const log: number[] = [];
    if (other) {
      other.hostIdt = { machineCheck: () => undefined, nmi: () => undefined, interrupt: (vector) => log.push(vector) };
      other.hostInterruptFlag = true;
    }
    platform.loadModule(
      fakeModule(() => {
        platform.smi.broadcast();
        other?.raiseInterrupt(0x40);
        expect(log).toEqual([]);
      }),
    );
    lp.seamcall(new BigUint64Array(16));
    expect(log).toEqual([0x40]);
  });

  it("P18: OUT to the APM port is an I/O SMI there, a plain one elsewhere", () => {
    const { platform, lp } = testMachine({ logicalProcessors: 2 });
    const misc: bigint[] = [];
    platform.smi.handler = { smi: (all) => misc.push(...all.map(({ saveState }) => saveState.read("IO_MISC"))) };
    platform.smi.softwareSmi(lp);
    expect((misc[0] as bigint) & 1n).toBe(1n);
    expect((misc[0] as bigint) >> 16n).toBe(0xb2n);
    expect(misc[1]).toBe(0n);
  });

  it("does not wait for a processor that has shut down", () => {
    const { platform, lp } = testMachine({ logicalProcessors: 2 });
    platform.loadModule(
      fakeModule(() => {
        platform.smi.broadcast();
        lp.shutdown("seam-root", "test");
      }),
    );
    expect(() => lp.seamcall(new BigUint64Array(16))).toThrow(ProcessorShutdown);
    expect(platform.lps[1]?.mode).toBe("root");
  });
});

describe("machine checks around SMM", () => {
  it("M30: poison read by the SMI handler shuts the processor down", () => {
    const { platform, lp } = testMachine();
    platform.memory.poisonLine(0x3000);
    platform.smi.handler = { smi: ([processor]) => processor?.readMemory(0x3000, 8) };
    expect(() => lp.raise("smi")).toThrow(/SMM/);
    expect(lp.mode).toBe("shutdown");
  });

  it("D6: poison read by the host is a machine check of the host, without SEAM_NR", () => {
    const { platform, lp } = testMachine();
    const seen: bigint[] = [];
    platform.smi.handler = { smi: ([processor]) => processor?.raiseMachineCheckAtRsm() };
    lp.hostIdt = {
      machineCheck: (frame) => seen.push(lp.readMsr(0x17a), BigInt(frame.cs)),
      nmi: () => undefined,
      interrupt: () => undefined,
    };
    lp.writeMsr(0x4d0, 1n);
    platform.memory.poisonLine(0x3000);
    expect(() => platform.memory.host.read8(0x3000)).toThrow("machine check");
    expect(seen).toEqual([0xfn, 0x10n]);
    expect(lp.smiCount).toBe(1);
  });

  it("a host without a handler shuts down, as does one with CR4.MCE = 0", () => {
    const { lp } = testMachine();
    expect(() => lp.raise("mc")).toThrow(ProcessorShutdown);
    const other = testMachine();
    other.lp.hostIdt = { machineCheck: () => undefined, nmi: () => undefined, interrupt: () => undefined };
    other.lp.registers.cr4 = 0x2000n;
    expect(() => other.lp.raise("mc")).toThrow(/MCE/);
  });
});
