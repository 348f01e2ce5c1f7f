import { describe, expect, it } from "vitest";
import { ERRNO } from "../../arch/errno.js";
import {
  KVM_CAP,
  KVM_MEM_GUEST_MEMFD,
  KVM_MEM_READONLY,
  KVM_MEMORY_ATTRIBUTE_PRIVATE,
  KVM_TDX,
  KVM_X86_TDX_VM,
} from "../../arch/kvm-uapi.js";
import { TD_PARAMS, TDH } from "../../arch/tdx-abi.js";
import { GPR } from "../../platform/seam.js";
import type { KvmTdxCapabilities, KvmTdxInitVm } from "./tdx/td-params.js";
import { GLOBAL_KEY_ID, made, makeHost, makeTd, TEST_CPUID, TEST_INIT_VM, TEST_SLOT_BYTES } from "./testing.js";
import type { KvmTdxCmd, Vm } from "./vm.js";

const { EBADF, EBUSY, EEXIST, EFAULT, EINVAL, EIO, ENOSPC, ENOTTY, E2BIG, EAGAIN, ENXIO, EOPNOTSUPP } = ERRNO;

function newVm(options: Parameters<typeof makeHost>[0] = {}): { vm: Vm } & ReturnType<typeof makeHost> {
  const host = makeHost(options);
  return { ...host, vm: made(host.kvm.createVm(KVM_X86_TDX_VM)) };
}

const initVm = (vm: Vm, change: Partial<KvmTdxInitVm> = {}, command: Partial<KvmTdxCmd> = {}): number =>
  vm.memoryEncryptOp({ id: KVM_TDX.INIT_VM, data: { ...TEST_INIT_VM, ...change }, ...command });

describe("/dev/kvm", () => {
  it("makes TDs and nothing else", () => {
    const { kvm } = makeHost();
    expect(kvm.checkExtension(KVM_CAP.VM_TYPES)).toBe(1 << 5);
    expect(kvm.createVm(0)).toBe(-EINVAL);
    expect(kvm.checkExtension(KVM_CAP.X86_SMM)).toBe(0);
    expect(kvm.getApiVersion()).toBe(12);
  });

  it("has no TDX where bring-up failed, and the kernel says why", () => {
    const answers = new Map([[TDH.SYS_CONFIG, () => 0xc000_0a00_0000_0000n]]);
    const { kvm, kernel } = makeHost({ answers });
    expect(kernel.tdx).toBeNull();
    expect(kernel.tdxError).toMatchObject({ step: "TDH.SYS.CONFIG", status: 0xc000_0a00_0000_0000n });
    expect(kernel.log).toEqual(["virt/tdx: SEAMCALL TDH.SYS.CONFIG failed: 0xc0000a0000000000"]);
    expect(kvm.checkExtension(KVM_CAP.VM_TYPES)).toBe(0);
    expect(kvm.createVm(KVM_X86_TDX_VM)).toBe(-EINVAL);
  });
});

describe("KVM_TDX_CAPABILITIES", () => {
  const ask = (nent: number, flags = 0): { result: number; caps: KvmTdxCapabilities } => {
    const { vm } = newVm();
    const caps = { cpuid: { nent, entries: [] } } as unknown as KvmTdxCapabilities;
    return { result: vm.memoryEncryptOp({ id: KVM_TDX.CAPABILITIES, flags, data: caps }), caps };
  };

  it("lists what can be configured", () => {
    const { result, caps } = ask(256);
    expect(result).toBe(0);
    expect(caps).toMatchObject({ supportedAttrs: 1n << 28n, supportedXfam: 3n, userTdvmcallinfo1R11: 2n });
    expect(caps.cpuid).toMatchObject({
      nent: 2,
      entries: [{ function: 1 }, { function: 0x80000008, eax: 0x00ff0000 }],
    });
  });

  it("refuses flags and a list that is too short", () => {
    expect(ask(256, 1).result).toBe(-EINVAL);
    expect(ask(1).result).toBe(-E2BIG);
  });
});

describe("KVM_TDX_INIT_VM", () => {
  it("builds TD_PARAMS and makes the TD in KVM's order", () => {
    const { vm, machine } = newVm({ logicalProcessors: 2, packages: 2 });
    let params: Uint8Array = new Uint8Array();
    machine.answers.set(TDH.MNG_INIT, (regs) => {
      params = machine.memory.host.read(Number(regs[GPR.RDX]), TD_PARAMS.SIZE);
      return 0n;
    });
    machine.calls.length = 0;
    const mrowner = new Uint8Array(48).fill(7);
    expect(initVm(vm, { mrowner })).toBe(0);
    expect(machine.leaves).toEqual([
      "MNG_CREATE",
      "MNG_KEY_CONFIG",
      "MNG_KEY_CONFIG",
      ...Array(6).fill("MNG_ADDCX"),
      "MNG_INIT",
      "MNG_RD",
      "MNG_RD",
    ]);
    expect(machine.calls.map(({ lp }) => lp).slice(1, 3)).toEqual([0, 1]);
    expect(vm.td.hkid).toBe(GLOBAL_KEY_ID + 1);
    const view = new DataView(params.buffer, params.byteOffset);
    expect(view.getBigUint64(TD_PARAMS.ATTRIBUTES, true)).toBe(1n << 28n);
    expect(view.getUint16(TD_PARAMS.MAX_VCPUS, true)).toBe(2);
    expect(view.getBigUint64(TD_PARAMS.EPTP_CONTROLS, true)).toBe(0x1en);
    expect(view.getBigUint64(TD_PARAMS.CONFIG_FLAGS, true)).toBe(4n);
    expect(view.getUint16(TD_PARAMS.TSC_FREQUENCY, true)).toBe(40);
    expect(params.subarray(TD_PARAMS.MROWNER, TD_PARAMS.MROWNER + 48)).toEqual(mrowner);
    expect(view.getUint32(TD_PARAMS.CPUID_CONFIG_VALUES, true)).toBe(0x806f8);
    // The width of guest addresses is taken out.
    expect(view.getUint32(TD_PARAMS.CPUID_CONFIG_VALUES + 16, true)).toBe(0);
    expect(initVm(vm)).toBe(-EINVAL);
  });

  it("takes the wide GPA by 52", () => {
    const { vm } = newVm();
    const entries = TEST_INIT_VM.cpuid.entries.map((entry) =>
      entry.function === 0x80000008 ? { ...entry, eax: 0x00340000 } : entry,
    );
    expect(initVm(vm, { cpuid: { entries } })).toBe(0);
    expect([vm.td.gpaw, vm.td.sharedBit]).toEqual([52, 2 ** 51]);
  });

  const leaf = (fn: number, change: object = {}) => ({
    function: fn,
    index: 0,
    flags: 0,
    eax: 0,
    ebx: 0,
    ecx: 0,
    edx: 0,
    ...change,
  });
  it.each([
    ["flags", {}, { flags: 1 }, EINVAL],
    ["a hw_error", {}, { hwError: 1n }, EINVAL],
    ["no data", {}, { data: undefined }, EFAULT],
    ["an unsupported attribute", { attributes: 1n }, {}, EINVAL],
    ["an unsupported XFAM bit", { xfam: 7n }, {}, EINVAL],
    ["padding", { cpuid: { padding: 1, entries: TEST_INIT_VM.cpuid.entries } }, {}, EINVAL],
    ["too many entries", { cpuid: { entries: Array.from({ length: 257 }, () => leaf(1)) } }, {}, E2BIG],
    ["no address widths", { cpuid: { entries: [] } }, {}, EINVAL],
    ["a GPAW of 47", { cpuid: { entries: [leaf(0x80000008, { eax: 47 << 16 })] } }, {}, EINVAL],
    ["WAITPKG", { cpuid: { entries: [...TEST_INIT_VM.cpuid.entries, leaf(7, { ecx: 32 })] } }, {}, EINVAL],
    ["a leaf that cannot be configured", { cpuid: { entries: [...TEST_INIT_VM.cpuid.entries, leaf(2)] } }, {}, EINVAL],
  ])("refuses %s", (_name, change, command, errno) => {
    const { vm } = newVm();
    expect(initVm(vm, change as Partial<KvmTdxInitVm>, command as Partial<KvmTdxCmd>)).toBe(-errno);
    expect(vm.vmDead).toBe(false);
  });

  it("gives the module's refusal in hw_error, and takes everything back", () => {
    const { vm, machine, kernel } = newVm();
    machine.answers.set(TDH.MNG_INIT, () => 0xc000_0100_0000_0041n);
    const free = kernel.pages.counters.free;
    const command: KvmTdxCmd = { id: KVM_TDX.INIT_VM, data: TEST_INIT_VM };
    expect(vm.memoryEncryptOp(command)).toBe(-EINVAL);
    expect(command.hwError).toBe(0xc000_0100_0000_0041n);
    expect(vm.td.hkid).toBe(0);
    expect(kernel.pages.counters.free).toBe(free);
    machine.answers.delete(TDH.MNG_INIT);
    expect(initVm(vm)).toBe(0);
  });

  it("without entropy is to be tried again; the SEAMCALL was, ten times", () => {
    const { vm, machine } = newVm();
    machine.answers.set(TDH.MNG_CREATE, () => 0x8000_0203_0000_0000n);
    machine.calls.length = 0;
    expect(initVm(vm)).toBe(-EAGAIN);
    expect(machine.leaves).toEqual(Array(10).fill("MNG_CREATE"));
    expect(vm.vmBugged).toBe(false);
  });

  it("another error is EIO and bugs the VM", () => {
    const { vm, machine } = newVm();
    machine.answers.set(TDH.MNG_ADDCX, () => 0xc000_0607_0000_0000n);
    expect(initVm(vm)).toBe(-EIO);
    expect(vm.vmBugged).toBe(true);
    expect(vm.memoryEncryptOp({ id: KVM_TDX.FINALIZE_VM })).toBe(-EIO);
  });

  it("runs out of KeyIDs", () => {
    const { kvm } = makeHost();
    for (let i = GLOBAL_KEY_ID + 1; i < 64; i++) expect(initVm(made(kvm.createVm(5)))).toBe(0);
    expect(initVm(made(kvm.createVm(5)))).toBe(-ENOSPC);
  });
});

describe("irqchips", () => {
  it("only the split one", () => {
    const { vm } = newVm();
    expect(vm.createIrqchip()).toBe(-ENOTTY);
    expect(vm.irqLine(1, true)).toBe(-ENXIO);
    expect(vm.enableCap({ cap: KVM_CAP.SPLIT_IRQCHIP, args: [24] })).toBe(0);
    expect(vm.enableCap({ cap: KVM_CAP.SPLIT_IRQCHIP, args: [24] })).toBe(-EEXIST);
  });

  it("the old kernel lets the other be made, and then no vCPU", () => {
    const { vm } = newVm({ profile: "linux-6.16" });
    expect(vm.createIrqchip()).toBe(0);
    expect(initVm(vm)).toBe(0);
    expect(vm.createVcpu(0)).toBe(-EINVAL);
  });
});

describe("vCPUs", () => {
  it("creation needs an initialised TD, a split irqchip and an id of its own", () => {
    const { vm } = newVm();
    expect(vm.createVcpu(0)).toBe(-EIO);
    expect(initVm(vm)).toBe(0);
    expect(vm.createVcpu(0)).toBe(-EINVAL);
    vm.enableCap({ cap: KVM_CAP.SPLIT_IRQCHIP, args: [24] });
    expect(vm.createVcpu(1)).toBe(-EINVAL);
    made(vm.createVcpu(0));
    expect(vm.createVcpu(0)).toBe(-EINVAL);
    expect(initVm(vm)).toBe(-EINVAL);
  });

  it("INIT_VCPU needs x2APIC, and comes once", () => {
    const { vm, machine } = newVm();
    initVm(vm);
    vm.enableCap({ cap: KVM_CAP.SPLIT_IRQCHIP, args: [24] });
    const vcpu = made(vm.createVcpu(0));
    const init = (flags = 0): number => vcpu.memoryEncryptOp({ id: KVM_TDX.INIT_VCPU, flags, data: 0x1234n });
    expect(init()).toBe(-EINVAL);
    expect(vcpu.setCpuid2(TEST_CPUID)).toBe(0);
    expect(init(1)).toBe(-EINVAL);
    expect(vcpu.run()).toBe(-EINVAL);
    machine.calls.length = 0;
    expect(init()).toBe(0);
    expect(machine.leaves).toEqual(["VP_CREATE", ...Array(5).fill("VP_ADDCX"), "VP_INIT", "VP_WR", "VP_WR", "VP_WR"]);
    expect(machine.calls[6]?.inputs.slice(0, 9)).toEqual([
      0x10016n,
      BigInt(vcpu.tdVcpu.tdvpr),
      0x1234n,
      0n,
      0n,
      0n,
      0n,
      0n,
      0n,
    ]);
    expect(machine.calls.slice(7).map(({ inputs }) => [GPR.RDX, GPR.R8, GPR.R9].map((r) => inputs[r]))).toEqual([
      [2n, 0xf2n, 0xffffn],
      [0x2016n, BigInt(vcpu.pi.hpa), 0xffff_ffff_ffff_ffffn],
      [0x4000n, 0x80n, 0x80n],
    ]);
    expect(init()).toBe(-EINVAL);
    expect(vcpu.run()).toBe(-EINVAL);
  });

  it("cannot be created or initialised once the TD runs", () => {
    const { vm, vcpu } = makeTd();
    expect(vm.createVcpu(0)).toBe(-EINVAL);
    expect(vcpu.memoryEncryptOp({ id: KVM_TDX.INIT_VCPU, data: 0n })).toBe(-EINVAL);
    expect(vm.memoryEncryptOp({ id: KVM_TDX.FINALIZE_VM })).toBe(-EINVAL);
    expect(vm.memoryEncryptOp({ id: 6 })).toBe(-EINVAL);
  });

  it("have no registers, no SMM and no injection for user space", () => {
    const { vcpu } = makeTd();
    expect(vcpu.smi()).toBe(-ENOTTY);
    expect([vcpu.getRegs(), vcpu.setRegs(), vcpu.getSregs(), vcpu.getLapic(), vcpu.setLapic()]).toEqual(
      Array(5).fill(-EINVAL),
    );
    expect(vcpu.interrupt(0x30)).toBe(-ENXIO);
  });

  it("an AP that was never initialised does not run", () => {
    const { vm } = newVm({ logicalProcessors: 2 });
    initVm(vm);
    vm.enableCap({ cap: KVM_CAP.SPLIT_IRQCHIP, args: [24] });
    expect(made(vm.createVcpu(1)).run()).toBe(-EAGAIN);
  });
});

describe("KVM_TDX_FINALIZE_VM", () => {
  it("busy is to be tried again, another error bugs the VM", () => {
    const { vm, machine } = newVm();
    initVm(vm);
    machine.answers.set(TDH.MR_FINALIZE, () => 0x8000_0200_0000_0080n);
    const command: KvmTdxCmd = { id: KVM_TDX.FINALIZE_VM };
    expect(vm.memoryEncryptOp(command)).toBe(-EBUSY);
    expect(command.hwError).toBe(0x8000_0200_0000_0080n);
    machine.answers.set(TDH.MR_FINALIZE, () => 0xc000_0609_0000_0000n);
    expect(vm.memoryEncryptOp({ id: KVM_TDX.FINALIZE_VM })).toBe(-EIO);
    expect(vm.vmBugged).toBe(true);
  });

  it("without a TD is refused", () => {
    expect(newVm().vm.memoryEncryptOp({ id: KVM_TDX.FINALIZE_VM })).toBe(-EINVAL);
  });
});

describe("memory slots and attributes", () => {
  const region = (vm: Vm, change: object = {}) => ({
    slot: 0,
    flags: KVM_MEM_GUEST_MEMFD,
    guestPhysAddr: 0,
    memorySize: TEST_SLOT_BYTES,
    userspaceAddr: 0x7f0000000000,
    guestMemfd: made(vm.createGuestMemfd({ size: TEST_SLOT_BYTES })),
    ...change,
  });

  it.each([
    ["read-only", { flags: KVM_MEM_READONLY }, EINVAL],
    ["dirty logging", { flags: KVM_MEM_GUEST_MEMFD | 1 }, EINVAL],
    ["an odd size", { memorySize: 5000 }, EINVAL],
    ["an odd address", { guestPhysAddr: 8 }, EINVAL],
    ["an odd user address", { userspaceAddr: 8 }, EINVAL],
    ["a GPA above the shared bit", { guestPhysAddr: 2 ** 47 }, EINVAL],
    ["no file", { guestMemfd: undefined }, EBADF],
    ["more than the file has", { memorySize: 2 * TEST_SLOT_BYTES }, EINVAL],
    ["deleting what is not there", { memorySize: 0 }, EINVAL],
    ["a slot number out of range", { slot: 40000 }, EINVAL],
  ])("%s is refused", (_name, change, errno) => {
    const { vm } = newVm();
    expect(vm.setUserMemoryRegion2(region(vm, change))).toBe(-errno);
  });

  it("slots do not overlap, files are bound once, private slots do not change", () => {
    const { vm } = newVm();
    const first = region(vm);
    expect(vm.setUserMemoryRegion2(first)).toBe(0);
    expect(vm.setUserMemoryRegion2(first)).toBe(-EINVAL);
    expect(vm.setUserMemoryRegion2(region(vm, { slot: 1, guestPhysAddr: 0x1000 }))).toBe(-EEXIST);
    expect(vm.setUserMemoryRegion2({ ...first, slot: 1, guestPhysAddr: TEST_SLOT_BYTES })).toBe(-EEXIST);
    expect(vm.setUserMemoryRegion2({ ...first, memorySize: 0 })).toBe(0);
    expect(vm.setUserMemoryRegion2(first)).toBe(0);
  });

  it("attributes and files are checked", () => {
    const { vm } = newVm();
    const attributes = KVM_MEMORY_ATTRIBUTE_PRIVATE;
    expect(vm.setMemoryAttributes({ address: 0, size: 0x1000, attributes: 1 })).toBe(-EINVAL);
    expect(vm.setMemoryAttributes({ address: 1, size: 0x1000, attributes })).toBe(-EINVAL);
    expect(vm.setMemoryAttributes({ address: 0, size: 0, attributes })).toBe(-EINVAL);
    expect(vm.setMemoryAttributes({ address: 0, size: 0x1000, attributes, flags: 1 })).toBe(-EINVAL);
    expect(vm.createGuestMemfd({ size: 100 })).toBe(-EINVAL);
    expect(vm.createGuestMemfd({ size: 4096, flags: 1 })).toBe(-EINVAL);
  });
});

describe("KVM_PRE_FAULT_MEMORY", () => {
  it("comes after FINALIZE", () => {
    const { vm } = newVm();
    initVm(vm);
    vm.enableCap({ cap: KVM_CAP.SPLIT_IRQCHIP, args: [24] });
    expect(made(vm.createVcpu(0)).preFaultMemory({ gpa: 0, size: 4096 })).toBe(-EOPNOTSUPP);
  });

  it("augments page by page and tells how far it came", () => {
    const { vcpu, machine } = makeTd();
    const range = { gpa: 0x1ff000, size: 0x2000 };
    expect(vcpu.preFaultMemory(range)).toBe(0);
    expect(range).toEqual({ gpa: 0x201000, size: 0 });
    expect(machine.leaves).toEqual([
      "MEM_SEPT_ADD",
      "MEM_SEPT_ADD",
      "MEM_SEPT_ADD",
      "MEM_PAGE_AUG",
      "MEM_SEPT_ADD",
      "MEM_PAGE_AUG",
    ]);
    expect(machine.calls.map(({ inputs }) => inputs[GPR.RCX])).toEqual([3n, 2n, 1n, 0x1ff000n, 0x200001n, 0x200000n]);
    expect(vcpu.preFaultMemory({ gpa: TEST_SLOT_BYTES, size: 4096 })).toBe(-ERRNO.ENOENT);
    const partly = { gpa: TEST_SLOT_BYTES - 4096, size: 0x2000 };
    expect(vcpu.preFaultMemory(partly)).toBe(0);
    expect(partly).toEqual({ gpa: TEST_SLOT_BYTES, size: 4096 });
    expect(vcpu.preFaultMemory({ gpa: 1, size: 4096 })).toBe(-EINVAL);
    expect(vcpu.preFaultMemory({ gpa: 0, size: 4096, flags: 1 })).toBe(-EINVAL);
  });
});

describe("KVM_TDX_INIT_MEM_REGION", () => {
  function halfMade() {
    const host = newVm();
    const { vm, kernel, machine } = host;
    initVm(vm);
    vm.enableCap({ cap: KVM_CAP.SPLIT_IRQCHIP, args: [24] });
    const vcpu = made(vm.createVcpu(0));
    vcpu.setCpuid2(TEST_CPUID);
    const source = kernel.userMemory.mmap(0x4000);
    const guestMemfd = made(vm.createGuestMemfd({ size: 0x4000 }));
    const flags = KVM_MEM_GUEST_MEMFD;
    vm.setUserMemoryRegion2({
      slot: 0,
      flags,
      guestPhysAddr: 0,
      memorySize: 0x4000,
      userspaceAddr: source,
      guestMemfd,
    });
    machine.calls.length = 0;
    const add = (gpa: number, nrPages: number, cmdFlags = 0, sourceAddr = source): [number, object] => {
      const data = { sourceAddr, gpa, nrPages };
      return [vcpu.memoryEncryptOp({ id: KVM_TDX.INIT_MEM_REGION, flags: cmdFlags, data }), data];
    };
    return { ...host, vcpu, source, guestMemfd, add };
  }

  it("adds, measures and advances", () => {
    const { vm, vcpu, add, machine, source, kernel } = halfMade();
    expect(add(0, 1)[0]).toBe(-EINVAL);
    vcpu.memoryEncryptOp({ id: KVM_TDX.INIT_VCPU, data: 0n });
    expect(add(0, 1)[0]).toBe(-EINVAL);
    vm.setMemoryAttributes({ address: 0, size: 0x4000, attributes: KVM_MEMORY_ATTRIBUTE_PRIVATE });
    machine.calls.length = 0;
    expect(add(0x1000, 2, 1)).toEqual([0, { sourceAddr: source + 0x2000, gpa: 0x3000, nrPages: 0 }]);
    const page = ["MEM_PAGE_ADD", ...Array(16).fill("MR_EXTEND")];
    expect(machine.leaves).toEqual(["MEM_SEPT_ADD", "MEM_SEPT_ADD", "MEM_SEPT_ADD", ...page, ...page]);
    const first = machine.calls[3]?.inputs;
    expect([first?.[GPR.RCX], first?.[GPR.R9]]).toEqual([
      0x1000n,
      BigInt(kernel.userMemory.hvaToHpa(source, true) ?? 0),
    ]);
    expect(machine.calls[5]?.inputs[GPR.RCX]).toBe(0x1100n);
    expect(add(0x1000, 1)[0]).toBe(-EEXIST);
  });

  it("checks its operands and stops where it fails", () => {
    const { vm, vcpu, add, machine, source } = halfMade();
    vcpu.memoryEncryptOp({ id: KVM_TDX.INIT_VCPU, data: 0n });
    vm.setMemoryAttributes({ address: 0, size: 0x4000, attributes: KVM_MEMORY_ATTRIBUTE_PRIVATE });
    expect(add(0, 1, 2)[0]).toBe(-EINVAL);
    expect(add(1, 1)[0]).toBe(-EINVAL);
    expect(add(0, 0)[0]).toBe(-EINVAL);
    expect(add(0, 1, 0, source + 1)[0]).toBe(-EINVAL);
    expect(add(0, 1, 0, 0x1000)[0]).toBe(-EFAULT);
    expect(add(2 ** 47 - 4096, 2)[0]).toBe(-EINVAL);
    machine.answers.set(TDH.MEM_PAGE_ADD, (regs) => (regs[GPR.RCX] === 0x1000n ? 0x8000_0200_0000_0092n : 0n));
    expect(add(0, 3)).toEqual([-EBUSY, { sourceAddr: source + 0x1000, gpa: 0x1000, nrPages: 2 }]);
    expect(vm.vmBugged).toBe(false);
    machine.answers.set(TDH.MEM_PAGE_ADD, () => 0xc000_0b0d_0000_0001n);
    expect(add(0x1000, 1)[0]).toBe(-EIO);
    expect(vm.vmBugged).toBe(true);
  });
});
