import { describe, expect, it } from "vitest";
import { KVM_EXIT } from "../../src/arch/kvm-uapi.js";
import { MSR } from "../../src/arch/msr.js";
import { type FirmwareOptions, installFirmware } from "../../src/bios/smi-handler.js";
import { HostKernel, type HostKernelOptions } from "../../src/host/kernel.js";
import { Kvm } from "../../src/host/kvm/kvm.js";
import type { Vcpu } from "../../src/host/kvm/vcpu.js";
import { HostPanic } from "../../src/host/mce/host-panic.js";
import type { PlatformConfig } from "../../src/platform/config.js";
import type { MachineEvent } from "../../src/platform/event-bus.js";
import type { CoreStop } from "../../src/platform/guest-core.js";
import type { LogicalProcessor } from "../../src/platform/logical-processor.js";
import { Platform } from "../../src/platform/platform.js";
import { FakeCore } from "../../src/platform/testing.js";
import { TdxModule } from "../../src/tdx-module/index.js";
import { launchTd } from "../../src/vmm/launch.js";

/**
 * The seed's story through all real layers (platform, firmware, TDX module, KVM, host kernel); only the guest's instructions
 * are made up. Names in brackets are the rows of smi-mca facts 6 and its statements S1 to S14.
 */

const MIB = 0x100000;
const PAGE = 4096;

interface Options {
  readonly platform?: Partial<PlatformConfig>;
  readonly firmware?: FirmwareOptions;
  readonly kernel?: HostKernelOptions;
  readonly filter?: boolean;
}

function launched(options: Options = {}) {
  let made: FakeCore | undefined;
  const platform = new Platform({ hostMemoryBytes: 64 * MIB, ...options.platform }, (memory) => {
    made = new FakeCore(memory);
    return made;
  });
  installFirmware(platform, options.firmware);
  platform.loadModule(new TdxModule({ filter: options.filter ?? false }));
  const kernel = new HostKernel(platform, options.kernel);
  const image = { name: "code", gpa: 0, bytes: new Uint8Array(PAGE) };
  const td = launchTd(
    new Kvm(kernel),
    kernel.userMemory,
    { regions: [image], memory: [{ gpa: 0, size: MIB }], preFault: [] },
    1,
  );
  const log: MachineEvent[] = [];
  platform.events.on("*", (event) => log.push(event));
  const core = made as FakeCore;
  /** Host physical address of the TD's first page. */
  const page = (): number => td.slots[0]?.file.lookup(0) ?? 0;
  return { platform, kernel, td, log, core, page, vcpu: td.vcpus[0] as Vcpu, lp: platform.lps[0] as LogicalProcessor };
}

type Launched = ReturnType<typeof launched>;

/** From boundary `at` on the TD loads from a poisoned line of its page. */
function strike({ platform, core, page }: Launched, at: number): { hpa: number } {
  const struck = { hpa: 0 };
  platform.boundaries.at(at, () => {
    struck.hpa = page() + 64;
    platform.memory.poisonLine(struck.hpa);
    core.step = (): CoreStop => ({
      kind: "odd-access",
      hpa: struck.hpa,
      length: 8,
      access: "load",
      keyId: core.controls.keyId,
    });
  });
  return struck;
}

const STORY = [
  "smi-latched",
  "td-exit",
  "td-fatal",
  "smm-enter",
  "smm-exit",
  "machine-check",
  "page-poisoned",
  "kvm-entry",
  "kvm-exit",
  "kvm-userspace-exit",
];
const story = (log: readonly MachineEvent[]): string[] =>
  log.map(({ event }) => event).filter((name) => STORY.includes(name));
const status = (vcpu: Vcpu): bigint | undefined => vcpu.kvmRun.internal.data[0];

/** Runs the guest until `retired`, by a signal to the vCPU's thread. */
function runUntil(machine: Launched, retired: number): number {
  machine.platform.boundaries.at(retired, () => {
    machine.vcpu.signalPending = true;
    machine.lp.raiseInterrupt(0xfb);
  });
  return machine.vcpu.run();
}

describe("plain SMI", () => {
  it("P1: exit 6 to the module, SMM after SEAMRET, KVM resumes the vCPU (S4 S5 S11 S14)", () => {
    const machine = launched();
    const { platform, lp, log, core } = machine;
    platform.boundaries.at(50_000, () => lp.raise("smi"));
    expect(runUntil(machine, 100_000)).toBe(-4);
    expect(story(log).slice(0, 7)).toEqual([
      "kvm-entry",
      "smi-latched",
      "td-exit",
      "smm-enter",
      "smm-exit",
      "kvm-exit",
      "kvm-entry",
    ]);
    expect(log.find(({ event }) => event === "smm-enter")).toMatchObject({
      insn: 50_000,
      fields: { rax: 6n, smiCount: 1 },
    });
    expect(lp.readMsr(MSR.SMI_COUNT)).toBe(1n);
    expect(core.retired).toBe(100_000);
  });

  it("a thousand of them cost the guest no instruction and no state (I1, I7)", () => {
    const run = (smis: number) => {
      const machine = launched();
      const { platform, lp, core } = machine;
      core.step = (c) => {
        c.state.setGpr(3, c.state.gpr(3) * 6364136223846793005n + 1n);
        return null;
      };
      for (let i = 1; i <= smis; i++) platform.boundaries.at(i * 97, () => lp.raise("smi"));
      let rbx = 0n;
      platform.boundaries.at(100_000, () => {
        rbx = core.state.gpr(3);
      });
      runUntil(machine, 100_000);
      return { retired: core.retired, rbx, smis: lp.smiCount, clock: platform.clock.now };
    };
    const quiet = run(0);
    expect(quiet.smis).toBe(0);
    expect(run(1000)).toEqual({ ...quiet, smis: 1000 });
  });

  it("P11: with the filter on it waits for 1 to 32 instructions when it strikes right after entry", () => {
    const machine = launched({ filter: true });
    const { platform, lp, log } = machine;
    platform.boundaries.at(50_000, () => lp.raise("smi"));
    platform.boundaries.at(50_040, () => lp.raise("smi"));
    platform.boundaries.at(50_041, () => lp.raise("smi"));
    runUntil(machine, 100_000);
    const entries = log.filter(({ event }) => event === "smm-enter").map(({ insn }) => insn);
    expect(entries.length).toBeGreaterThanOrEqual(2);
    expect(lp.smiLatched).toBe(lp.smiCount + lp.latches.merged);
    for (const insn of entries) expect(insn).toBeLessThanOrEqual(50_041 + 33);
  });

  it("C1: a corrected error's CSMI is one of them: the TD goes on, no page is marked", () => {
    const machine = launched();
    const { platform, lp, log, page } = machine;
    platform.boundaries.at(50_000, () => platform.correctedError(page(), lp));
    expect(runUntil(machine, 100_000)).toBe(-4);
    expect(lp.smiCount).toBe(1);
    expect(story(log)).not.toContain("page-poisoned");
  });
});

describe("MSMI", () => {
  it("M1: TD fatal, SMM, #MC, page marked, and only then KVM looks (S1 S7 S8 S9 S10, order assertions 6.4)", () => {
    const machine = launched();
    const { log, vcpu, lp } = machine;
    const struck = strike(machine, 50_000);
    expect(vcpu.run()).toBe(0);
    expect(story(log)).toEqual([
      "kvm-entry",
      "smi-latched",
      "td-exit",
      "td-fatal",
      "smm-enter",
      "smm-exit",
      "machine-check",
      "page-poisoned",
      "kvm-exit",
      "kvm-userspace-exit",
    ]);
    expect(log.find(({ event }) => event === "page-poisoned")?.fields.hpa).toBe(BigInt(struck.hpa - 64));
    expect(vcpu.kvmRun.exitReason).toBe(KVM_EXIT.INTERNAL_ERROR);
    expect(vcpu.kvmRun.internal).toMatchObject({ suberror: 4, ndata: 2 });
    expect(status(vcpu)).toBe(0x6000_0005_0000_0006n);
    expect(vcpu.kvmRun.internal.data[1]).toBe(0n);
    expect(lp.smiCount).toBe(1);
    // The module never enters it again.
    expect(vcpu.run()).toBe(0);
    expect(status(vcpu)).toBe(0xe000_0604_0000_0000n);
  });

  it("M18: teardown withholds the marked page and gives the others back (S9)", () => {
    const machine = launched();
    const { log, vcpu, td } = machine;
    const struck = strike(machine, 50_000);
    vcpu.run();
    td.vm.destroy();
    const withheld = log.filter(({ event }) => event === "page-withheld");
    expect(withheld.map(({ fields }) => fields.hpa)).toEqual([BigInt(struck.hpa - 64)]);
  });

  it("M28: a host that does not mask the KeyID finds no page to mark", () => {
    const machine = launched({ kernel: { profile: "linux-6.16" } });
    strike(machine, 50_000);
    machine.vcpu.run();
    expect(status(machine.vcpu)).toBe(0x6000_0005_0000_0006n);
    expect(story(machine.log)).not.toContain("page-poisoned");
  });

  it("hide: firmware keeps it from the host; the TD is dead all the same", () => {
    const machine = launched({ firmware: { msmi: "hide" } });
    strike(machine, 50_000);
    machine.vcpu.run();
    expect(status(machine.vcpu)).toBe(0x6000_0005_0000_0006n);
    expect(story(machine.log)).not.toContain("machine-check");
  });

  it("M22: on a processor without SEAM_NR the host cannot know, and panics", () => {
    const machine = launched({ platform: { seamNr: false } });
    strike(machine, 50_000);
    expect(() => machine.vcpu.run()).toThrow(HostPanic);
  });

  it("D1: without morphing it is exit 0 with vector 18, handled by KVM itself", () => {
    const machine = launched({ platform: { emca: false } });
    strike(machine, 50_000);
    machine.vcpu.run();
    expect(machine.lp.smiCount).toBe(0);
    expect(status(machine.vcpu)).toBe(0x6000_0005_0000_0000n);
    expect(story(machine.log)).not.toContain("smm-enter");
  });
});
