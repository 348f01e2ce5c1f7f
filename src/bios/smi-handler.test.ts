import { describe, expect, it } from "vitest";
import { BANK, MCI_CTL2 } from "../arch/mca.js";
import { MSR, X2APIC_MSR } from "../arch/msr.js";
import { inspectPlatform } from "../platform/inspect.js";
import { fakeModule, testMachine } from "../platform/testing.js";
import { type FirmwareOptions, installFirmware } from "./smi-handler.js";

const TD = 40;

/** A TD's load consumes poison; the SEAMCALL that ran it returns to the host. */
function struck(options: FirmwareOptions = {}, logicalProcessors = 1) {
  const machine = testMachine({ logicalProcessors });
  const { platform, lp, core, log } = machine;
  const firmware = installFirmware(platform, options);
  const story: string[] = [];
  const handler = (id: number) => ({
    machineCheck: ({ rip, cs }: { rip: bigint; cs: number }) => {
      story.push(`#mc ${id}`);
      platform.events.emit("mce", "machine-check", id, null, { rip, cs });
    },
    nmi: () => undefined,
    interrupt: (vector: number) => story.push(`intr ${vector}`),
  });
  for (const each of platform.lps) each.hostIdt = handler(each.id);
  platform.memory.seam.fill(0x8000, 4096, 0, TD);
  platform.memory.poisonLine(0x8000);
  core.step = () => ({ kind: "odd-access", hpa: 0x8000, length: 8, access: "load", keyId: TD });
  platform.loadModule(
    fakeModule((context, gprs) => {
      const exit = context.enterGuest();
      gprs[0] = 0x6000_0005_0000_0000n | BigInt(exit.reason);
      gprs[1] = exit.qualification;
    }),
  );
  lp.writeMsr(MSR.IA32_MCG_EXT_CTL, 1n);
  const run = (): BigUint64Array => {
    const gprs = new BigUint64Array(16);
    expect(lp.seamcall(gprs)).toBe("ok");
    story.push("kvm");
    return gprs;
  };
  return { ...machine, firmware, story, log, run };
}

describe("MSMI", () => {
  it("re-raise: SMM, then #MC behind SEAMCALL with the banks as they were, then KVM (2.5, 6.4)", () => {
    const { run, story, log, lp, firmware } = struck();
    const gprs = run();
    expect(story).toEqual(["#mc 0", "kvm"]);
    expect(log.map(({ event }) => event)).toEqual([
      "mca-logged",
      "mca-logged",
      "smi-latched",
      "seamret",
      "smm-enter",
      "smi-handled",
      "smm-exit",
      "machine-check",
    ]);
    expect(log.find(({ event }) => event === "machine-check")?.fields).toMatchObject({
      rip: 0xffff_ffff_8100_2004n,
      cs: 0x10,
    });
    expect(lp.readMsr(0x405)).toBe(0xbd80_0000_0000_0134n);
    expect(lp.readMsr(MSR.IA32_MCG_STATUS)).toBe(0x100fn);
    expect(lp.readMsr(MSR.SMI_COUNT)).toBe(1n);
    expect([gprs[0], gprs[1]]).toEqual([0x6000_0005_0000_0006n, 1n]);
    expect(firmware.log.map(({ bank, signal }) => [bank, signal])).toEqual([
      [BANK.DCU, "msmi"],
      [BANK.IMC, "csmi"],
    ]);
  });

  it("can be watched from outside", () => {
    const { run, platform } = struck({ msmi: "hide" });
    platform.boundaries.at(0, () => {
      const [processor] = inspectPlatform(platform).processors;
      expect(processor).toMatchObject({ mode: "seam-non-root", pending: [], mcgStatus: 0n, banks: [] });
    });
    run();
    expect(inspectPlatform(platform)).toMatchObject({ retired: 0, seamLoaded: true, poisonedLines: [0x8000] });
    expect(inspectPlatform(platform).processors[0]).toMatchObject({
      mode: "root",
      smiCount: 1,
      smiLatched: 2,
      smiMerged: 1,
    });
  });

  it("hide: the banks are empty and the operating system never learns of it", () => {
    const { run, story, lp } = struck({ msmi: "hide" });
    run();
    expect(story).toEqual(["kvm"]);
    expect(lp.readMsr(0x405)).toBe(0n);
    expect(lp.readMsr(0x401 + 4 * BANK.IMC)).toBe(0n);
    expect(lp.readMsr(MSR.IA32_MCG_STATUS)).toBe(0n);
  });

  it("broadcast: every processor sees #MC", () => {
    const { run, story, lp } = struck({}, 2);
    lp.writeMsr(MSR.IA32_MCG_EXT_CTL, 0n);
    run();
    expect(story.sort()).toEqual(["#mc 0", "#mc 1", "kvm"]);
  });
});

describe("other SMIs", () => {
  it("a plain SMI finds nothing and changes nothing", () => {
    const { platform, lp, log } = testMachine();
    const firmware = installFirmware(platform);
    lp.raise("smi");
    expect(firmware.log).toEqual([]);
    expect(log.map(({ event, fields }) => [event, fields.cause])).toEqual([
      ["smi-latched", undefined],
      ["smm-enter", undefined],
      ["smi-handled", "other"],
      ["smm-exit", undefined],
    ]);
  });

  it("C1: a CSMI is logged and handed on as CMCI, once, if the operating system wants it", () => {
    const { platform, lp } = testMachine();
    const firmware = installFirmware(platform);
    const vectors: number[] = [];
    lp.hostIdt = { machineCheck: () => undefined, nmi: () => undefined, interrupt: (vector) => vectors.push(vector) };
    lp.hostInterruptFlag = true;
    platform.correctedError(0x5000);
    lp.raise("smi");
    expect(firmware.log).toHaveLength(1);
    expect(vectors).toEqual([]);
    const ctl2 = MSR.IA32_MC0_CTL2 + BANK.IMC;
    lp.writeMsr(ctl2, lp.readMsr(ctl2) | MCI_CTL2.CMCI_EN | 1n);
    lp.writeMsr(X2APIC_MSR.LVT_CMCI, 0xf9n);
    platform.correctedError(0x5000);
    lp.raise("smi");
    expect(firmware.log).toHaveLength(2);
    expect(vectors).toEqual([0xf9]);
  });

  it("without firmware an MSMI enters SMM and leaves it, and no #MC follows", () => {
    const { platform, run, story, lp } = struck();
    platform.smi.handler = null;
    run();
    expect(story).toEqual(["kvm"]);
    expect(lp.smiCount).toBe(1);
  });
});
