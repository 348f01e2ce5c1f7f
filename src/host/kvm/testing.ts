import {
  KVM_CAP,
  KVM_MEM_GUEST_MEMFD,
  KVM_MEMORY_ATTRIBUTE_PRIVATE,
  KVM_TDX,
  KVM_X86_TDX_VM,
} from "../../arch/kvm-uapi.js";
import { SYS_FIELD, TD_FIELD } from "../../arch/linux-tdx-fields.js";
import { MSR } from "../../arch/msr.js";
import { TDH, TDX_FEATURES0 } from "../../arch/tdx-abi.js";
import { Clock } from "../../platform/clock.js";
import { EventBus, type MachineEvent } from "../../platform/event-bus.js";
import { GPR } from "../../platform/seam.js";
import type {
  Hardware,
  HardwareIdt,
  HardwareLp,
  HardwareMemory,
  HardwareTopology,
  SeamcallOutcome,
} from "../hardware.js";
import { HostKernel, type HostKernelOptions } from "../kernel.js";
import type { GuestMemfd } from "../mm/guest-memfd.js";
import type { KvmCpuidEntry2 } from "./cpuid.js";
import { Kvm } from "./kvm.js";
import type { KvmTdxInitVm } from "./tdx/td-params.js";
import type { Vcpu } from "./vcpu.js";
import type { Vm } from "./vm.js";

/** A machine for unit tests of the host: real clock and event bus, flat memory, and a TDX module that does what it is told. */

const MIB = 0x100000;
const MEMORY_BYTES = 16 * MIB;
/** First private KeyID of the machine, which becomes the global one; TDs get the next ones. */
export const GLOBAL_KEY_ID = 32;

/** One SEAMCALL as the host made it. */
export interface SeamcallRecord {
  readonly leaf: number;
  readonly lp: number;
  readonly inputs: readonly bigint[];
}

/** What the guest does in one TDH.VP.ENTER: changes the registers into the exit's. */
export type GuestStep = (regs: BigUint64Array, lp: FakeLp) => void;

/** Answer of the module: a status, and the output registers that the answer itself writes. */
export type SeamcallAnswer = (regs: BigUint64Array, lp: FakeLp) => bigint | Exclude<SeamcallOutcome, "ok">;

const SYS_VALUES = new Map<bigint, bigint>([
  [SYS_FIELD.MAJOR_VERSION, 1n],
  [SYS_FIELD.MINOR_VERSION, 5n],
  [SYS_FIELD.UPDATE_VERSION, 1n],
  [SYS_FIELD.TDX_FEATURES0, TDX_FEATURES0.NO_RBP_MOD | TDX_FEATURES0.TOPOLOGY_ENUM],
  [SYS_FIELD.NUM_CMRS, 1n],
  [SYS_FIELD.CMR_BASE, 0n],
  [SYS_FIELD.CMR_SIZE, BigInt(MEMORY_BYTES)],
  [SYS_FIELD.MAX_TDMRS, 64n],
  [SYS_FIELD.MAX_RESERVED_PER_TDMR, 16n],
  [SYS_FIELD.PAMT_4K_ENTRY_SIZE, 16n],
  [SYS_FIELD.PAMT_2M_ENTRY_SIZE, 16n],
  [SYS_FIELD.PAMT_1G_ENTRY_SIZE, 16n],
  [SYS_FIELD.TDCS_BASE_SIZE, 24576n],
  [SYS_FIELD.TDVPS_BASE_SIZE, 24576n],
  [SYS_FIELD.ATTRIBUTES_FIXED0, 0x8000_0000_7000_0001n],
  [SYS_FIELD.ATTRIBUTES_FIXED1, 0n],
  [SYS_FIELD.XFAM_FIXED0, 0x3n],
  [SYS_FIELD.XFAM_FIXED1, 0x3n],
  [SYS_FIELD.MAX_VCPUS_PER_TD, 64n],
  [SYS_FIELD.NUM_CPUID_CONFIG, 2n],
  [SYS_FIELD.CPUID_CONFIG_LEAVES, 0xffff_ffff_0000_0001n],
  [SYS_FIELD.CPUID_CONFIG_VALUES, 0x00ff_0000_0fff_3fffn],
  [SYS_FIELD.CPUID_CONFIG_VALUES + 1n, 0x0000_0000_8120_0000n],
  [SYS_FIELD.CPUID_CONFIG_LEAVES + 1n, 0xffff_ffff_8000_0008n],
  [SYS_FIELD.CPUID_CONFIG_VALUES + 2n, 0x0000_0200_0000_0000n],
  [SYS_FIELD.CPUID_CONFIG_VALUES + 3n, 0n],
]);

/** The TSC of a test TD is 1000 ahead of the clock. */
const TD_VALUES = new Map<bigint, bigint>([
  [TD_FIELD.TSC_OFFSET, 1000n],
  [TD_FIELD.TSC_MULTIPLIER, 1n << 48n],
]);

class FlatMemory implements HardwareMemory {
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  constructor(readonly size: number) {
    this.bytes = new Uint8Array(size);
    this.#view = new DataView(this.bytes.buffer);
  }
  read(hpa: number, length: number): Uint8Array {
    return this.bytes.slice(hpa, hpa + length);
  }
  write(hpa: number, bytes: Uint8Array): void {
    this.bytes.set(bytes, hpa);
  }
  fill(hpa: number, length: number, value: number): void {
    this.bytes.fill(value, hpa, hpa + length);
  }
  read32(hpa: number): number {
    return this.#view.getUint32(hpa, true);
  }
  read64(hpa: number): bigint {
    return this.#view.getBigUint64(hpa, true);
  }
  write32(hpa: number, value: number): void {
    this.#view.setUint32(hpa, value, true);
  }
  write64(hpa: number, value: bigint): void {
    this.#view.setBigUint64(hpa, value, true);
  }
}

/** A logical processor that has interrupts, MSRs and a SEAMCALL. */
export class FakeLp implements HardwareLp {
  hostIdt: HardwareIdt = { machineCheck: () => undefined, nmi: () => undefined, interrupt: () => undefined };
  hostHalted = false;
  /** Interrupts sent to the processor itself. */
  readonly selfIpis: number[] = [];
  readonly pending: number[] = [];
  readonly msrs = new Map<number, bigint>([[MSR.IA32_MCG_CAP, 0x0f001c15n]]);
  #enabled = false;

  readonly package: number;

  constructor(
    private readonly machine: FakeMachine,
    readonly id: number,
    packageId: number,
  ) {
    this.package = packageId;
  }

  get hostInterruptFlag(): boolean {
    return this.#enabled;
  }
  set hostInterruptFlag(enabled: boolean) {
    this.#enabled = enabled;
    this.#deliver();
  }

  raiseInterrupt(vector: number): void {
    this.pending.push(vector);
    this.#deliver();
  }
  selfIpi(vector: number): void {
    this.selfIpis.push(vector);
  }
  readMsr(index: number): bigint {
    return this.msrs.get(index) ?? 0n;
  }
  writeMsr(index: number, value: bigint): void {
    this.msrs.set(index, value);
  }
  seamcall(regs: BigUint64Array): SeamcallOutcome {
    return this.machine.seamcall(regs, this);
  }

  #deliver(): void {
    while (this.#enabled) {
      const vector = this.pending.shift();
      if (vector === undefined) return;
      this.#enabled = false;
      this.hostIdt.interrupt(vector);
      this.#enabled = true;
    }
  }
}

export interface FakeMachineOptions {
  readonly logicalProcessors?: number;
  readonly packages?: number;
  readonly memoryBytes?: number;
  /** Answers of the module, from the start. */
  readonly answers?: ReadonlyMap<number, SeamcallAnswer>;
}

export class FakeMachine implements Hardware {
  readonly clock = new Clock();
  readonly events: EventBus;
  readonly memory: { readonly size: number; readonly host: FlatMemory };
  readonly lps: readonly FakeLp[];
  readonly topology: HardwareTopology;
  /** Every SEAMCALL since the last `calls.length = 0`. */
  readonly calls: SeamcallRecord[] = [];
  /** What the guest does, one step per TDH.VP.ENTER. */
  readonly guest: GuestStep[] = [];
  /** Overrides of the module's answers, by leaf. */
  readonly answers: Map<number, SeamcallAnswer>;
  readonly seen: MachineEvent[] = [];
  invepts = 0;

  constructor({ logicalProcessors = 1, packages = 1, memoryBytes = MEMORY_BYTES, answers }: FakeMachineOptions = {}) {
    this.answers = new Map(answers);
    const { clock } = this;
    this.events = new EventBus({
      insn: 0,
      get clock() {
        return clock.now;
      },
    });
    this.memory = { size: memoryBytes, host: new FlatMemory(memoryBytes) };
    const perPackage = logicalProcessors / packages;
    this.lps = Array.from({ length: logicalProcessors }, (_, id) => new FakeLp(this, id, Math.floor(id / perPackage)));
    this.topology = {
      packages,
      firstPrivateKeyId: GLOBAL_KEY_ID,
      keyIdCount: 64,
      keyIdShift: 46,
      cmrs: [{ base: 0, size: memoryBytes }],
    };
  }

  invept(): void {
    this.invepts++;
  }

  /** Leaves called, by name, since the list was emptied. */
  get leaves(): string[] {
    return this.calls.map(({ leaf }) => Object.entries(TDH).find(([, number]) => number === leaf)?.[0] ?? String(leaf));
  }

  seamcall(regs: BigUint64Array, lp: FakeLp): SeamcallOutcome {
    const leaf = Number((regs[GPR.RAX] ?? 0n) & 0xffffn);
    this.calls.push({ leaf, lp: lp.id, inputs: [...regs] });
    const answer = this.answers.get(leaf) ?? DEFAULT_ANSWERS.get(leaf);
    if (leaf === TDH.VP_ENTER && !this.answers.has(leaf)) {
      const step = this.guest.shift();
      if (step === undefined) throw new Error("the guest has nothing more to do");
      step(regs, lp);
      return "ok";
    }
    const status = answer?.(regs, lp) ?? 0n;
    if (typeof status !== "bigint") return status;
    regs[GPR.RAX] = status;
    return "ok";
  }
}

const DEFAULT_ANSWERS = new Map<number, SeamcallAnswer>([
  [
    TDH.SYS_RD,
    (regs) => {
      const value = SYS_VALUES.get(regs[GPR.RDX] ?? 0n);
      regs[GPR.R8] = value ?? 0n;
      return value === undefined ? 0xc000_0c00_0000_0000n : 0n;
    },
  ],
  [
    TDH.SYS_TDMR_INIT,
    (regs) => {
      regs[GPR.RDX] = (regs[GPR.RCX] ?? 0n) + 0x4000_0000n;
      return 0n;
    },
  ],
  [
    TDH.MNG_RD,
    (regs) => {
      const value = TD_VALUES.get(regs[GPR.RDX] ?? 0n);
      regs[GPR.R8] = value ?? 0n;
      return value === undefined ? 0xc000_0c02_0000_0000n : 0n;
    },
  ],
  [
    TDH.VP_RD,
    (regs) => {
      regs[GPR.R8] = 0n;
      return 0n;
    },
  ],
]);

/** CPUID of a test guest: x2APIC, TSC deadline, 52-bit addresses, 48-bit GPAW. */
export const TEST_CPUID: readonly KvmCpuidEntry2[] = [
  { function: 1, index: 0, flags: 0, eax: 0, ebx: 0, ecx: (1 << 21) | (1 << 24), edx: 0 },
  { function: 0x80000000, index: 0, flags: 0, eax: 0x80000008, ebx: 0, ecx: 0, edx: 0 },
  { function: 0x80000008, index: 0, flags: 0, eax: 0x00303034, ebx: 0, ecx: 0, edx: 0 },
];
export const TEST_INIT_VM: KvmTdxInitVm = {
  attributes: 1n << 28n,
  xfam: 3n,
  cpuid: {
    entries: [
      { function: 1, index: 0, flags: 0, eax: 0x806f8, ebx: 0, ecx: 0x8120_0000, edx: 0 },
      { function: 0x80000008, index: 0, flags: 0, eax: 0x00300000, ebx: 0, ecx: 0, edx: 0 },
    ],
  },
};

export interface FakeHost {
  readonly machine: FakeMachine;
  readonly kernel: HostKernel;
  readonly kvm: Kvm;
}

export function makeHost(options: FakeMachineOptions & HostKernelOptions = {}): FakeHost {
  const machine = new FakeMachine(options);
  const kernel = new HostKernel(machine, options);
  const kvm = new Kvm(kernel);
  return { machine, kernel, kvm };
}

export interface FakeTd extends FakeHost {
  readonly vm: Vm;
  readonly vcpus: readonly Vcpu[];
  readonly vcpu: Vcpu;
  readonly gmem: GuestMemfd;
  /** User address of the shared half of the slot. */
  readonly userAddress: number;
}

/** Throws unless an ioctl that makes something made it. */
export function made<T extends object>(result: T | number): T {
  if (typeof result === "number") throw new Error(`ioctl failed: ${result}`);
  return result;
}

export const TEST_SLOT_BYTES = 4 * MIB;

/** A TD that is ready to run: one slot of 4 MiB at GPA 0, all of it private. */
export function makeTd(options: FakeMachineOptions & HostKernelOptions & { readonly vcpus?: number } = {}): FakeTd {
  const host = makeHost({ logicalProcessors: options.vcpus ?? 1, ...options });
  const { machine, kernel, kvm } = host;
  const vm = made(kvm.createVm(KVM_X86_TDX_VM));
  expectZero(vm.enableCap({ cap: KVM_CAP.SPLIT_IRQCHIP, args: [24] }));
  expectZero(vm.enableCap({ cap: KVM_CAP.EXIT_HYPERCALL, args: [1 << 12] }));
  expectZero(vm.memoryEncryptOp({ id: KVM_TDX.INIT_VM, data: TEST_INIT_VM }));
  const vcpus = Array.from({ length: options.vcpus ?? 1 }, (_, id) => made(vm.createVcpu(id)));
  const [vcpu] = vcpus;
  if (vcpu === undefined) throw new Error("no vCPU");
  for (const each of vcpus) {
    expectZero(each.setCpuid2(TEST_CPUID));
    expectZero(each.memoryEncryptOp({ id: KVM_TDX.INIT_VCPU, data: 0n }));
  }
  const gmem = made(vm.createGuestMemfd({ size: TEST_SLOT_BYTES }));
  const userAddress = kernel.userMemory.mmap(TEST_SLOT_BYTES);
  expectZero(
    vm.setUserMemoryRegion2({
      slot: 0,
      flags: KVM_MEM_GUEST_MEMFD,
      guestPhysAddr: 0,
      memorySize: TEST_SLOT_BYTES,
      userspaceAddr: userAddress,
      guestMemfd: gmem,
    }),
  );
  expectZero(vm.setMemoryAttributes({ address: 0, size: TEST_SLOT_BYTES, attributes: KVM_MEMORY_ATTRIBUTE_PRIVATE }));
  expectZero(vm.memoryEncryptOp({ id: KVM_TDX.FINALIZE_VM }));
  machine.events.on("*", (event) => machine.seen.push(event));
  machine.calls.length = 0;
  return { ...host, vm, vcpu, vcpus, gmem, userAddress };
}

function expectZero(result: number): void {
  if (result !== 0) throw new Error(`ioctl failed: ${result}`);
}

/** The exit of a TDVMCALL: R10 (0: standard), R11 and arguments from R12 on. */
export function tdvmcall(r11: number | bigint, args: readonly (number | bigint)[] = [], r10: bigint = 0n): GuestStep {
  return (regs) => {
    regs.fill(0n);
    regs[GPR.RAX] = 77n;
    regs[GPR.RCX] = 0xffccn;
    regs[GPR.R10] = r10;
    regs[GPR.R11] = BigInt(r11);
    args.forEach((value, i) => {
      regs[GPR.R12 + i] = BigInt(value);
    });
  };
}

/** An asynchronous exit. */
export function asyncExit(
  rax: bigint,
  { rcx = 0n, rdx = 0n, r8 = 0n, r9 = 0n }: { rcx?: bigint; rdx?: bigint; r8?: bigint; r9?: bigint } = {},
): GuestStep {
  return (regs) => {
    regs.fill(0n);
    regs[GPR.RAX] = rax;
    regs[GPR.RCX] = rcx;
    regs[GPR.RDX] = rdx;
    regs[GPR.R8] = r8;
    regs[GPR.R9] = r9;
  };
}

/** Keeps what the guest gets back at its next entry, and ends the run there by an exit to user space. */
export function capture(into: bigint[]): GuestStep {
  return (regs) => {
    into.splice(0, into.length, ...regs);
    regs.fill(0n);
    regs[GPR.RAX] = 7n;
  };
}
