import { describe, expect, it } from "vitest";
import { ProcessorShutdown } from "./faults.js";
import type { EventKind, Mode } from "./modes.js";
import { MODE_TABLE } from "./modes.js";
import { enteringModule, fakeModule, instructionExit, testMachine } from "./testing.js";

type Raised = "smi" | "msmi" | "nmi" | "init" | "mc";

/** What one event does to a processor in one mode, as seen from outside. */
function observe(mode: Mode, event: Raised | "intr", hostIf: boolean) {
  const { platform, lp, core } = testMachine();
  const taken: string[] = [];
  platform.smi.handler = {
    smi: () => {
      taken.push("smm");
      if (mode === "smm" && taken.length === 1) raise();
    },
  };
  lp.hostIdt = {
    machineCheck: () => taken.push("#mc"),
    nmi: () => taken.push("nmi"),
    interrupt: (vector) => taken.push(`intr ${vector}`),
  };
  const raise = (): void => {
    if (event === "intr") lp.raiseInterrupt(0x41);
    else lp.raise(event);
    taken.push(mode);
  };
  lp.hostInterruptFlag = hostIf;
  const exits: string[] = [];
  if (mode === "root") raise();
  else if (mode === "smm") lp.raise("smi");
  else if (mode === "seam-root") {
    platform.loadModule(
      fakeModule((context) => {
        raise();
        exits.push(`9a=${context.readMsr(0x9a)}`);
        // Reading does not clear it.
        exits.push(`pending=${context.pendingInterrupts()}`);
      }),
    );
    lp.seamcall(new BigUint64Array(16));
  } else {
    const seen: Parameters<typeof enteringModule>[0] = [];
    platform.loadModule(enteringModule(seen));
    core.step = (c) => (c.retired === 5 ? instructionExit() : null);
    platform.boundaries.at(3, raise);
    lp.seamcall(new BigUint64Array(16));
    for (const exit of seen) {
      exits.push(
        `exit ${exit.reason} q${exit.qualification} i${exit.interruptionInfo.toString(16)} at ${core.retired}`,
      );
    }
  }
  return { taken, exits, pending: lp.latches.pending() };
}

describe("mode table (smi-mca facts 1.6)", () => {
  const rows: [Mode, Raised | "intr", boolean, string[], string[], EventKind[]][] = [
    ["root", "smi", false, ["smm", "root"], [], []],
    ["root", "nmi", false, ["nmi", "root"], [], []],
    ["root", "mc", false, ["#mc", "root"], [], []],
    ["root", "init", true, ["root"], [], ["init"]],
    ["root", "intr", true, ["intr 65", "root"], [], []],
    ["root", "intr", false, ["root"], [], ["intr"]],
    ["seam-root", "smi", false, ["seam-root", "smm"], ["9a=4", "pending=4"], []],
    ["seam-root", "msmi", false, ["seam-root", "smm"], ["9a=4", "pending=4"], []],
    ["seam-root", "nmi", false, ["seam-root", "nmi"], ["9a=2", "pending=2"], []],
    ["seam-root", "intr", true, ["seam-root", "intr 65"], ["9a=1", "pending=1"], []],
    ["seam-root", "intr", false, ["seam-root"], ["9a=1", "pending=1"], ["intr"]],
    ["seam-root", "init", false, ["seam-root"], ["9a=0", "pending=0"], ["init"]],
    ["seam-non-root", "smi", false, ["seam-non-root", "smm"], ["exit 6 q0 i0 at 3"], []],
    ["seam-non-root", "msmi", false, ["seam-non-root", "smm"], ["exit 6 q1 i0 at 3"], []],
    ["seam-non-root", "nmi", false, ["seam-non-root"], ["exit 0 q0 i80000202 at 3"], []],
    ["seam-non-root", "intr", false, ["seam-non-root"], ["exit 1 q0 i80000041 at 3"], []],
    ["seam-non-root", "init", false, ["seam-non-root"], ["exit 3 q0 i0 at 3"], []],
    ["seam-non-root", "mc", false, ["seam-non-root"], ["exit 0 q0 i80000312 at 3"], []],
    ["smm", "smi", false, ["smm", "smm", "smm"], [], []],
    ["smm", "nmi", false, ["smm", "smm", "nmi"], [], []],
    ["smm", "intr", true, ["smm", "smm", "intr 65"], [], []],
    ["smm", "init", false, ["smm", "smm"], [], ["init"]],
  ];
  it.each(rows)("%s: %s (host IF %s)", (mode, event, hostIf, taken, exits, pending) => {
    expect(observe(mode, event, hostIf)).toEqual({ taken, exits, pending });
  });

  it("has a disposition for every event in every mode", () => {
    for (const row of Object.values(MODE_TABLE))
      expect(Object.keys(row).sort()).toEqual(["init", "intr", "mc", "nmi", "smi"]);
  });
});

describe("pending at VM entry", () => {
  it.each<[Raised | "intr", number]>([
    ["smi", 6],
    ["msmi", 6],
    ["nmi", 0],
    ["init", 3],
    ["intr", 1],
  ])("%s: exit before any guest instruction", (event, reason) => {
    const { platform, lp, core } = testMachine();
    const exits: Parameters<typeof enteringModule>[0] = [];
    const enter = enteringModule(exits);
    platform.loadModule(
      fakeModule((context, gprs) => {
        if (event === "intr") lp.raiseInterrupt(0x41);
        else lp.raise(event);
        enter.seamcall(context, gprs);
      }),
    );
    lp.seamcall(new BigUint64Array(16));
    expect(exits.map((exit) => exit.reason)).toEqual([reason]);
    expect(core.retired).toBe(0);
  });
});

describe("order of simultaneous events (1.2)", () => {
  it("SEAM non-root: SMI, then INIT, NMI and INTR at the entries that follow", () => {
    const { platform, lp } = testMachine();
    const exits: Parameters<typeof enteringModule>[0] = [];
    platform.loadModule(enteringModule(exits));
    platform.boundaries.at(1, () => {
      lp.raiseInterrupt(0x30);
      lp.raiseInterrupt(0x80);
      lp.raise("nmi");
      lp.raise("init");
      lp.raise("smi");
    });
    const log: string[] = [];
    lp.hostIdt = {
      machineCheck: () => log.push("#mc"),
      nmi: () => log.push("nmi"),
      interrupt: (v) => log.push(`intr ${v}`),
    };
    platform.smi.handler = { smi: () => log.push("smm") };
    lp.seamcall(new BigUint64Array(16));
    // SMI first; then in the host: SMM, and the NMI that KVM did not get to see as an exit. INTR waits for IF (P12).
    expect(log).toEqual(["smm", "nmi"]);
    lp.seamcall(new BigUint64Array(16));
    lp.seamcall(new BigUint64Array(16));
    lp.seamcall(new BigUint64Array(16));
    expect(exits.map(({ reason, interruptionInfo }) => [reason, interruptionInfo & 0xff])).toEqual([
      [6, 0],
      [3, 0],
      [1, 0x80],
      [1, 0x30],
    ]);
  });

  it("host: the machine check of RSM, then NMI, then INTR", () => {
    const { platform, lp } = testMachine();
    const log: string[] = [];
    lp.hostIdt = {
      machineCheck: () => log.push("#mc"),
      nmi: () => log.push("nmi"),
      interrupt: (v) => log.push(`intr ${v}`),
    };
    platform.smi.handler = {
      smi: ([processor]) => {
        log.push("smm");
        processor?.raiseMachineCheckAtRsm();
      },
    };
    lp.hostInterruptFlag = true;
    platform.loadModule(
      fakeModule(() => {
        lp.raiseInterrupt(0x30);
        lp.raise("nmi");
        lp.raise("msmi");
      }),
    );
    lp.seamcall(new BigUint64Array(16));
    expect(log).toEqual(["smm", "#mc", "nmi", "intr 48"]);
  });

  it("handlers run with interrupts off, and an NMI waits for the one before it", () => {
    const { lp } = testMachine();
    const log: string[] = [];
    let nested = 0;
    lp.hostIdt = {
      machineCheck: () => undefined,
      nmi: () => {
        log.push("nmi");
        if (nested++ === 0) lp.raise("nmi");
        log.push("iret");
      },
      interrupt: (vector) => {
        log.push(`intr ${vector}`);
        expect(lp.hostInterruptFlag).toBe(false);
        if (vector === 0x30) lp.raiseInterrupt(0x31);
        if (vector === 0x31) lp.raise("nmi");
        log.push("eoi");
      },
    };
    lp.raiseInterrupt(0x30);
    lp.hostInterruptFlag = true;
    expect(log).toEqual(["intr 48", "eoi", "intr 49", "nmi", "iret", "nmi", "iret", "eoi"].map((s) => s));
    expect(lp.hostInterruptFlag).toBe(true);
  });
});

describe("SEAMCALL", () => {
  it("is VMfailInvalid without a module and for the loader, #UD in SMM and in SEAM", () => {
    const { platform, lp } = testMachine();
    const gprs = new BigUint64Array(16);
    expect(lp.seamcall(gprs)).toBe("vmfailinvalid");
    const nested: string[] = [];
    platform.loadModule(fakeModule(() => nested.push(lp.seamcall(new BigUint64Array(16)))));
    expect(lp.seamcall(gprs)).toBe("ok");
    gprs[0] = 1n << 63n;
    expect(lp.seamcall(gprs)).toBe("vmfailinvalid");
    platform.smi.handler = { smi: () => nested.push(lp.seamcall(new BigUint64Array(16))) };
    lp.raise("smi");
    expect(nested).toEqual(["ud", "ud"]);
  });

  it("a shutdown in SEAM takes the module away from the whole platform (M15)", async () => {
    const { SeamShutdown } = await import("./seam.js");
    const { platform, lp, log } = testMachine({ logicalProcessors: 2 });
    platform.loadModule(
      fakeModule(() => {
        throw new SeamShutdown("sanity check");
      }),
    );
    expect(() => lp.seamcall(new BigUint64Array(16))).toThrow(ProcessorShutdown);
    expect(lp.mode).toBe("shutdown");
    expect(log.map((event) => event.event)).toEqual(["shutdown"]);
    expect(platform.lps[1]?.seamcall(new BigUint64Array(16))).toBe("vmfailinvalid");
    platform.loadModule(fakeModule(() => undefined));
    expect(platform.lps[1]?.seamcall(new BigUint64Array(16))).toBe("vmfailinvalid");
  });

  it("the module's own read of poison is such a shutdown", () => {
    const { platform, lp } = testMachine();
    platform.memory.seam.fill(0x1000, 4096, 0, 40);
    platform.memory.poisonLine(0x1000);
    platform.loadModule(fakeModule((context) => context.memory.read64(0x1000, 40)));
    expect(() => lp.seamcall(new BigUint64Array(16))).toThrow(/SEAM root/);
    expect(platform.seamModule).toBeNull();
  });
});
