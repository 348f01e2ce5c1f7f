import { describe, expect, it } from "vitest";
import { TDH } from "../../arch/tdx-abi.js";
import { VP_FIELD } from "../../arch/tdx-metadata.js";
import { TDX_STATUS } from "../../arch/tdx-status.js";
import { GPR, SeamShutdown } from "../../platform/seam.js";
import type { ModuleProfile } from "../profile.js";
import { TestHost, type TestTd } from "../testing.js";

const PLAIN_SMI = { reason: 6, qualification: 0n };
const MSMI = { reason: 6, qualification: 1n };
const MACHINE_CHECK = { reason: 0, interruptionInfo: 0x80000312 };
const FATAL = 0xe000_0604_0000_0000n;

const start = (profile: ModuleProfile = "1.5", vcpus = 1, attributes = 1n << 28n): { host: TestHost; td: TestTd } => {
  const host = new TestHost({ moduleProfile: profile }).bringUp();
  return { host, td: host.runnableTd({ attributes }, vcpus) };
};

describe("SMI", () => {
  it("plain: an ordinary exit, the TD goes on", () => {
    const { host, td } = start();
    for (let i = 0; i < 3; i++) {
      const { gprs } = td.enter([PLAIN_SMI]);
      expect([GPR.RAX, GPR.RCX, GPR.RDX, GPR.R8, GPR.R9].map((r) => gprs[r])).toEqual([6n, 0n, 0n, 0n, 0n]);
    }
    expect(host.must(TDH.VP_RD, { RCX: td.vcpus[0] as number, RDX: VP_FIELD.VCPU_STATE })[GPR.R8]).toBe(2n);
  });

  it.each([
    ["1.5", 0x6000_0005_0000_0006n, FATAL],
    ["1.0", 0x4000_0005_0000_0006n, 0xc000_0604_0000_0000n],
    ["changelog", 0x4000_0002_0000_0006n, FATAL],
  ] as const)("morphed machine check, profile %s: the TD is dead", (profile, status, later) => {
    const { host, td } = start(profile);
    const { gprs } = td.enter([MSMI]);
    expect([gprs[GPR.RAX], gprs[GPR.RCX]]).toEqual([status, 1n]);
    expect(td.enter([]).status).toBe(later);
    expect(td.enter([]).status).toBe(later);
    expect(host.machine.guest.state.block().every((byte) => byte === 0)).toBe(true);
  });

  it("kills debug TDs as well", () => {
    const { td } = start("1.5", 1, 1n);
    expect(td.enter([MSMI]).status).toBe(0x6000_0005_0000_0006n);
  });

  it("C-state SMI goes to the host, I/O SMI cannot be", () => {
    const { td } = start();
    expect(td.enter([{ reason: 42 }]).status).toBe(42n);
    expect(td.enter([{ reason: 5 }]).status).toBe(0x6000_0002_0000_0005n);
    expect(td.enter([]).status).toBe(FATAL);
  });
});

describe("machine check", () => {
  it("as an exception kills the TD and shows its vector", () => {
    const { td } = start();
    const { gprs } = td.enter([MACHINE_CHECK]);
    expect([gprs[GPR.RAX], gprs[GPR.RCX], gprs[GPR.R9]]).toEqual([0x6000_0005_0000_0000n, 0n, 0x80000312n]);
    expect(td.enter([]).status).toBe(FATAL);
  });

  it("during VM entry too", () => {
    const { td } = start();
    expect(td.enter([{ reason: 0x8000_0029 }]).status).toBe(0x6000_0005_8000_0029n);
    expect(td.enter([]).status).toBe(FATAL);
  });

  it("in SEAM root shuts the processor down", () => {
    const { host, td } = start();
    const root = td.tdcx[3] as number;
    host.memory.poison[root / 64] = 1;
    expect(() => td.augPage(0x8000_0000)).toThrow(SeamShutdown);
  });

  it("while the TD delivers an event is beyond the module", () => {
    const { td } = start();
    expect(() => td.enter([{ ...MACHINE_CHECK, idtVectoringInfo: 0x80000030 }])).toThrow(SeamShutdown);
  });
});

describe("a dead TD", () => {
  it("lets its other vCPUs out with the same status at their next exit, whatever that is", () => {
    const host = new TestHost({}, 1, 2).bringUp();
    const td = host.runnableTd({}, 2);
    const [lp0, lp1] = host.lps as [typeof host.lp, typeof host.lp];
    host.must(TDH.VP_FLUSH, { RCX: td.vcpus[1] as number });
    const statuses: bigint[] = [];
    const sibling = (exit: { reason: number; interruptionInfo?: number }): void => {
      host.lp = lp1;
      const { gprs } = td.enter(
        [
          () => {
            host.lp = lp0;
            if (statuses.length === 0) statuses.push(td.enter([MSMI]).status);
            return exit;
          },
        ],
        {},
        1,
      );
      statuses.push(gprs[GPR.RAX] as bigint, gprs[GPR.R9] as bigint);
    };
    // The module is called again, as from a second processor, before the first stay has ended.
    expect(() => sibling({ reason: 1, interruptionInfo: 0x80000031 })).not.toThrow();
    expect(statuses).toEqual([0x6000_0005_0000_0006n, 0x6000_0005_0000_0001n, 0x80000031n]);
    host.lp = lp1;
    expect(td.enter([], {}, 1).status).toBe(FATAL);
  });

  it("answers TD_FATAL wherever TDCS is asked for, and can be torn down", () => {
    const { host, td } = start();
    const tdvpr = td.vcpus[0] as number;
    td.enter([MSMI]);
    const status = (leaf: number, registers: Record<string, number>): bigint => host.seamcall(leaf, registers).status;
    expect(status(TDH.MNG_RD, { RCX: td.tdr, RDX: 1 })).toBe(FATAL);
    expect(status(TDH.MNG_WR, { RCX: td.tdr })).toBe(FATAL);
    expect(status(TDH.MNG_ADDCX, { RCX: host.page(), RDX: td.tdr })).toBe(FATAL);
    expect(status(TDH.MNG_KEY_CONFIG, { RCX: td.tdr })).toBe(FATAL);
    expect(status(TDH.VP_RD, { RCX: tdvpr })).toBe(FATAL);
    expect(status(TDH.VP_CREATE, { RCX: host.page(), RDX: td.tdr })).toBe(FATAL);
    expect(status(TDH.MEM_PAGE_AUG, { RCX: 0x5000, RDX: td.tdr, R8: host.page() })).toBe(FATAL);
    expect(status(TDH.MEM_RANGE_BLOCK, { RCX: 0x1000, RDX: td.tdr })).toBe(FATAL);
    expect(status(TDH.MEM_TRACK, { RCX: td.tdr })).toBe(FATAL);
    expect(status(TDH.MEM_SEPT_RD, { RCX: 0x1000, RDX: td.tdr })).toBe(FATAL);
    host.must(TDH.VP_FLUSH, { RCX: tdvpr });
    host.must(TDH.MNG_VPFLUSHDONE, { RCX: td.tdr });
    host.must(TDH.PHYMEM_CACHE_WB);
    host.must(TDH.MNG_KEY_FREEID, { RCX: td.tdr });
    const pages = [...td.pages.values(), ...td.tables, tdvpr, ...td.tdvpx, ...td.tdcx, td.tdr];
    for (const page of pages) host.must(TDH.PHYMEM_PAGE_RECLAIM, { RCX: page });
  });
});

describe("impossible exits", () => {
  it.each([
    ["exception that is not intercepted", { reason: 0, interruptionInfo: 0x8000030e }],
    ["PML full", { reason: 62 }],
    ["MSR-load failure", { reason: 0x8000_0022 }],
    ["private misconfiguration", { reason: 49, guestPhysicalAddress: 0x1000 }],
    ["reserved flag", { reason: 1 | (1 << 28) }],
  ])("stop the module: %s", (_name, exit) => {
    const { td } = start();
    expect(() => td.enter([exit])).toThrow(SeamShutdown);
  });

  it("kill a production TD, and are shown to a debugger", () => {
    for (const [attributes, status] of [
      [1n << 28n, TDX_STATUS.NON_RECOVERABLE_TD | 29n],
      [1n, 29n],
    ] as const) {
      const { td } = start("1.5", 1, attributes);
      expect(td.enter([{ reason: 29 }]).status).toBe(status);
    }
  });

  it("invalid guest state kills the TD", () => {
    const { td } = start();
    expect(td.enter([{ reason: 0x8000_0021 }]).status).toBe(0x6000_0002_8000_0021n);
  });
});
