import { describe, expect, it } from "vitest";
import { BANK, MCG_CAP, MCG_EXT_CTL, MCG_STATUS, MCI, MCI_CTL2, MCI_STATUS, UCNA_STATUS } from "../../arch/mca.js";
import { FEATURE_CONTROL, MSR } from "../../arch/msr.js";
import { SI_CODE } from "../../arch/siginfo.js";
import { consumedPoison, errorAddress, memoryControllerPoison } from "../../platform/mca/errors.js";
import { MachineCheckUnit, packageBanks } from "../../platform/mca/machine-check-unit.js";
import { PAGE_SIZE, pfnOf } from "../mm/page.js";
import { KVM_MACHINE_CHECK_FRAME } from "./handler.js";
import { HostPanic } from "./host-panic.js";
import { bankMsr, type MachineCheckProcessor } from "./processor.js";
import {
  BROADCAST_BYSTANDER,
  BROADCAST_FROM_TD,
  DCU_SRAR,
  EXAMPLE_ADDR,
  EXAMPLE_HPA,
  FakeProcessor,
  IFU_SRAR,
  KERNEL_FRAME,
  KEY_ID_SHIFT,
  LOCAL_FROM_TD,
  TEST_MCG_CAP,
  type TestHost,
  testHost,
  USER_FRAME,
} from "./testing.js";

const IMC_UCNA = UCNA_STATUS | 0x082a_0090n;
const FULL = MCG_STATUS.RIPV | MCG_STATUS.EIPV | MCG_STATUS.MCIP | MCG_STATUS.LMCE_S;

/** The #MC that follows a TD's load of a poisoned line. */
function strike({ lp }: TestHost, status = DCU_SRAR, mcgStatus = LOCAL_FROM_TD, bank: number = BANK.DCU): void {
  lp.logError(bank, status);
  lp.mcgStatus = mcgStatus;
}

function panicOf(act: () => unknown): HostPanic {
  try {
    act();
  } catch (error) {
    if (error instanceof HostPanic) return error;
    throw error;
  }
  throw new Error("the host lives");
}

describe("an error in SEAM non-root", () => {
  it.each([
    { what: "data load", bank: BANK.DCU, status: DCU_SRAR, row: 20 },
    { what: "instruction fetch", bank: BANK.IFU, status: IFU_SRAR, row: 21 },
  ])("flags the page and does nothing else: $what", ({ bank, status, row }) => {
    const host = testHost();
    strike(host, status, LOCAL_FROM_TD, bank);
    const outcome = host.check.doMachineCheck(host.lp, KERNEL_FRAME);
    expect(outcome).toMatchObject({ action: "page-poisoned", context: "kernel", pfn: pfnOf(EXAMPLE_HPA) });
    expect(outcome.row?.row).toBe(row);
    expect(host.names()).toEqual(["machine-check", "page-poisoned"]);
    expect(host.events[0]).toMatchObject({ layer: "mce", lp: 0 });
    expect(host.events[0]?.fields).toMatchObject({
      bank,
      status,
      addr: EXAMPLE_ADDR,
      misc: 0x86n,
      mcgStatus: LOCAL_FROM_TD,
      severity: "AR",
      row,
      context: "kernel",
    });
    expect(host.allocator.poisonedPages).toEqual([EXAMPLE_HPA]);
    expect(host.allocator.references(EXAMPLE_HPA)).toBe(1);
    expect(host.file.lookup(0)).toBe(EXAMPLE_HPA);
    expect(host.failure.records).toEqual([]);
    expect(host.failure.hardwareCorruptedKib).toBe(0);
    expect(host.task.returnToUser()).toBeNull();
  });

  it("clears the handled bank before it acts, and MCG_STATUS last", () => {
    const host = testHost();
    host.lp.logError(BANK.IMC, IMC_UCNA);
    strike(host);
    const seen: string[] = [];
    const spy = host.events.push.bind(host.events);
    host.events.push = (...items) => {
      seen.push(...items.map((event) => `${event.event} after ${host.lp.writes.join(", ") || "nothing"}`));
      return spy(...items);
    };
    host.check.doMachineCheck(host.lp, KERNEL_FRAME);
    expect(seen).toEqual(["machine-check after STATUS 1", "page-poisoned after STATUS 1"]);
    expect(host.lp.writes).toEqual(["STATUS 1", "MCG_STATUS"]);
    expect(host.lp.status(BANK.DCU)).toBe(0n);
    // The memory controller's own record asks for no action: it waits for polling.
    expect(host.lp.status(BANK.IMC)).toBe(IMC_UCNA);
    expect(host.check.tainted).toBe(true);
    expect(host.check.log.entries.map((entry) => [entry.record.bank, entry.row.row, entry.source])).toEqual([
      [BANK.DCU, 20, "exception"],
    ]);
  });

  it("flags a page once, however often it is hit", () => {
    const host = testHost();
    for (let i = 0; i < 2; i++) {
      strike(host);
      expect(host.check.doMachineCheck(host.lp, KERNEL_FRAME).action).toBe("page-poisoned");
    }
    expect(host.names().filter((name) => name === "page-poisoned")).toHaveLength(1);
    expect(host.file.close().withheld).toEqual([EXAMPLE_HPA]);
  });

  it.each([
    { hostProfile: "fixed", action: "page-poisoned", poisoned: [EXAMPLE_HPA], addr: BigInt(EXAMPLE_HPA) },
    { hostProfile: "linux-6.16", action: "page-not-found", poisoned: [], addr: EXAMPLE_ADDR },
  ] as const)("takes the KeyID out of the address or loses the mark: $hostProfile", (test) => {
    const host = testHost({ hostProfile: test.hostProfile });
    strike(host);
    const outcome = host.check.doMachineCheck(host.lp, KERNEL_FRAME);
    expect(outcome.action).toBe(test.action);
    expect(outcome.record?.addr).toBe(test.addr);
    expect(outcome.record?.rawAddr).toBe(EXAMPLE_ADDR);
    expect(host.allocator.poisonedPages).toEqual(test.poisoned);
    expect(host.file.close().returned).toBe(1 - test.poisoned.length);
  });

  it("finds no page for an address that is none", () => {
    const host = testHost();
    host.lp.logError(BANK.DCU, DCU_SRAR, EXAMPLE_ADDR, 0x46n);
    host.lp.mcgStatus = LOCAL_FROM_TD;
    expect(host.check.doMachineCheck(host.lp, KERNEL_FRAME)).toMatchObject({ action: "page-not-found", pfn: null });
    expect(host.lp.mcgStatus).toBe(0n);
  });

  it("leaves another thread's error alone", () => {
    const host = testHost();
    strike(host, DCU_SRAR, LOCAL_FROM_TD & ~MCG_STATUS.EIPV);
    const outcome = host.check.doMachineCheck(host.lp, KERNEL_FRAME);
    expect(outcome).toMatchObject({ action: "none", row: { row: 16 } });
    expect(host.lp.status(BANK.DCU)).toBe(DCU_SRAR);
    expect(host.lp.writes).toEqual(["MCG_STATUS"]);
    expect(host.events[0]?.fields).toMatchObject({ severity: "KEEP", row: 16 });
    expect(host.allocator.poisonedPages).toEqual([]);
  });
});

describe("the host panics", () => {
  it.each([
    { what: "no SEAM_NR", status: DCU_SRAR, mcg: FULL, row: 22 },
    { what: "RIPV=0", status: DCU_SRAR, mcg: LOCAL_FROM_TD & ~MCG_STATUS.RIPV, row: 6 },
    { what: "PCC", status: DCU_SRAR | MCI_STATUS.PCC, mcg: LOCAL_FROM_TD, row: 3 },
    { what: "ADDRV=0", status: DCU_SRAR & ~MCI_STATUS.ADDRV, mcg: LOCAL_FROM_TD, row: 24 },
  ])("$what: row $row", ({ status, mcg, row }) => {
    const host = testHost();
    strike(host, status, mcg);
    const panic = panicOf(() => host.check.doMachineCheck(host.lp, KERNEL_FRAME));
    expect(panic.row?.row).toBe(row);
    expect(panic.message).toBe(`Fatal local machine check: ${panic.row?.name}`);
    expect(panic.record?.status).toBe(status);
    expect(host.names()).toEqual(["machine-check", "host-panic"]);
    // Everything stays in the registers for the dump.
    expect(host.lp.writes).toEqual([]);
  });

  it("also when it meets the others, after it has logged", () => {
    const host = testHost({ count: 2 });
    strike(host, DCU_SRAR, BROADCAST_FROM_TD & ~MCG_STATUS.SEAM_NR);
    const panic = panicOf(() => host.check.doMachineCheck(host.lp, KERNEL_FRAME));
    expect(panic.message).toBe(`Fatal machine check: ${panic.row?.name}`);
    expect(host.check.log.entries).toHaveLength(1);
    expect(host.lp.status(BANK.DCU)).toBe(DCU_SRAR);
  });

  it("says so if the lost memory belongs to TDX", () => {
    const asked: number[] = [];
    const tdxNote = (hpa: number) => {
      asked.push(hpa);
      return "private memory";
    };
    const host = testHost({ tdxNote, hostProfile: "linux-6.16" });
    strike(host, DCU_SRAR, FULL);
    expect(panicOf(() => host.check.doMachineCheck(host.lp, KERNEL_FRAME)).tdxNote).toBe("private memory");
    expect(asked).toEqual([EXAMPLE_HPA]);
  });

  it("when kernel code without an error record cannot go on", () => {
    const host = testHost();
    host.lp.mcgStatus = MCG_STATUS.MCIP | MCG_STATUS.LMCE_S;
    expect(panicOf(() => host.check.doMachineCheck(host.lp, KERNEL_FRAME)).row).toBeNull();
  });
});

describe("an error in user mode", () => {
  it("is KVM's made-up frame for a #MC that a TD exit consumed", () => {
    const host = testHost({ hostProfile: "linux-6.16" });
    strike(host);
    const outcome = host.check.doMachineCheck(host.lp, KVM_MACHINE_CHECK_FRAME);
    expect(outcome).toMatchObject({ action: "task-work", context: "user", pfn: pfnOf(EXAMPLE_HPA), row: { row: 18 } });
    expect(host.allocator.poisonedPages).toEqual([]);
    // The guest_memfd page counts as not recovered in 6.16: SIGBUS without an address.
    expect(host.task.returnToUser()).toEqual({ signal: "SIGBUS", code: SI_CODE.SI_KERNEL, hva: null, addressLsb: 0 });
    expect(host.names()).toEqual(["machine-check", "page-poisoned", "memory-failure"]);
    expect(host.file.close().withheld).toEqual([EXAMPLE_HPA]);
  });

  it("sends no signal for a guest_memfd page where truncation knows better", () => {
    const host = testHost();
    strike(host);
    host.check.doMachineCheck(host.lp, KVM_MACHINE_CHECK_FRAME);
    expect(host.task.returnToUser()).toBeNull();
    expect(host.allocator.poisonedPages).toEqual([EXAMPLE_HPA]);
  });

  it("signals the address of a page of the process", () => {
    const host = testHost();
    const hva = host.user.mmap(PAGE_SIZE);
    const hpa = host.user.hvaToHpa(hva, true) as number;
    host.lp.logError(BANK.DCU, DCU_SRAR, BigInt(hpa));
    host.lp.mcgStatus = FULL;
    host.check.doMachineCheck(host.lp, USER_FRAME);
    expect(host.task.mceCount).toBe(1);
    expect(host.task.returnToUser()).toMatchObject({ code: SI_CODE.BUS_MCEERR_AR, hva });
    expect(host.task.mceCount).toBe(0);
  });

  it("kills without an address that can be used", () => {
    const host = testHost();
    host.lp.logError(BANK.DCU, DCU_SRAR, EXAMPLE_ADDR, 0x8dn);
    host.lp.mcgStatus = FULL;
    host.check.doMachineCheck(host.lp, USER_FRAME);
    expect(host.task.returnToUser()).toMatchObject({ code: SI_CODE.SI_KERNEL });
    expect(host.allocator.poisonedPages).toEqual([]);
  });

  it("kills the task when it cannot be restarted, whatever the banks say", () => {
    const host = testHost();
    host.lp.mcgStatus = MCG_STATUS.EIPV | MCG_STATUS.MCIP | MCG_STATUS.LMCE_S;
    expect(host.check.doMachineCheck(host.lp, USER_FRAME)).toMatchObject({ action: "task-work", row: null });
    expect(host.task.returnToUser()).toMatchObject({ code: SI_CODE.SI_KERNEL });
  });

  it("queues one task work per page and panics at a second page or at too many", () => {
    const host = testHost();
    for (let i = 0; i < 10; i++) {
      strike(host, DCU_SRAR, FULL);
      host.check.doMachineCheck(host.lp, USER_FRAME);
    }
    strike(host, DCU_SRAR, FULL);
    expect(panicOf(() => host.check.doMachineCheck(host.lp, USER_FRAME)).message).toContain("Too many");
    const other = testHost();
    strike(other, DCU_SRAR, FULL);
    other.check.doMachineCheck(other.lp, USER_FRAME);
    other.lp.logError(BANK.DCU, DCU_SRAR, EXAMPLE_ADDR + 0x1000n);
    other.lp.mcgStatus = FULL;
    expect(panicOf(() => other.check.doMachineCheck(other.lp, USER_FRAME)).message).toContain("another page");
  });
});

describe("an error in kernel code with a fix-up", () => {
  it.each([
    { fixup: "copy-from-user", poisoned: [EXAMPLE_HPA] },
    { fixup: "mce-safe", poisoned: [] },
  ] as const)("goes on there: $fixup", ({ fixup, poisoned }) => {
    const host = testHost({ fixupOf: (ip) => (ip === KERNEL_FRAME.rip ? fixup : null) });
    strike(host, DCU_SRAR, FULL);
    const outcome = host.check.doMachineCheck(host.lp, KERNEL_FRAME);
    expect(outcome).toMatchObject({ action: "fixed-up", context: "kernel-recoverable", row: { row: 17 } });
    expect(host.task.returnToUser()).toBeNull();
    expect(host.allocator.poisonedPages).toEqual(poisoned);
  });
});

describe("a broadcast machine check", () => {
  it("is handled by each processor for itself", () => {
    const host = testHost({ count: 3 });
    for (const lp of host.lps) {
      lp.logError(BANK.DCU, DCU_SRAR);
      lp.mcgStatus = lp.id === 1 ? BROADCAST_FROM_TD : BROADCAST_BYSTANDER;
    }
    const actions = host.lps.map((lp) => host.check.doMachineCheck(lp, KERNEL_FRAME));
    expect(actions.map(({ action, row }) => [action, row?.row])).toEqual([
      ["none", 16],
      ["page-poisoned", 20],
      ["none", 16],
    ]);
    expect(host.check.state.arrived).toEqual([]);
    expect(host.lps.map((lp) => lp.mcgStatus)).toEqual([0n, 0n, 0n]);
  });

  it("panics for a processor that cannot come", () => {
    const host = testHost({ count: 3, canArrive: (lp) => lp.id !== 2 });
    strike(host, DCU_SRAR, BROADCAST_FROM_TD);
    expect(panicOf(() => host.check.doMachineCheck(host.lp, KERNEL_FRAME)).message).toMatch(/missing 2$/);
    const patient = testHost({ count: 3, canArrive: (lp) => lp.id !== 2, monarchTimeoutNs: 0 });
    strike(patient, DCU_SRAR, BROADCAST_FROM_TD);
    expect(patient.check.doMachineCheck(patient.lp, KERNEL_FRAME).action).toBe("page-poisoned");
  });

  it("panics when it strikes again before all have come", () => {
    const host = testHost({ count: 3 });
    for (let i = 0; i < 2; i++) {
      strike(host, DCU_SRAR, BROADCAST_FROM_TD);
      if (i === 0) host.check.doMachineCheck(host.lp, KERNEL_FRAME);
    }
    expect(host.check.state.arrived).toEqual([0]);
    expect(panicOf(() => host.check.doMachineCheck(host.lp, KERNEL_FRAME)).message).toMatch(/missing 1, 2$/);
  });
});

describe("set-up of a processor", () => {
  it("enables banks, interrupts and local machine checks, and keeps the firmware's bits", () => {
    const host = testHost();
    const lp = new FakeProcessor(7);
    lp.set(MSR.IA32_MC0_CTL2 + 1, MCI_CTL2.MSMI_EN | MCI_CTL2.CSMI_EN);
    const setup = host.check.setUp(lp);
    expect(setup).toMatchObject({ ser: true, lmce: true });
    expect(setup.banks).toHaveLength(BANK.COUNT);
    expect(lp.readMsr(MSR.IA32_MC0_CTL2 + 1)).toBe(MCI_CTL2.MSMI_EN | MCI_CTL2.CSMI_EN | MCI_CTL2.CMCI_EN | 1n);
    expect(lp.readMsr(bankMsr(1, MCI.CTL))).toBe(0xffff_ffff_ffff_ffffn);
    expect(lp.readMsr(MSR.IA32_MCG_EXT_CTL)).toBe(MCG_EXT_CTL.LMCE_EN);
  });

  it.each([
    {
      what: "no capability",
      cap: TEST_MCG_CAP & ~MCG_CAP.LMCE_P,
      control: FEATURE_CONTROL.LOCK | FEATURE_CONTROL.LMCE_ON,
    },
    {
      what: "no recovery",
      cap: TEST_MCG_CAP & ~MCG_CAP.SER_P,
      control: FEATURE_CONTROL.LOCK | FEATURE_CONTROL.LMCE_ON,
    },
    { what: "not locked", cap: TEST_MCG_CAP, control: FEATURE_CONTROL.LMCE_ON },
    { what: "not allowed", cap: TEST_MCG_CAP, control: FEATURE_CONTROL.LOCK },
  ])("leaves local machine checks off: $what", ({ cap, control }) => {
    const host = testHost();
    const lp = new FakeProcessor(7);
    lp.set(MSR.IA32_MCG_CAP, cap);
    lp.set(MSR.IA32_FEATURE_CONTROL, control);
    expect(host.check.setUp(lp).lmce).toBe(false);
    expect(lp.readMsr(MSR.IA32_MCG_EXT_CTL)).toBe(0n);
  });

  it("logs and clears what the banks hold from before", () => {
    const host = testHost();
    const lp = new FakeProcessor(7);
    lp.logError(BANK.DCU, DCU_SRAR);
    host.check.setUp(lp);
    expect(host.check.log.entries.map((entry) => [entry.record.bank, entry.source])).toEqual([[BANK.DCU, "poll"]]);
    expect(lp.status(BANK.DCU)).toBe(0n);
  });
});

describe("polling", () => {
  it("logs corrected and unsignaled errors and leaves the rest to #MC", () => {
    const host = testHost();
    const corrected = MCI_STATUS.VAL | MCI_STATUS.EN | 0x90n;
    host.lp.logError(BANK.DCU, DCU_SRAR);
    host.lp.logError(BANK.IMC, IMC_UCNA);
    host.lp.logError(BANK.IMC + 1, corrected);
    expect(host.check.handleCmci(host.lp).map((record) => record.bank)).toEqual([BANK.IMC, BANK.IMC + 1]);
    expect(host.lp.writes).toEqual(["STATUS 13", "STATUS 14"]);
    expect(host.lp.status(BANK.DCU)).toBe(DCU_SRAR);
    expect(host.names()).toEqual(["machine-check-poll", "machine-check-poll"]);
    expect(host.events.map((event) => event.fields.severity)).toEqual(["UCNA", "KEEP"]);
    expect(host.check.machineCheckPoll(host.lp)).toEqual([]);
  });

  it.each(["fixed", "linux-6.16"] as const)(
    "takes the page of an unsignaled error out of use, later (%s)",
    (hostProfile) => {
      const host = testHost({ hostProfile });
      host.lp.logError(BANK.IMC, IMC_UCNA);
      host.check.handleCmci(host.lp);
      expect(host.allocator.poisonedPages).toEqual([]);
      expect(host.check.log.hasUnprocessed).toBe(true);
      host.check.log.process();
      expect(host.check.log.hasUnprocessed).toBe(false);
      expect(host.allocator.poisonedPages).toEqual([EXAMPLE_HPA]);
      expect(host.failure.records).toHaveLength(1);
    },
  );

  it("asks for nothing more about an error that #MC has handled", () => {
    const host = testHost();
    strike(host);
    host.check.doMachineCheck(host.lp, KERNEL_FRAME);
    host.check.log.process();
    expect(host.failure.records).toEqual([]);
  });

  it("polls a shared bank on the processor that owns its interrupt", () => {
    const host = testHost();
    const lp = new FakeProcessor(7);
    lp.set(MSR.IA32_MC0_CTL2 + BANK.IMC, MCI_CTL2.CMCI_EN | 1n);
    expect(host.check.setUp(lp).cmciBanks).not.toContain(BANK.IMC);
    lp.logError(BANK.IMC, IMC_UCNA);
    expect(host.check.handleCmci(lp)).toEqual([]);
    expect(host.check.machineCheckPoll(lp)).toHaveLength(1);
  });
});

describe("on the platform's registers", () => {
  it("does only what they allow, from set-up to the end of a machine check", () => {
    const unit = new MachineCheckUnit({ lmce: true, seamNr: true }, packageBanks(), () => 0x10_0001n);
    const access = { inSmm: false };
    const lp: MachineCheckProcessor = {
      id: 0,
      readMsr: (index) => (index === MSR.IA32_FEATURE_CONTROL ? unit.featureControl() : unit.read(index, access)),
      writeMsr: (index, value) => unit.write(index, value, access),
    };
    unit.bank(BANK.DCU).ctl2 = MCI_CTL2.MSMI_EN;
    const host = testHost();
    expect(host.check.setUp(lp)).toMatchObject({ lmce: true, ser: true });
    expect(unit.lmceEnabled).toBe(true);
    expect(unit.bank(BANK.DCU).ctl2).toBe(MCI_CTL2.MSMI_EN | MCI_CTL2.CMCI_EN | 1n);
    const { bank, error } = consumedPoison("load", errorAddress(EXAMPLE_HPA + 0x47, 0x21, KEY_ID_SHIFT));
    unit.bank(bank).log(error);
    unit.bank(BANK.IMC).log(memoryControllerPoison("integrity", error.addr));
    unit.status = LOCAL_FROM_TD;
    expect(host.check.doMachineCheck(lp, KERNEL_FRAME).action).toBe("page-poisoned");
    expect([unit.status, unit.bank(bank).valid, unit.bank(BANK.IMC).valid]).toEqual([0n, false, true]);
    expect(host.allocator.poisonedPages).toEqual([EXAMPLE_HPA]);
    expect(host.check.handleCmci(lp).map((record) => record.bank)).toEqual([BANK.IMC]);
  });
});

describe("state", () => {
  it("is a value that another kernel goes on from", () => {
    const host = testHost({ count: 2 });
    strike(host, DCU_SRAR, BROADCAST_FROM_TD);
    host.check.doMachineCheck(host.lp, KERNEL_FRAME);
    host.lp.logError(BANK.IMC, IMC_UCNA);
    host.check.handleCmci(host.lp);
    const other = testHost({ count: 2 });
    other.check.restore(structuredClone(host.check.state));
    expect(other.check.state).toEqual(host.check.state);
    expect(other.check.tainted).toBe(true);
    expect(other.check.log.entries).toEqual(host.check.log.entries);
    other.check.log.process();
    expect(other.allocator.poisonedPages).toEqual([EXAMPLE_HPA]);
  });
});
