import { describe, expect, it } from "vitest";
import { TDH } from "../../arch/tdx-abi.js";
import { VP_FIELD } from "../../arch/tdx-metadata.js";
import { EXIT_REASON, INTERRUPTIBILITY } from "../../arch/vmx.js";
import { REG } from "../../cpu/layout.js";
import { GPR } from "../../platform/seam.js";
import { enterLongMode, type FakePlatform, type GuestStep, TestHost, type TestTd } from "../testing.js";

const INTERRUPT = { reason: 1, interruptionInfo: 0x800000f2 };
const VE = 0x80000314;
const UD = 0x80000306;
const GP = 0x80000b0d;
const DF = 0x80000b08;
const NMI = 0x80000202;

const start = (params = {}): { host: TestHost; td: TestTd; injected: number[] } => {
  const host = new TestHost().bringUp();
  return { host, td: host.runnableTd(params), injected: host.lp.injected };
};

/** Runs one step in long mode and gives back the registers, RIP and what was injected for it. */
function run(td: TestTd, step: (lp: FakePlatform) => ReturnType<Extract<GuestStep, (lp: FakePlatform) => unknown>>) {
  const { lp } = td.host;
  lp.injected.length = 0;
  let rip = 0n;
  let gprs: bigint[] = [];
  td.enter([
    (platform) => {
      enterLongMode(platform.guest);
      platform.guest.state.rip = 0x1000n;
      return step(platform);
    },
    ({ guest: { state } }) => {
      rip = state.rip;
      gprs = Array.from({ length: 16 }, (_, i) => state.gpr(i));
      return INTERRUPT;
    },
  ]);
  return { rip, gprs, injected: [...lp.injected] };
}

describe("exits that become exceptions", () => {
  it.each([
    [EXIT_REASON.HLT, VE],
    [EXIT_REASON.INVD, VE],
    [EXIT_REASON.VMCALL, VE],
    [EXIT_REASON.IO_INSTRUCTION, VE],
    [EXIT_REASON.MWAIT, VE],
    [EXIT_REASON.MONITOR, VE],
    [EXIT_REASON.WBINVD, VE],
    [EXIT_REASON.APIC_WRITE, VE],
    [EXIT_REASON.PCONFIG, VE],
    [EXIT_REASON.RDPMC, GP],
    [EXIT_REASON.ENQCMD_PASID, GP],
    ...[EXIT_REASON.GETSEC, EXIT_REASON.RSM, EXIT_REASON.VMCLEAR, EXIT_REASON.VMXON, EXIT_REASON.VMXOFF].map(
      (reason) => [reason, UD] as const,
    ),
    ...[EXIT_REASON.INVEPT, EXIT_REASON.INVVPID, EXIT_REASON.VMFUNC, EXIT_REASON.ENCLS, EXIT_REASON.SEAMCALL].map(
      (reason) => [reason, UD] as const,
    ),
  ] as const)("reason %i", (reason, event) => {
    const { td } = start();
    const { rip, injected } = run(td, () => ({ reason, instructionLength: 3 }));
    expect(injected).toEqual([event]);
    expect(rip).toBe(0x1000n);
  });

  it("fill VE_INFO, which the guest reads once", () => {
    const { td } = start();
    run(td, ({ guest }) => {
      guest.state.set(REG.FLAGS, 2n);
      return { reason: 30, qualification: 0xb20003n, instructionLength: 2, instructionInfo: 7 };
    });
    const first = td.tdcall(3);
    expect([GPR.RAX, GPR.RCX, GPR.RDX, GPR.R8, GPR.R9, GPR.R10].map((r) => first.gprs[r])).toEqual([
      0n,
      30n,
      0xb20003n,
      0n,
      0n,
      0x7_0000_0002n,
    ]);
    const second = td.tdcall(3, { RCX: 1, R10: 1 });
    expect(second.status).toBe(0xc000_0704_0000_0000n);
    expect([second.gprs[GPR.RCX], second.gprs[GPR.R10]]).toEqual([0n, 0n]);
  });

  it("become #DF while VE_INFO is valid", () => {
    const { td } = start();
    run(td, () => ({ reason: 12, instructionLength: 1 }));
    const { injected } = run(td, () => ({ reason: 54, instructionLength: 2 }));
    expect(injected).toEqual([DF]);
  });

  it("set RF", () => {
    const { td } = start();
    td.enter([
      { reason: 12, instructionLength: 1 },
      ({ guest: { state } }) => {
        expect(state.rflags & 0x10000n).toBe(0x10000n);
        return INTERRUPT;
      },
    ]);
  });
});

describe("exits that go to the host", () => {
  it.each([
    [{ reason: 0, interruptionInfo: NMI }, 0n, BigInt(NMI)],
    [{ reason: 1, interruptionInfo: 0x80000031 }, 1n, 0x80000031n],
    [{ reason: 3 }, 3n, 0n],
    [{ reason: 74 }, 74n, 0n],
    [{ reason: 75 }, 75n, 0n],
  ])("%o", (exit, status, info) => {
    const { td } = start();
    const { gprs } = td.enter([exit]);
    expect([gprs[GPR.RAX], gprs[GPR.R9]]).toEqual([status, info]);
    expect(td.enter([INTERRUPT]).status).toBe(1n);
  });

  it("a notification with an invalid context kills the TD", () => {
    const { td } = start();
    expect(td.enter([{ reason: 75, qualification: 1n }]).status).toBe(0x6000_0002_0000_004bn);
  });

  it("a bus lock comes with the next exit, or makes one", () => {
    const { td } = start();
    expect(td.enter([{ ...INTERRUPT, reason: 1 | (1 << 26) }]).status).toBe(0x4000001n);
    expect(td.enter([INTERRUPT]).status).toBe(1n);
    expect(td.enter([{ reason: 12 | (1 << 26), instructionLength: 1 }]).status).toBe(0x400004an);
  });
});

describe("NMI of the host", () => {
  it("waits for its window and for VE_INFO", () => {
    const { host, td } = start();
    const tdvpr = td.vcpus[0] as number;
    run(td, () => ({ reason: 12, instructionLength: 1 }));
    host.must(TDH.VP_WR, { RCX: tdvpr, RDX: VP_FIELD.PEND_NMI, R8: 1, R9: 0xff });
    td.enter([
      ({ guest: { controls } }) => {
        expect(controls.nmiWindowExiting).toBe(false);
        return INTERRUPT;
      },
    ]);
    td.tdcall(3);
    host.lp.injected.length = 0;
    td.enter([
      ({ guest: { controls } }) => {
        expect(controls.nmiWindowExiting).toBe(true);
        return { reason: 8 };
      },
      ({ guest: { controls } }) => {
        expect(controls.nmiWindowExiting).toBe(false);
        return INTERRUPT;
      },
    ]);
    expect(host.lp.injected).toEqual([NMI]);
    expect(host.must(TDH.VP_RD, { RCX: tdvpr, RDX: VP_FIELD.PEND_NMI })[GPR.R8]).toBe(0n);
  });
});

describe("control registers", () => {
  const movTo = (register: number): { reason: number; qualification: bigint; instructionLength: number } => ({
    reason: 28,
    qualification: BigInt(register | (GPR.RBX << 8)),
    instructionLength: 3,
  });
  const write = (register: number, value: bigint) => {
    const { td } = start();
    let cr0 = 0n;
    const result = run(td, ({ guest: { state } }) => {
      state.set(REG.CR0, 0x8005_0033n);
      state.set(REG.CR4, 0x26a0n | 0x40n);
      state.setGpr(GPR.RBX, value);
      cr0 = state.get(REG.CR0);
      return movTo(register);
    });
    expect(cr0).toBe(0x8005_0033n);
    return result;
  };

  it.each([
    ["CD", 0, 0xc005_0033n, VE],
    ["NW and CD", 0, 0xe005_0033n, VE],
    ["NW alone", 0, 0xa005_0033n, GP],
    ["no NE", 0, 0x8005_0013n, VE],
    ["PG without PE", 0, 0x8005_0032n, GP],
    ["no PE", 0, 0x0005_0032n, VE],
    ["upper half", 0, 0x1_8005_0033n, VE],
    ["clear MCE", 4, 0x26a0n, VE],
    ["set VMXE", 4, 0x26e0n, VE],
    ["set SMXE", 4, 0x46e0n, VE],
    ["PKE", 4, 0x40_06e0n, GP],
    ["CET", 4, 0x80_06e0n, GP],
    ["reserved", 4, 0x1_0000_06e0n, GP],
  ])("%s", (_name, register, value, event) => {
    const { injected, rip } = write(register, value);
    expect(injected).toEqual([event]);
    expect(rip).toBe(0x1000n);
  });

  it("a legal CR0 keeps the bits without meaning", () => {
    const { td } = start();
    const { rip, injected } = run(td, ({ guest: { state } }) => {
      state.set(REG.CR0, 0x8005_0033n);
      state.set(REG.CR4, 0x2060n);
      state.setGpr(GPR.RBX, 0x8005_ff31n);
      return movTo(0);
    });
    expect(injected).toEqual([]);
    expect(rip).toBe(0x1003n);
    td.enter([
      ({ guest: { state } }) => {
        expect(state.get(REG.CR0)).toBe(0x8005_0031n);
        return INTERRUPT;
      },
    ]);
  });

  it("LMSW changes MP, EM and TS only", () => {
    const { td } = start();
    run(td, ({ guest: { state } }) => {
      state.set(REG.CR0, 0x8005_0033n);
      return { reason: 28, qualification: 0x000c_0030n, instructionLength: 3 };
    });
    td.enter([
      ({ guest: { state } }) => {
        expect(state.get(REG.CR0)).toBe(0x8005_003dn);
        return INTERRUPT;
      },
    ]);
  });

  it.each([
    [0, 3, true],
    [0, 1, true],
    [0, 0, false],
    [0, 7, false],
    [1, 3, false],
  ])("XSETBV %i := %i", (register, value, legal) => {
    const { td } = start();
    const { injected, rip } = run(td, ({ guest: { state } }) => {
      state.setGpr(GPR.RCX, BigInt(register));
      state.setGpr(GPR.RAX, BigInt(value));
      state.setGpr(GPR.RDX, 0n);
      return { reason: 55, instructionLength: 3 };
    });
    expect(injected).toEqual(legal ? [] : [GP]);
    expect(rip).toBe(legal ? 0x1003n : 0x1000n);
  });
});

describe("EPT violations", () => {
  const READ = 0x181n;

  it("of shared memory go to the host without the linear address' bits", () => {
    const { td } = start();
    const { gprs } = td.enter([{ reason: 48, qualification: READ | 0x1000n, guestPhysicalAddress: 2 ** 47 + 0x5123 }]);
    expect([gprs[GPR.RAX], gprs[GPR.RCX], gprs[GPR.RDX], gprs[GPR.R8]]).toEqual([
      48n,
      1n,
      0n,
      BigInt(2 ** 47 + 0x5000),
    ]);
  });

  it("beyond the SHARED bit are page faults", () => {
    const { td } = start();
    let cr2 = 0n;
    const { injected } = run(td, ({ guest: { state } }) => {
      state.set(REG.CR2, 0n);
      return { reason: 48, qualification: 0x182n, guestPhysicalAddress: 2 ** 48, guestLinearAddress: 0x7000n };
    });
    td.enter([
      ({ guest: { state } }) => {
        cr2 = state.get(REG.CR2);
        return INTERRUPT;
      },
    ]);
    expect(injected).toEqual([0x80000b0e]);
    expect(cr2).toBe(0x7000n);
  });

  it("of a pending page: the host is told, or #VE, as TD_CTLS says", () => {
    const told = start();
    told.td.augPage(0x6000);
    const { gprs } = told.td.enter([{ reason: 48, qualification: READ, guestPhysicalAddress: 0x6010 }]);
    expect([gprs[GPR.RAX], gprs[GPR.RCX], gprs[GPR.RDX], gprs[GPR.R8]]).toEqual([48n, 1n, 6n, 0x6000n]);

    const { td } = start({ attributes: 0n });
    td.augPage(0x6000);
    const violation = {
      reason: 48,
      qualification: READ,
      guestPhysicalAddress: 0x6010,
      guestLinearAddress: 0xffff_8000n,
    };
    expect(run(td, () => violation).injected).toEqual([VE]);
    const info = td.tdcall(3);
    expect([info.gprs[GPR.RCX], info.gprs[GPR.R8], info.gprs[GPR.R9]]).toEqual([48n, 0xffff_8000n, 0x6010n]);
  });

  it("deliver an interrupted event again, in this stay or the next", () => {
    const { td, host } = start();
    td.enter([{ reason: 48, qualification: READ, guestPhysicalAddress: 0x9000, idtVectoringInfo: 0x80000031 }]);
    host.lp.injected.length = 0;
    td.enter([INTERRUPT]);
    td.enter([INTERRUPT]);
    expect(host.lp.injected).toEqual([0x80000031]);
  });

  it("block NMIs again that an IRET had unblocked", () => {
    const { td } = start();
    td.enter([{ reason: 48, qualification: READ | 0x1000n, guestPhysicalAddress: 0x9000 }]);
    td.enter([
      ({ guest: { state } }) => {
        expect(state.get32(REG.INTERRUPTIBILITY)).toBe(INTERRUPTIBILITY.NMI);
        return INTERRUPT;
      },
    ]);
  });

  it("misconfigured shared entries are the host's", () => {
    const { td } = start();
    const { gprs } = td.enter([{ reason: 49, qualification: 5n, guestPhysicalAddress: 2 ** 47 + 0x5123 }]);
    expect([gprs[GPR.RAX], gprs[GPR.RCX], gprs[GPR.R8]]).toEqual([49n, 0n, BigInt(2 ** 47 + 0x5000)]);
  });
});

describe("an emulated instruction", () => {
  it("ends shadows, wraps RIP outside 64-bit mode, and traps when TF is set", () => {
    const { td } = start();
    td.enter([
      ({ guest: { state } }) => {
        state.rip = 0xffff_fffen;
        state.set32(REG.INTERRUPTIBILITY, INTERRUPTIBILITY.STI);
        state.set(REG.FLAGS, 0x102n);
        state.setGpr(GPR.RAX, 0n);
        return { reason: 10, instructionLength: 2 };
      },
      ({ guest: { state } }) => {
        expect(state.rip).toBe(0n);
        expect(state.get32(REG.INTERRUPTIBILITY)).toBe(0);
        expect(state.get(REG.PENDING_DEBUG)).toBe(0x4000n);
        return INTERRUPT;
      },
    ]);
  });
});
