import { ERRNO } from "../arch/errno.js";
import {
  KVM_CAP,
  KVM_HC,
  KVM_MEM_GUEST_MEMFD,
  KVM_MEMORY_ATTRIBUTE_PRIVATE,
  KVM_TDX,
  KVM_TDX_MEASURE_MEMORY_REGION,
  KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK,
  KVM_X2APIC_API_USE_32BIT_IDS,
  KVM_X86_TDX_VM,
} from "../arch/kvm-uapi.js";
import { MCG_CAP } from "../arch/mca.js";
import { ATTRIBUTES } from "../arch/tdx-abi.js";
import { XFAM } from "../arch/tdx-cpuid.js";
import type { KvmCpuidEntry2 } from "../host/kvm/cpuid.js";
import type { Kvm } from "../host/kvm/kvm.js";
import type { KvmTdxCapabilities } from "../host/kvm/tdx/td-params.js";
import type { TeardownReport } from "../host/kvm/tdx/vm-teardown.js";
import type { Vcpu } from "../host/kvm/vcpu.js";
import type { Vm } from "../host/kvm/vm.js";
import type { GuestMemfd } from "../host/mm/guest-memfd.js";
import { alignUp } from "./bytes.js";
import { configureCpuid, vcpuCpuid } from "./cpu-model.js";
import { succeed } from "./kvm-failure.js";
import { IOAPIC } from "./ports.js";
import { PAGE_SIZE } from "./shim/layout.js";
import type { MeasuredRegion, TdImage } from "./td-image.js";

/** TSC of the TD: 1 GHz, in KVM's unit. */
const TSC_KHZ = 1_000_000;
/** Period of the APIC timer's clock, which a TD reads as 25 MHz in CPUID leaf 0x15. */
const APIC_BUS_CYCLE_NS = 40;
/** Machine-check banks that the guest sees. */
const MCE_BANKS = 10n;
/** Room for leaves in a first try of KVM_TDX_GET_CPUID. */
const CPUID_ROOM = 128;
/** Most of an image that lies in the process's memory at a time. */
const STAGING_BYTES = 64 * PAGE_SIZE;

/** Memory of the VMM's own process: what mmap and a store do. */
export interface ProcessMemory {
  mmap(sizeBytes: number): number;
  munmap(hva: number, sizeBytes: number): number;
  write(hva: number, bytes: Uint8Array): void;
}

/** One memory slot: private pages in a file, shared ones in the process's memory. */
export interface Slot {
  readonly gpa: number;
  readonly size: number;
  readonly hva: number;
  readonly file: GuestMemfd;
}

/** A TD that is ready to run. */
export interface LaunchedTd {
  readonly vm: Vm;
  readonly vcpus: readonly Vcpu[];
  readonly slots: readonly Slot[];
}

/**
 * Builds a TD in the order in which QEMU does it (td-guest-boot facts 2.3): VM, TD parameters, memory, vCPUs, measured pages,
 * finalization; then all of its memory is brought in, so that the guest finds it present when it accepts it. Throws VmmError
 * where KVM refuses; nothing is left behind then.
 */
export function launchTd(kvm: Kvm, memory: ProcessMemory, image: TdImage, vcpuCount: number): LaunchedTd {
  const vm = succeed("KVM_CREATE_VM", kvm.createVm(KVM_X86_TDX_VM));
  const slots: Slot[] = [];
  try {
    setCapabilities(vm, vcpuCount);
    initVm(vm, vcpuCount);
    for (const { gpa, size } of image.memory) slots.push(addSlot(vm, memory, slots.length, gpa, size));
    const vcpus = Array.from({ length: vcpuCount }, (_, index) => addVcpu(vm, index));
    for (const region of image.regions) addRegion(vcpus[0] as Vcpu, memory, region);
    succeed("KVM_TDX_FINALIZE_VM", vm.memoryEncryptOp({ id: KVM_TDX.FINALIZE_VM }));
    for (const { gpa, size } of image.preFault) preFault(vcpus[0] as Vcpu, gpa, size);
    return { vm, vcpus, slots };
  } catch (error) {
    closeTd(vm, slots, memory);
    throw error;
  }
}

/** Closes the VM and unmaps its shared memory; tells where the TD's pages went. */
export function closeTd(vm: Vm, slots: readonly Slot[], memory: ProcessMemory): TeardownReport {
  const report = vm.destroy();
  for (const { hva, size } of slots) memory.munmap(hva, size);
  return report;
}

function setCapabilities(vm: Vm, vcpus: number): void {
  const enable = (name: keyof typeof KVM_CAP, value: number) =>
    succeed(`KVM_ENABLE_CAP ${name}`, vm.enableCap({ cap: KVM_CAP[name], args: [value] }));
  enable("MAX_VCPUS", vcpus);
  enable("SPLIT_IRQCHIP", IOAPIC.PINS);
  enable("X2APIC_API", KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
  enable("X86_APIC_BUS_CYCLES_NS", APIC_BUS_CYCLE_NS);
  enable("EXIT_HYPERCALL", 1 << KVM_HC.MAP_GPA_RANGE);
  succeed("KVM_SET_TSC_KHZ", vm.setTscKhz(TSC_KHZ));
}

function initVm(vm: Vm, vcpus: number): void {
  const capabilities = readCapabilities(vm);
  const command = {
    id: KVM_TDX.INIT_VM,
    data: {
      attributes: ATTRIBUTES.SEPT_VE_DISABLE,
      xfam: BigInt(XFAM.X87 | XFAM.SSE),
      cpuid: { entries: configureCpuid(capabilities.cpuid.entries, vcpus) },
    },
  };
  succeed("KVM_TDX_INIT_VM", vm.memoryEncryptOp(command));
}

function readCapabilities(vm: Vm): KvmTdxCapabilities {
  for (let nent = 8; ; nent *= 2) {
    const data: KvmTdxCapabilities = {
      supportedAttrs: 0n,
      supportedXfam: 0n,
      kernelTdvmcallinfo1R11: 0n,
      userTdvmcallinfo1R11: 0n,
      kernelTdvmcallinfo1R12: 0n,
      userTdvmcallinfo1R12: 0n,
      cpuid: { nent, entries: [] },
    };
    const result = vm.memoryEncryptOp({ id: KVM_TDX.CAPABILITIES, data });
    if (result !== -ERRNO.E2BIG) {
      succeed("KVM_TDX_CAPABILITIES", result);
      return data;
    }
  }
}

function addSlot(vm: Vm, memory: ProcessMemory, index: number, gpa: number, size: number): Slot {
  const file = succeed("KVM_CREATE_GUEST_MEMFD", vm.createGuestMemfd({ size }));
  const hva = memory.mmap(size);
  const region = {
    slot: index,
    flags: KVM_MEM_GUEST_MEMFD,
    guestPhysAddr: gpa,
    memorySize: size,
    userspaceAddr: hva,
    guestMemfd: file,
    guestMemfdOffset: 0,
  };
  succeed("KVM_SET_USER_MEMORY_REGION2", vm.setUserMemoryRegion2(region));
  const attributes = { address: gpa, size, attributes: KVM_MEMORY_ATTRIBUTE_PRIVATE };
  succeed("KVM_SET_MEMORY_ATTRIBUTES", vm.setMemoryAttributes(attributes));
  return { gpa, size, hva, file };
}

function addVcpu(vm: Vm, index: number): Vcpu {
  const vcpu = succeed("KVM_CREATE_VCPU", vm.createVcpu(index));
  succeed("KVM_SET_CPUID2", vcpu.setCpuid2(vcpuCpuid(readTdCpuid(vcpu), index)));
  succeed("KVM_X86_SETUP_MCE", vcpu.setupMce(MCE_BANKS | MCG_CAP.CTL_P | MCG_CAP.SER_P));
  succeed("KVM_TDX_INIT_VCPU", vcpu.memoryEncryptOp({ id: KVM_TDX.INIT_VCPU, data: 0n }));
  return vcpu;
}

function readTdCpuid(vcpu: Vcpu): readonly KvmCpuidEntry2[] {
  const data = { nent: CPUID_ROOM, entries: [] as KvmCpuidEntry2[] };
  let result = vcpu.memoryEncryptOp({ id: KVM_TDX.GET_CPUID, data });
  // Now `nent` says how many there are.
  if (result === -ERRNO.E2BIG) result = vcpu.memoryEncryptOp({ id: KVM_TDX.GET_CPUID, data });
  succeed("KVM_TDX_GET_CPUID", result);
  return data.entries;
}

/** Takes the pages through a small buffer in the process's memory, part by part; KVM adds and measures them in their order. */
function addRegion(vcpu: Vcpu, memory: ProcessMemory, { gpa, bytes }: MeasuredRegion): void {
  const bufferSize = Math.min(alignUp(bytes.length, PAGE_SIZE), STAGING_BYTES);
  const sourceAddr = memory.mmap(bufferSize);
  try {
    for (let done = 0; done < bytes.length; done += bufferSize) {
      const part = bytes.subarray(done, done + bufferSize);
      const nrPages = Math.ceil(part.length / PAGE_SIZE);
      memory.write(sourceAddr, part);
      memory.write(sourceAddr + part.length, new Uint8Array(nrPages * PAGE_SIZE - part.length));
      const data = { sourceAddr, gpa: gpa + done, nrPages };
      const command = { id: KVM_TDX.INIT_MEM_REGION, flags: KVM_TDX_MEASURE_MEMORY_REGION, data };
      succeed("KVM_TDX_INIT_MEM_REGION", vcpu.memoryEncryptOp(command));
    }
  } finally {
    memory.munmap(sourceAddr, bufferSize);
  }
}

function preFault(vcpu: Vcpu, gpa: number, size: number): void {
  const range = { gpa, size };
  while (range.size > 0) succeed("KVM_PRE_FAULT_MEMORY", vcpu.preFaultMemory(range));
}
