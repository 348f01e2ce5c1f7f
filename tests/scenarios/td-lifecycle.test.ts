import { describe, expect, it } from "vitest";
import { KVM_EXIT, KVM_MEMORY_ATTRIBUTE_PRIVATE } from "../../src/arch/kvm-uapi.js";
import { HostKernel } from "../../src/host/kernel.js";
import { Kvm } from "../../src/host/kvm/kvm.js";
import type { Vcpu } from "../../src/host/kvm/vcpu.js";
import type { HostProfile } from "../../src/host/mm/host-profile.js";
import type { PlatformConfig } from "../../src/platform/config.js";
import type { MachineEvent } from "../../src/platform/event-bus.js";
import type { CoreStop } from "../../src/platform/guest-core.js";
import { Platform } from "../../src/platform/platform.js";
import { FakeCore } from "../../src/platform/testing.js";
import { TdxModule } from "../../src/tdx-module/index.js";
import { launchTd } from "../../src/vmm/launch.js";

const MIB = 0x100000;
const PAGE = 4096;

/** Host, module and platform as they are; only the guest's instructions are made up. */
function machine(hostProfile: HostProfile = "fixed", config: Partial<PlatformConfig> = {}) {
  let core: FakeCore | undefined;
  const platform = new Platform({ hostMemoryBytes: 64 * MIB, sharedMemory: false, ...config }, (memory) => {
    core = new FakeCore(memory);
    return core;
  });
  platform.loadModule(new TdxModule({ filter: false }));
  const kernel = new HostKernel(platform, { profile: hostProfile });
  const log: MachineEvent[] = [];
  return { platform, core: core as FakeCore, kernel, kvm: new Kvm(kernel), log };
}

function launch(m: ReturnType<typeof machine>, pages = 64) {
  const image = {
    regions: [{ name: "code", gpa: 0, bytes: new Uint8Array(2 * PAGE).fill(0x90) }],
    memory: [{ gpa: 0, size: pages * PAGE }],
    preFault: [{ gpa: 2 * PAGE, size: (pages - 2) * PAGE }],
  };
  const td = launchTd(m.kvm, m.kernel.userMemory, image, m.platform.lps.length);
  m.platform.events.on("*", (event) => m.log.push(event));
  return { ...td, vcpu: td.vcpus[0] as Vcpu };
}

describe("a TD between host and module", () => {
  it("brings TDX up on every processor and package", () => {
    const { kernel } = machine("fixed", { logicalProcessors: 4, packages: 2 });
    expect(kernel.tdxError).toBeNull();
    expect(kernel.tdx?.info.version).toMatchObject({ major: 1, minor: 5 });
    expect(kernel.tdx?.tdmrs).toHaveLength(1);
    expect(kernel.tdx?.info.cpuidConfigs.length).toBeGreaterThan(5);
  });

  it.each(["fixed", "linux-6.16"] as const)("is built, runs, and gives every page back (%s)", (profile) => {
    const m = machine(profile, { logicalProcessors: 2 });
    const free = m.kernel.pages.counters.free;
    const td = launch(m);
    expect(td.vm.mmu.mirror.mapped).toBe(64);
    m.core.step = (core): CoreStop | null => (core.retired < 1000 ? null : { kind: "triple-fault" });
    expect(td.vcpu.run()).toBe(0);
    expect(td.vcpu.kvmRun.exitReason).toBe(KVM_EXIT.SHUTDOWN);
    expect(td.vm.exitCounts).toEqual({ TRIPLE_FAULT: 1 });
    expect(td.vm.destroy()).toEqual({ private: 64, returned: 64, withheld: [], leaked: 0 });
    m.kernel.userMemory.unmapAll();
    expect(m.kernel.pages.counters.free).toBe(free);
    expect(td.vm.vmBugged).toBe(false);
    expect(m.kernel.log.filter((line) => line.startsWith("SEAMCALL"))).toEqual([]);
  });

  it("pages that are converted leave the TD and come back empty", () => {
    const m = machine();
    const { vm, slots, vcpu } = launch(m);
    const page = { address: 8 * PAGE, size: 4 * PAGE };
    expect(vm.setMemoryAttributes({ ...page, attributes: 0 })).toBe(0);
    expect(slots[0]?.file.punchHole(page.address, page.size)).toBe(0);
    expect(vm.mmu.mirror.mapped).toBe(60);
    expect(vm.setMemoryAttributes({ ...page, attributes: KVM_MEMORY_ATTRIBUTE_PRIVATE })).toBe(0);
    expect(vcpu.preFaultMemory({ gpa: page.address, size: page.size })).toBe(0);
    expect(vm.mmu.mirror.mapped).toBe(64);
    expect(vm.destroy()).toMatchObject({ private: 64, leaked: 0 });
    expect(vm.vmBugged).toBe(false);
  });

  it("several TDs live side by side, each with its own KeyID", () => {
    const m = machine();
    const first = launch(m);
    const second = launch(m);
    expect(second.vm.td.hkid).toBe(first.vm.td.hkid + 1);
    first.vm.destroy();
    const third = launch(m);
    expect(third.vm.td.hkid).toBe(second.vm.td.hkid - 1);
    second.vm.destroy();
    third.vm.destroy();
    expect(m.kernel.pages.counters.withheld).toBe(0);
  });

  it("ticks while it runs", () => {
    const m = machine();
    const { vcpu, vm } = launch(m, 8);
    m.core.step = (core): CoreStop | null => (core.retired < 9_000_000 ? null : { kind: "triple-fault" });
    expect(vcpu.run()).toBe(0);
    expect(vm.exitCounts).toEqual({ EXTERNAL_INTERRUPT: 2, TRIPLE_FAULT: 1 });
  });

  it("a signal comes through at the next exit", () => {
    const m = machine();
    const { vcpu } = launch(m, 8);
    m.platform.boundaries.at(500, () => vcpu.kick());
    expect(vcpu.run()).toBe(-4);
    expect(vcpu.kvmRun.exitReason).toBe(KVM_EXIT.INTR);
    expect(m.core.retired).toBe(500);
  });
});

describe("a direct machine check in the TD (no morphing)", () => {
  /** The guest loads from a poisoned line of its first page. */
  function struck(profile: HostProfile) {
    const m = machine(profile, { emca: false });
    const td = launch(m, 8);
    const hpa = td.slots[0]?.file.lookup(3) ?? 0;
    m.platform.memory.poisonLine(hpa);
    m.core.step = (core): CoreStop | null =>
      core.retired < 100 ? null : { kind: "odd-access", hpa, length: 8, access: "load", keyId: core.controls.keyId };
    const signals: number[] = [];
    m.kernel.signalHandler = (_task, signal) => signals.push(signal.code);
    expect(td.vcpu.run()).toBe(0);
    expect(td.vcpu.kvmRun.internal.data[0]).toBe(0x6000000500000000n);
    return { ...m, ...td, hpa, signals };
  }

  it("is handled as the VMM's own; the page is withheld and the others return", () => {
    const m = struck("fixed");
    const names = m.log.map(({ event }) => event);
    expect(names).not.toContain("smm-enter");
    expect(names.indexOf("machine-check")).toBeGreaterThan(names.indexOf("td-fatal"));
    expect(m.vm.destroy()).toEqual({ private: 8, returned: 7, withheld: [m.hpa], leaked: 0 });
    expect(m.kernel.pages.isHwPoison(m.hpa)).toBe(true);
  });

  it("on Linux 6.16 ends in SIGBUS, and everything leaks", () => {
    const m = struck("linux-6.16");
    expect(m.signals).toHaveLength(1);
    expect(m.vm.vmBugged).toBe(true);
    expect(m.vcpu.run()).toBe(-5);
    expect(m.vm.destroy()).toMatchObject({ private: 8, leaked: 8 });
  });
});
