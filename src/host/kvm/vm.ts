import { ERRNO } from "../../arch/errno.js";
import {
  KVM_CAP,
  KVM_MEMORY_ATTRIBUTE_PRIVATE,
  KVM_MP_STATE,
  KVM_MSR_EXIT_REASON_MASK,
  KVM_TDX,
  KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK,
  KVM_X2APIC_API_USE_32BIT_IDS,
} from "../../arch/kvm-uapi.js";
import { exitCountName } from "../../arch/linux-vmx-reasons.js";
import type { HostKernel } from "../kernel.js";
import { GuestMemfd } from "../mm/guest-memfd.js";
import { isPageAligned, PAGE_SIZE } from "../mm/page.js";
import type { TdxHost } from "../tdx/tdx-host.js";
import { checkCapability, HYPERCALL_EXITS } from "./capabilities.js";
import { basicReason } from "./exit-reason.js";
import { IrqDelivery, type IrqRoutingEntry, type KvmMsi } from "./irq-delivery.js";
import type { UserspaceMemoryRegion2 } from "./mmu/memslots.js";
import { VmMmu } from "./mmu/vm-mmu.js";
import { isBusy, TD_STATE, Td, type TdOwner } from "./tdx/td.js";
import { buildTdParams, fillCapabilities, type KvmTdxCapabilities, type KvmTdxInitVm } from "./tdx/td-params.js";
import { destroyTd, releaseHkid } from "./tdx/td-teardown.js";
import { flushVcpu } from "./tdx/td-vcpu.js";
import { destroyVm, type TeardownReport } from "./tdx/vm-teardown.js";
import { REQUEST, Vcpu } from "./vcpu.js";

/** struct kvm_tdx_cmd; `data` is the structure itself where the kernel has a pointer. */
export interface KvmTdxCmd {
  readonly id: number;
  readonly flags?: number;
  readonly data?: unknown;
  /** Out: completion status of a SEAMCALL that failed. Must be 0 on the way in. */
  hwError?: bigint;
}

/** struct kvm_enable_cap. */
export interface KvmEnableCap {
  readonly cap: number;
  readonly flags?: number;
  readonly args?: readonly (number | bigint)[];
}

/** struct kvm_memory_attributes. */
export interface KvmMemoryAttributes {
  readonly address: number;
  readonly size: number;
  readonly attributes: number;
  readonly flags?: number;
}

/** GSIs that user space's IOAPIC takes of a split irqchip. */
const MAX_IOAPIC_PINS = 4096;
const MIN_TSC_KHZ = 1;
/** Period of the APIC timer's clock in a TD, ns: CPUID 0x15 tells the guest 25 MHz. */
const TD_APIC_BUS_CYCLE_NS = 40;
/** Bytes of a posted-interrupt descriptor. */
const PID_SIZE = 64;

/**
 * A virtual machine: the file descriptor that KVM_CREATE_VM gives. Methods are its ioctls; they give 0 or an error number,
 * negated, unless said otherwise. The type is KVM_X86_TDX_VM.
 */
export class Vm implements TdOwner {
  readonly td: Td;
  readonly mmu: VmMmu;
  readonly irqs: IrqDelivery;
  readonly vcpus: Vcpu[] = [];
  /** KVM_BUG_ON was met. */
  vmBugged = false;
  /** Every ioctl but the last close fails with -EIO. */
  vmDead = false;
  /** The VM is gone. */
  closed = false;
  maxVcpus: number;
  tscKhz: number;
  apicBusCycleNs = TD_APIC_BUS_CYCLE_NS;
  splitIrqchip = false;
  /** In-kernel PIC and IOAPIC, which a TD cannot use; only the old kernel lets them be made. */
  fullIrqchip = false;
  /** KVM_CAP_EXIT_HYPERCALL: bits of the hypercalls that exit. */
  hypercallExits = 0;
  /** KVM_CAP_X86_USER_SPACE_MSR. */
  userSpaceMsrMask = 0;
  readonly bootCpuId = 0;
  readonly #exits = new Map<number, number>();
  readonly #files: { readonly file: GuestMemfd; readonly forget: () => void }[] = [];
  readonly #pidPages: number[] = [];
  #pidNext = PAGE_SIZE;
  /** What became of the VM's pages; null before `destroy`. */
  teardown: TeardownReport | null = null;

  constructor(
    readonly kernel: HostKernel,
    tdx: TdxHost,
    defaultTscKhz: number,
  ) {
    this.td = new Td(kernel, tdx, this);
    this.mmu = new VmMmu(this.td, kernel.userMemory, () => this.requestAll(REQUEST.TLB_FLUSH));
    this.irqs = new IrqDelivery(() => this.vcpus);
    this.maxVcpus = Math.min(tdx.info.maxVcpusPerTd, kernel.cpus.length);
    this.tscKhz = defaultTscKhz;
  }

  // The ioctls

  /** KVM_CHECK_EXTENSION on the VM. */
  checkExtension(cap: number): number {
    return cap === KVM_CAP.MAX_VCPUS ? this.maxVcpus : checkCapability(cap);
  }

  /** KVM_ENABLE_CAP. */
  enableCap({ cap, flags = 0, args = [] }: KvmEnableCap): number {
    if (this.vmDead) return -ERRNO.EIO;
    if (flags !== 0) return -ERRNO.EINVAL;
    const value = Number(args[0] ?? 0);
    switch (cap) {
      case KVM_CAP.SPLIT_IRQCHIP:
        return this.#enableSplitIrqchip(value);
      case KVM_CAP.EXIT_HYPERCALL:
        if ((value & ~HYPERCALL_EXITS) !== 0) return -ERRNO.EINVAL;
        this.hypercallExits = value;
        return 0;
      case KVM_CAP.X86_USER_SPACE_MSR:
        if ((value & ~KVM_MSR_EXIT_REASON_MASK) !== 0) return -ERRNO.EINVAL;
        this.userSpaceMsrMask = value;
        return 0;
      case KVM_CAP.X2APIC_API:
        return this.#enableX2apicApi(value);
      case KVM_CAP.MAX_VCPUS:
        if (this.vcpus.length > 0) return -ERRNO.EINVAL;
        if (value === 0 || value > this.td.tdx.info.maxVcpusPerTd) return -ERRNO.EINVAL;
        this.maxVcpus = value;
        return 0;
      case KVM_CAP.X86_APIC_BUS_CYCLES_NS:
        if (value === 0) return -ERRNO.EINVAL;
        if (!this.splitIrqchip && !this.fullIrqchip) return -ERRNO.ENXIO;
        if (this.vcpus.length > 0) return -ERRNO.EINVAL;
        this.apicBusCycleNs = value;
        return 0;
      default:
        return -ERRNO.EINVAL;
    }
  }

  /** KVM_CREATE_IRQCHIP: a TD keeps its EOIs to itself, so that no IOAPIC in the kernel can work. */
  createIrqchip(): number {
    if (this.vmDead) return -ERRNO.EIO;
    if (this.kernel.profile !== "linux-6.16") return -ERRNO.ENOTTY;
    if (this.splitIrqchip || this.fullIrqchip) return -ERRNO.EEXIST;
    if (this.vcpus.length > 0) return -ERRNO.EINVAL;
    this.fullIrqchip = true;
    return 0;
  }

  /** KVM_SET_USER_MEMORY_REGION2. */
  setUserMemoryRegion2(region: UserspaceMemoryRegion2): number {
    return this.vmDead ? -ERRNO.EIO : this.mmu.slots.set(region, this.mmu.maxGfn);
  }

  /** KVM_CREATE_GUEST_MEMFD: the file, or an error number, negated. */
  createGuestMemfd({ size, flags = 0 }: { readonly size: number; readonly flags?: number }): GuestMemfd | number {
    if (this.vmDead) return -ERRNO.EIO;
    if (flags !== 0 || size <= 0 || !isPageAligned(size)) return -ERRNO.EINVAL;
    const file = new GuestMemfd(this.kernel.pages, size);
    this.#files.push({ file, forget: this.kernel.memoryFailure.addFile(file) });
    return file;
  }

  /** KVM_SET_MEMORY_ATTRIBUTES: what is mapped the other way goes. */
  setMemoryAttributes({ address, size, attributes, flags = 0 }: KvmMemoryAttributes): number {
    if (this.vmDead) return -ERRNO.EIO;
    if (flags !== 0 || (attributes & ~KVM_MEMORY_ATTRIBUTE_PRIVATE) !== 0) return -ERRNO.EINVAL;
    if (!isPageAligned(address) || !isPageAligned(size) || address < 0 || size <= 0) return -ERRNO.EINVAL;
    const start = address / PAGE_SIZE;
    const end = start + size / PAGE_SIZE;
    const isPrivate = attributes !== 0;
    if (isPrivate) this.mmu.zapShared(start, end);
    else this.mmu.zapPrivate(start, end);
    this.mmu.attributes.set(start, end, isPrivate);
    return 0;
  }

  /** KVM_MEMORY_ENCRYPT_OP. */
  memoryEncryptOp(command: KvmTdxCmd): number {
    if (this.vmDead) return -ERRNO.EIO;
    if ((command.hwError ?? 0n) !== 0n) return -ERRNO.EINVAL;
    switch (command.id) {
      case KVM_TDX.CAPABILITIES:
        if ((command.flags ?? 0) !== 0) return -ERRNO.EINVAL;
        return fillCapabilities(this.td.tdx.info, command.data as KvmTdxCapabilities);
      case KVM_TDX.INIT_VM:
        return this.#initVm(command);
      case KVM_TDX.FINALIZE_VM:
        return this.#finalize(command);
      default:
        return -ERRNO.EINVAL;
    }
  }

  /** KVM_CREATE_VCPU: the vCPU, or an error number, negated. */
  createVcpu(id: number): Vcpu | number {
    if (this.vmDead) return -ERRNO.EIO;
    if (id < 0 || id >= this.maxVcpus || this.vcpus.length >= this.maxVcpus) return -ERRNO.EINVAL;
    if (this.td.state !== TD_STATE.INITIALIZED) return -ERRNO.EIO;
    if (!this.splitIrqchip) return -ERRNO.EINVAL;
    if (this.vcpuById(id) !== undefined) return -ERRNO.EEXIST;
    const pid = this.#allocatePid();
    if (pid === null) return -ERRNO.ENOMEM;
    const vcpu = new Vcpu(this, id, pid);
    this.vcpus.push(vcpu);
    return vcpu;
  }

  /** KVM_SET_TSC_KHZ on the VM: the default of TDs and vCPUs to come. */
  setTscKhz(khz: number): number {
    if (this.vmDead) return -ERRNO.EIO;
    if (khz < MIN_TSC_KHZ) return -ERRNO.EINVAL;
    if (this.vcpus.length > 0) return -ERRNO.EINVAL;
    this.tscKhz = khz;
    return 0;
  }

  getTscKhz(): number {
    return this.tscKhz;
  }

  /** KVM_SET_GSI_ROUTING. */
  setGsiRouting(entries: readonly IrqRoutingEntry[]): number {
    return this.vmDead ? -ERRNO.EIO : this.irqs.setRouting(entries);
  }

  /** KVM_SIGNAL_MSI: 1 if it was delivered, 0 if it was blocked by the guest. */
  signalMsi(msi: KvmMsi): number {
    if (this.vmDead) return -ERRNO.EIO;
    if (!this.splitIrqchip || (msi.flags ?? 0) !== 0) return -ERRNO.EINVAL;
    return this.irqs.sendMsi(msi);
  }

  /** KVM_IRQ_LINE: an edge on a GSI that has a route. */
  irqLine(gsi: number, level: boolean): number {
    if (this.vmDead) return -ERRNO.EIO;
    if (!this.splitIrqchip && !this.fullIrqchip) return -ERRNO.ENXIO;
    this.irqs.setIrq(gsi, level);
    return 0;
  }

  /** KVM_SET_TSS_ADDR, KVM_SET_IDENTITY_MAP_ADDR: accepted, of no use to a TD. */
  setTssAddr(_address: number): number {
    return this.vmDead ? -ERRNO.EIO : 0;
  }
  setIdentityMapAddr(_address: number): number {
    return this.vmDead ? -ERRNO.EIO : 0;
  }

  /** The last close of the VM's descriptors, guest_memfd's included. Tells what became of the guest's pages. */
  destroy(): TeardownReport {
    this.teardown ??= destroyVm(this);
    this.closed = true;
    this.vmDead = true;
    return this.teardown;
  }

  // What the rest of KVM works with

  vcpuById(id: number): Vcpu | undefined {
    return this.vcpus.find((vcpu) => vcpu.id === id);
  }

  bug(): void {
    this.vmBugged = true;
    this.markDead();
  }

  /** kvm_vm_dead: the VM does not run any more, though nothing is wrong with KVM. */
  markDead(): void {
    this.vmDead = true;
    this.requestAll(REQUEST.VM_DEAD);
  }

  requestAll(request: number): void {
    for (const vcpu of this.vcpus) {
      vcpu.requests |= request;
      vcpu.wake();
    }
  }

  flushVcpus(): void {
    for (const vcpu of this.vcpus) flushVcpu(vcpu);
  }

  kickOutsideGuestMode(): void {
    for (const vcpu of this.vcpus) vcpu.wake();
  }

  othersRunnable(except: Vcpu): boolean {
    return this.vcpus.some(
      (vcpu) =>
        vcpu !== except &&
        vcpu.tdVcpu.initialized &&
        (vcpu.mpState === KVM_MP_STATE.RUNNABLE || vcpu.hasEvents() || vcpu.apic.timer.pending > 0),
    );
  }

  countExit(reason: number): void {
    const basic = basicReason(reason);
    this.#exits.set(basic, (this.#exits.get(basic) ?? 0) + 1);
  }

  /** How often kvm_exit was met, by the kernel's name of the basic reason. */
  get exitCounts(): Readonly<Record<string, number>> {
    return Object.fromEntries([...this.#exits].map(([basic, count]) => [exitCountName(basic), count]));
  }

  /** The guest_memfds of this VM, closed or not; from now on the kernel's memory failure does not know them. */
  takeFiles(): GuestMemfd[] {
    return this.#files.splice(0).map(({ file, forget }) => {
      forget();
      return file;
    });
  }

  /** Gives back the pages of the posted-interrupt descriptors. */
  freePids(): void {
    for (const page of this.#pidPages.splice(0)) this.kernel.pages.freePage(page, this.td.tdx.lp.id);
  }

  #enableSplitIrqchip(pins: number): number {
    if (pins < 0 || pins > MAX_IOAPIC_PINS) return -ERRNO.EINVAL;
    if (this.splitIrqchip || this.fullIrqchip) return -ERRNO.EEXIST;
    if (this.vcpus.length > 0) return -ERRNO.EINVAL;
    this.splitIrqchip = true;
    return 0;
  }

  #enableX2apicApi(value: number): number {
    if ((value & ~(KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK)) !== 0) return -ERRNO.EINVAL;
    if ((value & KVM_X2APIC_API_USE_32BIT_IDS) !== 0) this.irqs.x2apicFormat = true;
    if ((value & KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK) !== 0) this.irqs.broadcastQuirkDisabled = true;
    return 0;
  }

  #initVm(command: KvmTdxCmd): number {
    const { td } = this;
    if (td.state !== TD_STATE.UNINITIALIZED || (command.flags ?? 0) !== 0) return -ERRNO.EINVAL;
    if (command.data === undefined) return -ERRNO.EFAULT;
    if (this.vcpus.length > 0) return -ERRNO.EBUSY;
    const { info } = td.tdx;
    const params = buildTdParams(command.data as KvmTdxInitVm, { info, maxVcpus: this.maxVcpus, tscKhz: this.tscKhz });
    if (typeof params === "number") return params;
    td.attributes = params.attributes;
    td.xfam = params.xfam;
    td.gpaw = params.gpaw;
    const { error, hwError } = td.create(params.bytes);
    if (hwError !== 0n) command.hwError = hwError;
    if (error !== 0) {
      releaseHkid(td);
      destroyTd(td);
    }
    return error;
  }

  #finalize(command: KvmTdxCmd): number {
    const { td } = this;
    if (!td.hkidAssigned || td.state === TD_STATE.RUNNABLE) return -ERRNO.EINVAL;
    const status = td.leaves.mrFinalize(td.tdr);
    command.hwError = status;
    if (isBusy(status)) return -ERRNO.EBUSY;
    if (status !== 0n) {
      td.bugOn("TDH.MR.FINALIZE", status);
      return -ERRNO.EIO;
    }
    td.state = TD_STATE.RUNNABLE;
    return 0;
  }

  /** A posted-interrupt descriptor: 64 bytes, aligned; they share pages. */
  #allocatePid(): number | null {
    if (this.#pidNext === PAGE_SIZE) {
      const page = this.kernel.pages.allocZeroedPage();
      if (page === null) return null;
      this.#pidPages.push(page);
      this.#pidNext = 0;
    }
    const at = (this.#pidPages.at(-1) ?? 0) + this.#pidNext;
    this.#pidNext += PID_SIZE;
    return at;
  }
}
