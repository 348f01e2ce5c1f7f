import { describe, expect, it } from "vitest";
import { TDH } from "../../arch/tdx-abi.js";
import { GPR } from "../../platform/seam.js";
import { asyncExit, type FakeTd, GLOBAL_KEY_ID, makeHost, makeTd } from "./testing.js";

const TD_FATAL = 0xe000_0604_0000_0000n;
/** What the module does on a fatal TD: everything that needs the TD's own state is refused. */
function makeFatal(td: FakeTd): void {
  const refused = [TDH.MEM_RANGE_BLOCK, TDH.MEM_TRACK, TDH.MEM_PAGE_REMOVE, TDH.VP_ENTER, TDH.VP_RD, TDH.VP_WR];
  for (const leaf of refused) td.machine.answers.set(leaf, () => TD_FATAL);
}

const count = (td: FakeTd, leaf: string): number => td.machine.leaves.filter((name) => name === leaf).length;

/** A TD with four private pages, the second of which was poisoned. */
function victim(profile: "fixed" | "linux-6.16"): FakeTd & { poisoned: number; free: number } {
  const free = makeHost({ profile }).kernel.pages.counters.free;
  const td = makeTd({ profile });
  td.vcpu.preFaultMemory({ gpa: 0, size: 0x4000 });
  td.machine.guest.push(asyncExit(0x6000000500000006n, { rcx: 1n }));
  td.vcpu.run();
  const poisoned = td.gmem.lookup(1) ?? 0;
  td.kernel.pages.setHwPoison(poisoned);
  makeFatal(td);
  td.machine.calls.length = 0;
  td.machine.seen.length = 0;
  return { ...td, poisoned, free };
}

describe("teardown", () => {
  it("of a fatal TD releases the KeyID first, and only the poisoned page is kept", () => {
    const td = victim("fixed");
    const { vm, kernel, poisoned, free } = td;
    const pages = [0, 2, 3].map((page) => td.gmem.lookup(page));
    expect(vm.destroy()).toEqual({ private: 4, returned: 3, withheld: [poisoned], leaked: 0 });
    expect(td.machine.leaves.slice(0, 4)).toEqual(["VP_FLUSH", "MNG_VPFLUSHDONE", "PHYMEM_CACHE_WB", "MNG_KEY_FREEID"]);
    expect(count(td, "MEM_RANGE_BLOCK")).toBe(0);
    // Four guest pages, three tables, six pages of the vCPU, six of the TD, TDR.
    expect(count(td, "PHYMEM_PAGE_RECLAIM")).toBe(4 + 3 + 6 + 6 + 1);
    const last = td.machine.calls.at(-1);
    expect(last?.leaf).toBe(TDH.PHYMEM_PAGE_WBINVD);
    expect((last?.inputs[GPR.RCX] ?? 0n) >> 46n).toBe(BigInt(GLOBAL_KEY_ID));
    expect(pages.every((page) => kernel.pages.isFree(page ?? 0))).toBe(true);
    expect(kernel.pages.isFree(poisoned)).toBe(false);
    expect(kernel.pages.counters.free).toBe(free - 1);
    expect(vm.vmBugged).toBe(false);
    expect(vm.destroy().returned).toBe(3);
  });

  it("tells of the pages in runs", () => {
    const td = victim("fixed");
    const first = td.gmem.lookup(0) ?? 0;
    td.vm.destroy();
    const runs = td.machine.seen
      .filter(
        ({ event, fields }) =>
          event.startsWith("page-") && Number(fields.hpa) >= first && Number(fields.hpa) < first + 0x8000,
      )
      .map(({ event, fields }) => [event, Number(fields.hpa) - first, fields.count]);
    expect(runs.filter(([event]) => event === "page-withheld")).toEqual([["page-withheld", td.poisoned - first, 1]]);
    const returned = runs.filter(([event]) => event === "page-returned").reduce((sum, run) => sum + Number(run[2]), 0);
    expect(returned).toBe(3);
  });

  it("of a fatal TD on Linux 6.16 leaks every private page", () => {
    const td = victim("linux-6.16");
    const { vm, kernel } = td;
    expect(vm.destroy()).toMatchObject({ private: 4, returned: 0, withheld: [], leaked: 4 });
    expect(vm.vmBugged).toBe(true);
    expect(count(td, "MEM_RANGE_BLOCK")).toBe(4);
    expect(td.machine.leaves.indexOf("MEM_RANGE_BLOCK")).toBeLessThan(td.machine.leaves.indexOf("VP_FLUSH"));
    expect(kernel.pages.counters.free).toBe(td.free - 4);
    expect(kernel.log.filter((line) => line.includes("RANGE.BLOCK")).length).toBe(1);
  });

  it.each(["fixed", "linux-6.16"] as const)("of a healthy TD gives everything back (%s)", (profile) => {
    const free = makeHost({ profile }).kernel.pages.counters.free;
    const td = makeTd({ profile });
    td.vcpu.preFaultMemory({ gpa: 0, size: 0x4000 });
    expect(td.vm.destroy()).toEqual({ private: 4, returned: 4, withheld: [], leaked: 0 });
    td.kernel.userMemory.unmapAll();
    expect(td.kernel.pages.counters.free).toBe(free);
    expect(td.vcpu.run()).toBe(-5);
    expect(td.vm.vmBugged).toBe(false);
  });

  it("leaks everything if the KeyID cannot be released", () => {
    const td = makeTd();
    td.vcpu.preFaultMemory({ gpa: 0, size: 0x2000 });
    td.machine.answers.set(TDH.MNG_KEY_FREEID, () => 0x8000_0817_0000_0000n);
    makeFatal(td);
    td.machine.calls.length = 0;
    expect(td.vm.destroy()).toMatchObject({ leaked: 2, returned: 0 });
    expect(td.kernel.log).toContain(`kvm: tdx: HKID ${GLOBAL_KEY_ID + 1} is leaked`);
    expect(count(td, "PHYMEM_PAGE_RECLAIM")).toBe(0);
  });

  it("resumes an interrupted write-back, in every package", () => {
    const td = makeTd({ logicalProcessors: 2, packages: 2 });
    let calls = 0;
    td.machine.answers.set(TDH.PHYMEM_CACHE_WB, () => (++calls < 3 ? 0x8000_0003_0000_0000n : 0x0000_0821_0000_0000n));
    td.machine.calls.length = 0;
    td.vm.destroy();
    const writeBacks = td.machine.calls.filter(({ leaf }) => leaf === TDH.PHYMEM_CACHE_WB);
    expect(writeBacks.map(({ inputs, lp }) => [inputs[GPR.RCX], lp])).toEqual([
      [0n, 0],
      [1n, 0],
      [1n, 0],
      [0n, 1],
    ]);
    expect(td.vm.vmBugged).toBe(false);
  });
});

describe("a machine check that a VM exit consumed", () => {
  it("is handled by the host as one of user mode, before KVM looks at the status", () => {
    const td = makeTd();
    const [lp] = td.machine.lps;
    // Bank 1: data load, in SEAM non-root.
    lp?.writeMsr(0x17a, 0x100fn);
    lp?.writeMsr(0x405, 0xbd80000000000134n);
    lp?.writeMsr(0x406, 0x300000n);
    lp?.writeMsr(0x407, 0x86n);
    td.machine.guest.push(asyncExit(0x6000000500000000n, { r9: 0x80000312n }));
    expect(td.vcpu.run()).toBe(0);
    const names = td.machine.seen.map(({ event }) => event);
    expect(names.indexOf("machine-check")).toBeLessThan(names.indexOf("kvm-userspace-exit"));
    const check = td.machine.seen.find(({ event }) => event === "machine-check");
    expect(check?.fields).toMatchObject({ context: "user" });
    expect(td.kernel.pages.isHwPoison(0x300000)).toBe(true);
    expect(td.vcpu.kvmRun.internal.data[0]).toBe(0x6000000500000000n);
  });
});
