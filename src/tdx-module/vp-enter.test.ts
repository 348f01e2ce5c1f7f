import { describe, expect, it } from "vitest";
import { MSR } from "../arch/msr.js";
import { OPERAND, TDH, VP_ENTER } from "../arch/tdx-abi.js";
import { TD_FIELD, VP_FIELD } from "../arch/tdx-metadata.js";
import { TDX_STATUS } from "../arch/tdx-status.js";
import { REG, SEGMENT } from "../cpu/layout.js";
import { GPR } from "../platform/seam.js";
import { enterLongMode, TestHost } from "./testing.js";

const INTERRUPT = { reason: 1, interruptionInfo: 0x800000f2 };
const MSMI = { reason: 6, qualification: 1n };
const RCX = BigInt(GPR.RCX);

describe("checks of TDH.VP.ENTER, each before the next", () => {
  it("looks at BOOT_NT4, then RCX, then the page", () => {
    const host = new TestHost().bringUp();
    const td = host.runnableTd();
    host.machine.msrs.set(MSR.IA32_MISC_ENABLE, 1n << 22n);
    expect(td.enter([], { RCX: 1 }).status).toBe(TDX_STATUS.LIMIT_CPUID_MAXVAL_SET);
    host.machine.msrs.set(MSR.IA32_MISC_ENABLE, 1n << 18n);
    expect(td.enter([], { RCX: 1 }).status).toBe(TDX_STATUS.OPERAND_INVALID | RCX);
    expect(td.enter([], { RCX: 1n << 54n }).status).toBe(TDX_STATUS.OPERAND_INVALID | RCX);
    const enter = (RCX_: number): bigint => host.seamcall(TDH.VP_ENTER, { RCX: RCX_ }).status;
    expect(enter(0x2000_0000)).toBe(TDX_STATUS.OPERAND_ADDR_RANGE_ERROR | RCX);
    expect(enter(td.tdr)).toBe(TDX_STATUS.PAGE_METADATA_INCORRECT | RCX);
  });

  it("looks at FATAL before lifecycle before the operation state", () => {
    const host = new TestHost().bringUp();
    const building = host.createTd();
    building.addVcpu();
    expect(building.enter([]).status).toBe(TDX_STATUS.OP_STATE_INCORRECT);
    const td = host.runnableTd();
    td.enter([MSMI]);
    expect(td.enter([]).status).toBe(TDX_STATUS.TD_FATAL);
    host.must(TDH.VP_FLUSH, { RCX: td.vcpus[0] as number });
    host.must(TDH.MNG_VPFLUSHDONE, { RCX: td.tdr });
    expect(td.enter([]).status).toBe(TDX_STATUS.TD_FATAL);
    const flushed = host.runnableTd();
    host.must(TDH.VP_FLUSH, { RCX: flushed.vcpus[0] as number });
    host.must(TDH.MNG_VPFLUSHDONE, { RCX: flushed.tdr });
    expect(flushed.enter([]).status).toBe(TDX_STATUS.TD_KEYS_NOT_CONFIGURED);
  });

  it("looks at the vCPU: pages, state, association", () => {
    const host = new TestHost({}, 1, 2).bringUp();
    const td = host.runnableTd();
    host.lp = host.lps[1] as never;
    expect(td.enter([]).status).toBe(TDX_STATUS.VCPU_ASSOCIATED);
    host.lp = host.lps[0] as never;
    expect(td.enter([{ reason: 2 }]).status).toBe(TDX_STATUS.NON_RECOVERABLE_VCPU | 2n);
    expect(td.enter([]).status).toBe(TDX_STATUS.VCPU_STATE_INCORRECT);
    // The TD lives.
    host.must(TDH.MNG_RD, { RCX: td.tdr, RDX: TD_FIELD.NUM_VCPUS });
  });

  it("moves a vCPU to another LP after VP.FLUSH", () => {
    const host = new TestHost({}, 1, 2).bringUp();
    const td = host.runnableTd();
    expect(td.enter([INTERRUPT]).status).toBe(1n);
    host.must(TDH.VP_FLUSH, { RCX: td.vcpus[0] as number });
    host.lp = host.lps[1] as never;
    expect(td.enter([INTERRUPT]).status).toBe(1n);
    expect(host.must(TDH.VP_RD, { RCX: td.vcpus[0] as number, RDX: VP_FIELD.ASSOC_LPID })[GPR.R8]).toBe(1n);
  });

  it("loads controls anew when another vCPU has used the core, on whatever LP", () => {
    const host = new TestHost({}, 1, 2).bringUp();
    const td = host.runnableTd({}, 2);
    host.must(TDH.VP_FLUSH, { RCX: td.vcpus[1] as number });
    for (const i of [0, 1, 0, 1]) {
      host.lp = host.lps[i] as never;
      const { flushes } = host.machine.guest;
      td.enter(
        [
          ({ guest: { controls } }) => {
            expect(controls.veInfo).toBe(td.vcpus[i]);
            return INTERRUPT;
          },
        ],
        {},
        i,
      );
      expect(host.machine.guest.flushes).toBe(flushes + 1);
    }
  });

  it("looks at the flags, TSC_ADJUST, the TSC and MONITOR last", () => {
    const host = new TestHost().bringUp();
    const cpuid = new Array<number>(48).fill(0);
    cpuid[2] = 1 << 3;
    const td = host.runnableTd({ cpuid });
    expect(td.enter([INTERRUPT]).status).toBe(1n);
    for (const flag of Object.values(VP_ENTER)) {
      expect(td.enter([], { RCX: flag }).status).toBe(TDX_STATUS.OPERAND_INVALID | RCX);
    }
    host.machine.msrs.set(MSR.IA32_TSC_ADJUST, 3n);
    expect(td.enter([]).status).toBe(TDX_STATUS.INCONSISTENT_MSR | BigInt(MSR.IA32_TSC_ADJUST));
    host.machine.msrs.set(MSR.IA32_TSC_ADJUST, 0n);
    host.machine.clock -= 1;
    expect(td.enter([]).status).toBe(TDX_STATUS.TSC_ROLLBACK);
    host.machine.clock += 1;
    expect(td.enter([INTERRUPT]).status).toBe(1n);
  });
});

describe("first entry", () => {
  it("finds the state of tdx-module facts 7.7", () => {
    const host = new TestHost().bringUp();
    const td = host.runnableTd({ maxVcpus: 2 }, 2);
    td.enter(
      [
        ({ guest: { state, controls } }) => {
          expect(state.rip).toBe(0xffff_fff0n);
          expect(state.rflags).toBe(2n);
          expect([GPR.RBX, GPR.RCX, GPR.R8, GPR.RSI, GPR.RAX].map((r) => state.gpr(r))).toEqual([
            48n,
            0xcafen,
            0xcafen,
            1n,
            0n,
          ]);
          expect(state.gpr(GPR.RDX)).toBe(0x806f8n);
          expect([REG.CR0, REG.CR4, REG.EFER, REG.XCR0].map((r) => state.get(r))).toEqual([0x21n, 0x2040n, 0x901n, 1n]);
          expect(state.segment(SEGMENT.CS)).toEqual({ selector: 0, base: 0n, limit: 0xffffffff, rights: 0xc09b });
          expect(controls.keyId).toBe(td.hkid);
          expect(controls.septRoot).toBe(td.tdcx[3]);
          expect(controls.gpaw).toBe(48);
          expect(controls.veInfo).toBe(td.vcpus[1]);
          expect(controls.cr0Shadow).toBe(0x21n);
          // 1 GHz, as the machine's own.
          expect(controls.tscMultiplier).toBe(1n << 48n);
          return INTERRUPT;
        },
      ],
      {},
      1,
    );
  });

  it("uses what VP.WR set", () => {
    const host = new TestHost().bringUp();
    const td = host.runnableTd();
    const tdvpr = td.vcpus[0] as number;
    const early = host.seamcall(TDH.VP_WR, { RCX: tdvpr, RDX: 0x4000, R8: 0x80, R9: 0x80 });
    expect(early.status).toBe(TDX_STATUS.TD_VMCS_FIELD_NOT_INITIALIZED);
    host.must(TDH.VP_WR, { RCX: tdvpr, RDX: 2, R8: 0xf2, R9: 0xffff });
    host.must(TDH.VP_WR, { RCX: tdvpr, RDX: 0x2016, R8: 0x5040, R9: (1n << 64n) - 1n });
    host.must(TDH.VP_WR, { RCX: tdvpr, RDX: 0x4000, R8: 0x80, R9: 0x80 });
    host.must(TDH.VP_WR, { RCX: tdvpr, RDX: 0x203c, R8: 0x6000, R9: (1n << 64n) - 1n });
    td.enter([
      ({ guest: { controls } }) => {
        expect(controls.postedInterrupts).toBe(true);
        expect(controls.postedInterruptDescriptor).toBe(0x5040);
        expect(controls.notificationVector).toBe(0xf2);
        expect(controls.sharedRoot).toBe(0x6000);
        return INTERRUPT;
      },
    ]);
    expect(host.seamcall(TDH.VP_WR, { RCX: tdvpr, RDX: 2, R8: 0x1f2, R9: 0xffff }).status).toBe(
      TDX_STATUS.METADATA_FIELD_VALUE_NOT_VALID,
    );
  });
});

describe("TD exits", () => {
  it("give the host nothing of the guest, and bring it back", () => {
    const host = new TestHost().bringUp();
    const td = host.runnableTd();
    const host_ = { RBX: 1, RBP: 2, RSI: 3, RDI: 4, R10: 5, R15: 6, RDX: 7, R8: 8, RSP: 9 };
    const { gprs } = td.enter(
      [
        ({ guest: { state } }) => {
          for (let i = 0; i < 16; i++) state.setGpr(i, 0x1111n * BigInt(i + 1));
          state.rip = 0x1234n;
          return INTERRUPT;
        },
      ],
      host_,
    );
    expect(gprs[GPR.RAX]).toBe(1n);
    expect(gprs[GPR.R9]).toBe(0x800000f2n);
    for (const r of [GPR.RCX, GPR.RBX, GPR.RSI, GPR.RDI, GPR.RDX, GPR.R8, GPR.R10, GPR.R15]) expect(gprs[r]).toBe(0n);
    // NO_RBP_MOD: the host's RBP stays, as RSP does.
    expect([gprs[GPR.RBP], gprs[GPR.RSP]]).toEqual([2n, 9n]);
    expect(host.machine.guest.state.block().every((byte) => byte === 0)).toBe(true);
    td.enter([
      ({ guest: { state } }) => {
        expect(state.rip).toBe(0x1234n);
        expect(state.gpr(GPR.R15)).toBe(0x11110n);
        return INTERRUPT;
      },
    ]);
  });

  it("clear RBP where the TD does not keep it out", () => {
    const host = new TestHost().bringUp();
    const td = host.runnableTd({ configFlags: 0n });
    expect(td.enter([INTERRUPT], { RBP: 2 }).gprs[GPR.RBP]).toBe(0n);
  });

  it("carry a TDVMCALL there and back", () => {
    const host = new TestHost().bringUp();
    const td = host.runnableTd();
    const leaving = td.enter(
      [
        ({ guest }) => {
          enterLongMode(guest);
          const { state } = guest;
          for (let i = 0; i < 16; i++) state.setGpr(i, BigInt(i) + 0x100n);
          state.setGpr(GPR.RAX, 0n);
          state.setGpr(GPR.RCX, 0xff8cn);
          state.rip = 0x1000n;
          return { reason: 77, instructionLength: 4 };
        },
      ],
      { RBP: 0xb },
    );
    const { gprs } = leaving;
    expect(gprs[GPR.RAX]).toBe(0x4dn);
    expect(gprs[GPR.RCX]).toBe(0xff8cn);
    expect([gprs[GPR.RDX], gprs[GPR.RBX], gprs[GPR.RDI], gprs[GPR.R15]]).toEqual([0x102n, 0x103n, 0x107n, 0x10fn]);
    // Not selected: zero; RBP: the host's own.
    expect([gprs[GPR.RSI], gprs[GPR.RBP]]).toEqual([0n, 0xbn]);
    td.enter(
      [
        ({ guest: { state } }) => {
          expect(state.rip).toBe(0x1004n);
          expect([GPR.RAX, GPR.RCX, GPR.RDX, GPR.R10, GPR.RSI, GPR.RBP].map((r) => state.gpr(r))).toEqual([
            0n,
            0xff8cn,
            0x222n,
            0x333n,
            0x106n,
            0x105n,
          ]);
          return INTERRUPT;
        },
      ],
      { RDX: 0x222, R10: 0x333, RSI: 0x444, RBP: 0x555 },
    );
    // An asynchronous exit takes nothing from the host's registers.
    td.enter(
      [
        ({ guest: { state } }) => {
          expect(state.gpr(GPR.RDX)).toBe(0x222n);
          return INTERRUPT;
        },
      ],
      { RDX: 0x999 },
    );
  });

  it("refuse a TDVMCALL mask that exposes RAX, RCX, RSP or RBP", () => {
    const host = new TestHost().bringUp();
    const td = host.runnableTd();
    for (const mask of [1, 2, 0x10, 0x20, 2 ** 32]) {
      const { status, exit } = td.tdcall(0, { RCX: mask });
      expect(status).toBe(TDX_STATUS.OPERAND_INVALID | RCX);
      expect(exit.status).toBe(1n);
    }
  });

  it("expose XMM registers through the processor's own", () => {
    const host = new TestHost().bringUp();
    const td = host.runnableTd();
    const at = REG.XMM - REG.GPR;
    td.enter([
      ({ guest }) => {
        enterLongMode(guest);
        guest.state.setGpr(GPR.RCX, 0x1_0000n);
        guest.state.block().fill(0x77, at, at + 32);
        return { reason: 77, instructionLength: 4 };
      },
    ]);
    const block = host.machine.guest.state.block();
    expect([block[at], block[at + 16]]).toEqual([0x77, 0]);
    block.fill(0x99, at, at + 32);
    td.enter([
      ({ guest: { state } }) => {
        expect([state.block()[at], state.block()[at + 16]]).toEqual([0x99, 0x77]);
        return INTERRUPT;
      },
    ]);
  });

  it("emit what happened", () => {
    const host = new TestHost().bringUp();
    const td = host.runnableTd();
    td.enter([MSMI]);
    const names = host.machine.events.map(({ event }) => event).slice(-4);
    expect(names).toEqual(["seamcall", "td-exit", "td-fatal", "seamret"]);
    const exit = host.machine.events.at(-3);
    expect(exit?.fields).toEqual({ reason: 6, qualification: 1n, status: 0x6000_0005_0000_0006n });
  });
});

describe("zero-step mitigation", () => {
  const violation = { reason: 48, qualification: 0x181n, guestPhysicalAddress: 0x9123 };

  it("does not enter while a page at which the guest hangs is missing", () => {
    const host = new TestHost().bringUp();
    const td = host.runnableTd();
    for (let i = 0; i < 7; i++) {
      const { gprs } = td.enter([violation]);
      expect([gprs[GPR.RAX], gprs[GPR.RCX], gprs[GPR.R8]]).toEqual([0x30n, 1n, 0x9000n]);
    }
    const { entries } = host.lp;
    const { gprs } = td.enter([]);
    expect([gprs[GPR.RAX], gprs[GPR.RCX], gprs[GPR.R8]]).toEqual([0x30n, 2n, 0x9000n]);
    expect(host.lp.entries).toBe(entries);
    td.augPage(0x9000);
    expect(td.enter([INTERRUPT]).status).toBe(1n);
  });

  it("forgets when RIP moves", () => {
    const host = new TestHost().bringUp();
    const td = host.runnableTd();
    for (let i = 0; i < 20; i++) {
      const { status } = td.enter([
        ({ guest: { state } }) => {
          state.rip += 4n;
          return violation;
        },
      ]);
      expect(status).toBe(0x30n);
    }
    expect(td.enter([INTERRUPT]).status).toBe(1n);
  });
});

describe("epoch lock", () => {
  it("has a status of its own in the ABI", () => {
    expect(TDX_STATUS.OPERAND_BUSY | OPERAND.TD_EPOCH).toBe(0x8000_0200_0000_00a9n);
    expect(TDX_STATUS.OPERAND_BUSY | OPERAND.SEPT_TREE).toBe(0x8000_0200_0000_0092n);
  });
});
