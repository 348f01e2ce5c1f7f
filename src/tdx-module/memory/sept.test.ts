import { describe, expect, it } from "vitest";
import { OPERAND, TDH } from "../../arch/tdx-abi.js";
import { TDX_STATUS } from "../../arch/tdx-status.js";
import { GPR } from "../../platform/seam.js";
import { TestHost, type TestTd } from "../testing.js";
import {
  architecturalHigh,
  architecturalLow,
  FREE_HIGH,
  highOf,
  hpaOf,
  lowOf,
  SEPT,
  septState,
  stateOf,
} from "./sept-entry.js";

const RCX = BigInt(GPR.RCX);

describe("Secure EPT entries", () => {
  it.each(Object.entries(SEPT))("%s: encodes to an entry that decodes to itself", (_name, state) => {
    const hpa = 0xa_1234_5000;
    const low = lowOf(hpa, state);
    const high = highOf(hpa, state);
    expect(stateOf(low, high)).toBe(state);
    expect(hpaOf(low, high)).toBe(hpa);
    // Walkable for the processor if and only if the guest may reach it or there is a table.
    expect((low & 7) !== 0).toBe(septState(state).accessible || state === SEPT.NL_MAPPED);
    expect((low & 0x80) !== 0).toBe(septState(state).leaf);
    expect(high >>> 31).toBe(1);
  });

  it("shows the host no table address and nothing of a free entry", () => {
    const low = lowOf(0x5000, SEPT.NL_MAPPED);
    expect(architecturalLow(low, SEPT.NL_MAPPED)).toBe(7);
    expect(architecturalHigh(highOf(0x5000, SEPT.NL_MAPPED), SEPT.NL_MAPPED)).toBe(0x80000000);
    expect(architecturalLow(0, SEPT.FREE)).toBe(0);
    expect(architecturalHigh(FREE_HIGH, SEPT.FREE)).toBe(0x80000000);
    expect(architecturalLow(lowOf(0x5000, SEPT.MAPPED), SEPT.MAPPED)).toBe(0x50f7);
  });
});

/** State byte, level and entry of a GPA as TDH.MEM.SEPT.RD shows them. */
function read(td: TestTd, gpa: number, level = 0): { entry: bigint; state: number; level: number } {
  const gprs = td.host.must(TDH.MEM_SEPT_RD, { RCX: gpa + level, RDX: td.tdr });
  const info = Number(gprs[GPR.RDX]);
  return { entry: gprs[GPR.RCX] as bigint, state: (info >> 8) & 0xff, level: info & 7 };
}

describe("Secure EPT leaves", () => {
  const build = (): { host: TestHost; td: TestTd } => {
    const host = new TestHost().bringUp();
    return { host, td: host.runnableTd() };
  };

  it("walk as far as there are tables", () => {
    const { host, td } = build();
    const failed = host.seamcall(TDH.MEM_PAGE_AUG, { RCX: 0x4000_0000, RDX: td.tdr, R8: host.page() });
    expect(failed.status).toBe(TDX_STATUS.EPT_WALK_FAILED | RCX);
    expect(failed.gprs[GPR.RCX]).toBe(1n << 63n);
    expect(failed.gprs[GPR.RDX]).toBe(2n);
    expect(host.memory.read64(td.tables[2] as number, td.hkid)).toBe(0x80e0_0000_0000_0000n);
  });

  it("take a page through add, block, track and remove", () => {
    const { host, td } = build();
    const gpa = 0x7000;
    const page = td.augPage(gpa);
    expect(read(td, gpa)).toEqual({ entry: (1n << 63n) | BigInt(page) | 0xf0n, state: 2, level: 0 });
    const remove = (): bigint => host.seamcall(TDH.MEM_PAGE_REMOVE, { RCX: gpa, RDX: td.tdr }).status;
    expect(remove()).toBe(TDX_STATUS.GPA_RANGE_NOT_BLOCKED | RCX);
    host.must(TDH.MEM_RANGE_BLOCK, { RCX: gpa, RDX: td.tdr });
    expect(read(td, gpa).state).toBe(3);
    expect(host.seamcall(TDH.MEM_RANGE_BLOCK, { RCX: gpa, RDX: td.tdr }).status).toBe(
      TDX_STATUS.GPA_RANGE_ALREADY_BLOCKED | RCX,
    );
    expect(remove()).toBe(TDX_STATUS.TLB_TRACKING_NOT_DONE | RCX);
    expect(host.seamcall(TDH.MEM_RANGE_UNBLOCK, { RCX: gpa, RDX: td.tdr }).status).toBe(
      TDX_STATUS.TLB_TRACKING_NOT_DONE | OPERAND.SEPT_TREE,
    );
    host.must(TDH.MEM_TRACK, { RCX: td.tdr });
    host.must(TDH.MEM_RANGE_UNBLOCK, { RCX: gpa, RDX: td.tdr });
    expect(read(td, gpa).state).toBe(2);
    host.must(TDH.MEM_RANGE_BLOCK, { RCX: gpa, RDX: td.tdr });
    host.must(TDH.MEM_TRACK, { RCX: td.tdr });
    expect(remove()).toBe(0n);
    expect(read(td, gpa)).toEqual({ entry: 1n << 63n, state: 0, level: 0 });
    expect(remove()).toBe(TDX_STATUS.EPT_ENTRY_STATE_INCORRECT | RCX);
    expect(host.must(TDH.PHYMEM_PAGE_RDMD, { RCX: page })[GPR.RCX]).toBe(0n);
  });

  it("wait for vCPUs of the previous epoch", () => {
    const { host, td } = build();
    const gpa = 0x1000;
    let tracking = 0n;
    td.enter([
      () => {
        // The host's other processors work while this vCPU is in the TD.
        host.must(TDH.MEM_RANGE_BLOCK, { RCX: gpa, RDX: td.tdr });
        host.must(TDH.MEM_TRACK, { RCX: td.tdr });
        tracking = host.seamcall(TDH.MEM_TRACK, { RCX: td.tdr }).status;
        const early = host.seamcall(TDH.MEM_PAGE_REMOVE, { RCX: gpa, RDX: td.tdr });
        expect(early.status).toBe(TDX_STATUS.TLB_TRACKING_NOT_DONE | RCX);
        return { reason: 1, interruptionInfo: 0x80000020 };
      },
    ]);
    expect(tracking).toBe(TDX_STATUS.PREVIOUS_TLB_EPOCH_BUSY);
    expect(host.must(TDH.MEM_PAGE_REMOVE, { RCX: gpa, RDX: td.tdr })[GPR.RCX]).toBe(
      BigInt(td.pages.get(gpa) as number),
    );
  });

  it("flush translations when the epoch has moved on", () => {
    const { host, td } = build();
    const exit = { reason: 1, interruptionInfo: 0x80000020 };
    td.enter([exit]);
    const { flushes } = host.machine.guest;
    td.enter([exit]);
    expect(host.machine.guest.flushes).toBe(flushes);
    host.must(TDH.MEM_TRACK, { RCX: td.tdr });
    td.enter([exit]);
    expect(host.machine.guest.flushes).toBe(flushes + 1);
  });

  it("free a table when it is empty, blocked and tracked", () => {
    const { host, td } = build();
    td.augPage(0x4000_0000);
    const remove = (): bigint => host.seamcall(TDH.MEM_SEPT_REMOVE, { RCX: 0x4000_0000 + 1, RDX: td.tdr }).status;
    expect(remove()).toBe(TDX_STATUS.EPT_ENTRY_STATE_INCORRECT | RCX);
    host.must(TDH.MEM_RANGE_BLOCK, { RCX: 0x4000_0000, RDX: td.tdr });
    host.must(TDH.MEM_RANGE_BLOCK, { RCX: 0x4000_0001, RDX: td.tdr });
    expect(remove()).toBe(TDX_STATUS.TLB_TRACKING_NOT_DONE | RCX);
    host.must(TDH.MEM_TRACK, { RCX: td.tdr });
    expect(remove()).toBe(TDX_STATUS.EPT_PAGE_NOT_FREE | RCX);
    host.must(TDH.MEM_RANGE_UNBLOCK, { RCX: 0x4000_0001, RDX: td.tdr });
    host.must(TDH.MEM_PAGE_REMOVE, { RCX: 0x4000_0000, RDX: td.tdr });
    host.must(TDH.MEM_RANGE_BLOCK, { RCX: 0x4000_0001, RDX: td.tdr });
    host.must(TDH.MEM_TRACK, { RCX: td.tdr });
    expect(remove()).toBe(0n);
  });

  it("adds a table once, and again only with ALLOW_EXISTING", () => {
    const { host, td } = build();
    const add = (flags: number): bigint =>
      host.seamcall(TDH.MEM_SEPT_ADD, { RCX: 1, RDX: td.tdr + flags, R8: host.page() }).status;
    expect(add(0)).toBe(TDX_STATUS.EPT_ENTRY_STATE_INCORRECT | RCX);
    expect(add(1)).toBe(0n);
    expect(add(2)).toBe(TDX_STATUS.OPERAND_INVALID | BigInt(GPR.RDX));
  });

  it.each([
    ["reserved bits", 0x1008],
    ["level", 0x1005],
    ["alignment", 0x1001],
    ["shared", 2 ** 47],
  ])("refuse RCX: %s", (_name, rcx) => {
    const { host, td } = build();
    const { status } = host.seamcall(TDH.MEM_RANGE_BLOCK, { RCX: rcx, RDX: td.tdr });
    expect(status).toBe(TDX_STATUS.OPERAND_INVALID | RCX);
  });

  it("relocate a page with its content", () => {
    const { host, td } = build();
    const to = host.page();
    host.must(TDH.MEM_RANGE_BLOCK, { RCX: 0x1000, RDX: td.tdr });
    host.must(TDH.MEM_TRACK, { RCX: td.tdr });
    const gprs = host.must(TDH.MEM_PAGE_RELOCATE, { RCX: 0x1000, RDX: td.tdr, R8: to });
    expect(gprs[GPR.RCX]).toBe(BigInt(td.pages.get(0x1000) as number));
    expect(host.memory.read8(to + 5, td.hkid)).toBe(0x5a);
    expect(read(td, 0x1000).state).toBe(4);
  });

  it("split a large page and put it together again", () => {
    const { host, td } = build();
    const gpa = 0x20_0000;
    const large = host.largePage();
    host.must(TDH.MEM_PAGE_AUG, { RCX: gpa + 1, RDX: td.tdr, R8: large });
    expect(read(td, gpa, 1)).toMatchObject({ state: 2, level: 1 });
    const busy = host.seamcall(TDH.MEM_PAGE_AUG, { RCX: gpa + 0x20_0001, RDX: td.tdr, R8: large });
    expect(busy.status).toBe(TDX_STATUS.PAGE_METADATA_INCORRECT | BigInt(GPR.R8));
    host.must(TDH.MEM_RANGE_BLOCK, { RCX: gpa + 1, RDX: td.tdr });
    host.must(TDH.MEM_TRACK, { RCX: td.tdr });
    const table = host.page();
    host.must(TDH.MEM_PAGE_DEMOTE, { RCX: gpa + 1, RDX: td.tdr, R8: table });
    expect(read(td, gpa + 0x5000)).toMatchObject({ entry: (1n << 63n) | BigInt(large + 0x5000) | 0xf0n, state: 2 });
    expect(host.must(TDH.PHYMEM_PAGE_RDMD, { RCX: large + 0x5000 })[GPR.R8]).toBe(0n);
    host.must(TDH.MEM_RANGE_BLOCK, { RCX: gpa + 1, RDX: td.tdr });
    host.must(TDH.MEM_TRACK, { RCX: td.tdr });
    const gprs = host.must(TDH.MEM_PAGE_PROMOTE, { RCX: gpa + 1, RDX: td.tdr });
    expect(gprs[GPR.RCX]).toBe(BigInt(table));
    expect(read(td, gpa, 1)).toMatchObject({ state: 2, level: 1 });
    expect(host.must(TDH.PHYMEM_PAGE_RDMD, { RCX: large + 0x5000 })[GPR.R8]).toBe(1n);
  });

  it("does not promote what differs", () => {
    const { host, td } = build();
    host.must(TDH.MEM_RANGE_BLOCK, { RCX: 1, RDX: td.tdr });
    host.must(TDH.MEM_TRACK, { RCX: td.tdr });
    const { status } = host.seamcall(TDH.MEM_PAGE_PROMOTE, { RCX: 1, RDX: td.tdr });
    expect(status).toBe(TDX_STATUS.EPT_INVALID_PROMOTE_CONDITIONS | RCX);
  });

  it("let the host read a debug TD only", () => {
    const { host, td } = build();
    expect(host.seamcall(TDH.MEM_RD, { RCX: 0x1008, RDX: td.tdr }).status).toBe(TDX_STATUS.TD_NON_DEBUG);
    const debug = host.runnableTd({ attributes: 1n });
    host.must(TDH.MEM_WR, { RCX: 0x1008, RDX: debug.tdr, R8: 0x1234 });
    expect(host.must(TDH.MEM_RD, { RCX: 0x1008, RDX: debug.tdr })[GPR.R8]).toBe(0x1234n);
  });
});
