import { PAGE_SIZE } from "../arch/page.js";
/** Support for tests of the module: a platform of plain arrays with scripted VM exits, and a host that drives it. */

import { MSR, SMRR, TME_ACTIVATE } from "../arch/msr.js";
import { EPTP_CONTROLS, TD_PARAMS, TDH, TDMR_INFO } from "../arch/tdx-abi.js";
import { statusCode } from "../arch/tdx-status.js";
import { type GuestControls, type GuestCpu, initialControls } from "../cpu/guest-cpu.js";
import { REG, SEGMENT } from "../cpu/layout.js";
import { CpuState } from "../cpu/state.js";
import { type EntryEvent, NO_EXIT, type VmExit } from "../cpu/vm-exit.js";
import { nativeCpuid } from "../platform/cpuid.js";
import type { EventFields } from "../platform/event-bus.js";
import { GPR, type SeamContext, type SeamMemory, SeamShutdown } from "../platform/seam.js";
import type { ModuleOptions } from "./call.js";
import { TdxModule } from "./module.js";

const MIB = 0x10_0000;
const GIB = 2 ** 30;
const LINE = 64;
/** Memory of the test platform, where the pages for TDs begin, and where the PAMT lies. */
const MEMORY_SIZE = 24 * MIB;
const FREE_PAGES = 2 * MIB;
const PAMT = { P4K: 16 * MIB, P2M: 20 * MIB, P1G: 21 * MIB };
const FIRST_PRIVATE_KEYID = 32;
const KEYID_COUNT = 64;
export const KEYID_SHIFT = 46;
export const GLOBAL_KEYID = FIRST_PRIVATE_KEYID;

/** Physical memory with one owner per line, and poison. */
export class FakeMemory implements SeamMemory {
  readonly bytes = new Uint8Array(MEMORY_SIZE);
  readonly view = new DataView(this.bytes.buffer);
  readonly owner = new Uint16Array(MEMORY_SIZE / LINE);
  readonly poison = new Uint8Array(MEMORY_SIZE / LINE);
  readonly size = MEMORY_SIZE;

  /** What a read sees: the bytes, or zeros where a shared KeyID meets private lines. */
  #visible(hpa: number, length: number, keyId: number): boolean {
    if (hpa < 0 || hpa + length > MEMORY_SIZE) throw new RangeError(`no memory at 0x${hpa.toString(16)}`);
    for (let line = Math.floor(hpa / LINE); line * LINE < hpa + length; line++) {
      const owner = this.owner[line] as number;
      if (this.poison[line]) throw new SeamShutdown("poison");
      if (keyId < FIRST_PRIVATE_KEYID) {
        if (owner !== 0) return false;
      } else if (owner !== keyId)
        throw new SeamShutdown(`line 0x${(line * LINE).toString(16)} of ${owner} read with ${keyId}`);
    }
    return true;
  }
  #claim(hpa: number, length: number, keyId: number): void {
    const owner = keyId < FIRST_PRIVATE_KEYID ? 0 : keyId;
    for (let line = Math.floor(hpa / LINE); line * LINE < hpa + length; line++) this.owner[line] = owner;
  }
  read8(hpa: number, keyId: number): number {
    return this.#visible(hpa, 1, keyId) ? this.view.getUint8(hpa) : 0;
  }
  read16(hpa: number, keyId: number): number {
    return this.#visible(hpa, 2, keyId) ? this.view.getUint16(hpa, true) : 0;
  }
  read32(hpa: number, keyId: number): number {
    return this.#visible(hpa, 4, keyId) ? this.view.getUint32(hpa, true) : 0;
  }
  read64(hpa: number, keyId: number): bigint {
    return this.#visible(hpa, 8, keyId) ? this.view.getBigUint64(hpa, true) : 0n;
  }
  write8(hpa: number, value: number, keyId: number): void {
    this.#claim(hpa, 1, keyId);
    this.view.setUint8(hpa, value);
  }
  write16(hpa: number, value: number, keyId: number): void {
    this.#claim(hpa, 2, keyId);
    this.view.setUint16(hpa, value, true);
  }
  write32(hpa: number, value: number, keyId: number): void {
    this.#claim(hpa, 4, keyId);
    this.view.setUint32(hpa, value, true);
  }
  write64(hpa: number, value: bigint, keyId: number): void {
    this.#claim(hpa, 8, keyId);
    this.view.setBigUint64(hpa, value, true);
  }
  read(hpa: number, length: number, keyId: number): Uint8Array {
    return this.#visible(hpa, length, keyId) ? this.bytes.slice(hpa, hpa + length) : new Uint8Array(length);
  }
  write(hpa: number, bytes: Uint8Array, keyId: number): void {
    this.#claim(hpa, bytes.length, keyId);
    this.bytes.set(bytes, hpa);
  }
  fill(hpa: number, length: number, value: number, keyId: number): void {
    if (hpa % LINE !== 0 || length % LINE !== 0) throw new RangeError("fill works on whole lines");
    this.#claim(hpa, length, keyId);
    this.poison.fill(0, hpa / LINE, (hpa + length) / LINE);
    this.bytes.fill(value, hpa, hpa + length);
  }
  copy(fromHpa: number, fromKeyId: number, toHpa: number, toKeyId: number, length: number): void {
    this.write(toHpa, this.read(fromHpa, length, fromKeyId), toKeyId);
  }
}

/** A guest processor that only keeps state. */
export class FakeGuest implements GuestCpu {
  readonly state = new CpuState(new WebAssembly.Memory({ initial: 1 }));
  readonly controls: GuestControls = { ...initialControls(), tscMultiplier: 0n, xfam: 0n };
  readonly entryEvent: EntryEvent = { interruptionInfo: 0, errorCode: 0, instructionLength: 0 };
  readonly counters = { flushes: 0 };

  constructor(private readonly memory: FakeMemory) {}

  save(hpa: number, keyId: number): void {
    this.memory.write(hpa, this.state.block(), keyId);
  }
  load(hpa: number, keyId: number): void {
    this.state.block().set(this.memory.read(hpa, this.state.block().length, keyId));
  }
  clear(): void {
    this.state.block().fill(0);
  }
  get flushes(): number {
    return this.counters.flushes;
  }
  flushTlb(): void {
    this.counters.flushes++;
  }
}

/** What the guest does next: the exit that it makes, perhaps after it has changed its registers. */
export type GuestStep = Partial<VmExit> | ((platform: FakePlatform) => Partial<VmExit>);

/** Pieces that several logical processors share. */
export class FakeMachine {
  readonly memory = new FakeMemory();
  readonly guest = new FakeGuest(this.memory);
  readonly msrs = new Map<number, bigint>([
    [MSR.IA32_TSC_ADJUST, 0n],
    [MSR.IA32_ARCH_CAPABILITIES, 0x400008bn],
    [MSR.IA32_MISC_ENABLE, 0x1n | (1n << 18n)],
    [MSR.IA32_TME_ACTIVATE, TME_ACTIVATE.LOCK | TME_ACTIVATE.ENABLE],
    [MSR.IA32_SMRR_PHYSMASK, SMRR.LOCK],
    [MSR.IA32_APIC_BASE, 0xfee00c00n],
    [MSR.IA32_VMX_EPT_VPID_CAP, 0x40n],
    [MSR.IA32_VMX_CR4_FIXED1, 0x3767ffn],
  ]);
  clock = 1_000_000;
  random = 1n;
  readonly events: { event: string; vcpu: number | null; fields: EventFields }[] = [];
  constructor(
    readonly packages = 1,
    readonly logicalProcessors = 1,
  ) {}
}

/** One logical processor in SEAM root. */
export class FakePlatform implements SeamContext {
  readonly memory: FakeMemory;
  readonly guest: FakeGuest;
  readonly lp: { id: number; package: number; x2apicId: number };
  readonly platform: SeamContext["platform"];
  callerInterruptFlag = true;
  pending = 0;
  /** What the guest does; the list of injected events; the self-IPIs sent. */
  readonly script: GuestStep[] = [];
  readonly injected: number[] = [];
  readonly ipis: { kind: string; vector: number }[] = [];
  /** Registers of the guest at each entry. */
  entries = 0;

  constructor(
    readonly machine: FakeMachine,
    id = 0,
  ) {
    this.memory = machine.memory;
    // Logical processors share one core, as they do on the real platform, through objects of their own.
    this.guest = Object.create(machine.guest) as FakeGuest;
    const perPackage = machine.logicalProcessors / machine.packages;
    this.lp = { id, package: Math.floor(id / perPackage), x2apicId: id };
    this.platform = {
      packages: machine.packages,
      logicalProcessors: machine.logicalProcessors,
      firstPrivateKeyId: FIRST_PRIVATE_KEYID,
      keyIdCount: KEYID_COUNT,
      keyIdShift: KEYID_SHIFT,
      maxPhysicalAddressBits: 52,
      cmrs: [{ base: 0, size: MEMORY_SIZE }],
    };
  }
  readMsr(index: number): bigint {
    return this.machine.msrs.get(index) ?? 0n;
  }
  writeMsr(index: number, value: bigint): void {
    this.machine.msrs.set(index, value);
  }
  cpuid(leaf: number, subleaf: number): readonly [number, number, number, number] {
    const { logicalProcessors, packages } = this.machine;
    return nativeCpuid(leaf, subleaf, { x2apicId: this.lp.id, logicalProcessors, packages });
  }
  random64(): bigint {
    this.machine.random = BigInt.asUintN(64, this.machine.random * 6364136223846793005n + 1442695040888963407n);
    return this.machine.random;
  }
  tsc(): bigint {
    return BigInt(this.machine.clock);
  }
  pendingInterrupts(): number {
    return this.pending;
  }
  enterGuest(): VmExit {
    this.entries++;
    const { entryEvent } = this.guest;
    if (entryEvent.interruptionInfo !== 0) this.injected.push(entryEvent.interruptionInfo);
    entryEvent.interruptionInfo = 0;
    const step = this.script.shift();
    if (!step) throw new Error("the guest has nothing to do");
    return { ...NO_EXIT, ...(typeof step === "function" ? step(this) : step) };
  }
  selfIpi(kind: "fixed" | "nmi" | "init", vector: number): void {
    this.ipis.push({ kind, vector });
  }
  emit(event: string, vcpu: number | null, fields: EventFields): void {
    this.machine.events.push({ event, vcpu, fields });
  }
  wants(): boolean {
    return true;
  }
}

/** Registers by name; the rest is zero. */
export type Registers = { readonly [name in keyof typeof GPR]?: number | bigint };

/** What a SEAMCALL gave back. */
export interface SeamcallResult {
  readonly status: bigint;
  /** Upper half, to be compared with TDX_STATUS. */
  readonly code: bigint;
  readonly gprs: BigUint64Array;
}

/** TD_PARAMS of a plain TD, which tests change. */
export interface TestTdParams {
  attributes?: bigint;
  xfam?: bigint;
  maxVcpus?: number;
  eptpControls?: number;
  configFlags?: bigint;
  tscFrequency?: number;
  cpuid?: readonly number[];
}

/** A host that keeps track of free pages and drives the module by SEAMCALLs. */
export class TestHost {
  readonly module: TdxModule;
  readonly machine: FakeMachine;
  readonly lps: readonly FakePlatform[];
  /** The LP that the next SEAMCALL runs on. */
  lp: FakePlatform;
  #nextPage = FREE_PAGES;
  #nextHkid = FIRST_PRIVATE_KEYID + 1;

  constructor(options: Partial<ModuleOptions> = {}, packages = 1, logicalProcessors = 1) {
    this.module = new TdxModule({ filter: false, ...options });
    this.machine = new FakeMachine(packages, logicalProcessors);
    this.lps = Array.from({ length: logicalProcessors }, (_, id) => new FakePlatform(this.machine, id));
    this.lp = this.lps[0] as FakePlatform;
  }

  get memory(): FakeMemory {
    return this.machine.memory;
  }

  page(): number {
    const page = this.#nextPage;
    this.#nextPage += PAGE_SIZE;
    return page;
  }
  /** A page aligned to 2 MiB with the 2 MiB around it. */
  largePage(): number {
    const page = Math.ceil(this.#nextPage / (2 * MIB)) * 2 * MIB;
    this.#nextPage = page + 2 * MIB;
    return page;
  }
  hkid(): number {
    return this.#nextHkid++;
  }

  seamcall(leaf: number, registers: Registers = {}, version = 0): SeamcallResult {
    return this.raw(BigInt(leaf | (version << 16)), registers);
  }
  raw(rax: bigint, registers: Registers = {}): SeamcallResult {
    const gprs = new BigUint64Array(16);
    for (const [name, value] of Object.entries(registers)) gprs[GPR[name as keyof typeof GPR]] = BigInt(value);
    gprs[GPR.RAX] = rax;
    this.module.seamcall(this.lp, gprs);
    const status = gprs[GPR.RAX] as bigint;
    return { status, code: statusCode(status), gprs };
  }
  /** A SEAMCALL that must succeed. */
  must(leaf: number, registers: Registers = {}, version = 0): BigUint64Array {
    const { status, gprs } = this.seamcall(leaf, registers, version);
    if (status !== 0n) throw new Error(`SEAMCALL ${leaf} ended with 0x${status.toString(16)}`);
    return gprs;
  }

  /** Writes a TDMR_INFO for all of memory below the PAMT, and the array that names it; returns the array's address. */
  tdmrArray(change: (info: DataView) => void = () => {}): number {
    const array = 0x1000;
    const info = 0x2000;
    const bytes = new DataView(new ArrayBuffer(TDMR_INFO.LENGTH));
    const u64 = (offset: number, value: number): void => bytes.setBigUint64(offset, BigInt(value), true);
    u64(TDMR_INFO.BASE, 0);
    u64(TDMR_INFO.SIZE, GIB);
    u64(TDMR_INFO.PAMT_1G_BASE, PAMT.P1G);
    u64(TDMR_INFO.PAMT_1G_SIZE, PAGE_SIZE);
    u64(TDMR_INFO.PAMT_2M_BASE, PAMT.P2M);
    u64(TDMR_INFO.PAMT_2M_SIZE, 2 * PAGE_SIZE);
    u64(TDMR_INFO.PAMT_4K_BASE, PAMT.P4K);
    u64(TDMR_INFO.PAMT_4K_SIZE, 4 * MIB);
    u64(TDMR_INFO.RESERVED, 16 * MIB);
    u64(TDMR_INFO.RESERVED + 8, GIB - 16 * MIB);
    change(bytes);
    this.memory.write64(array, BigInt(info), 0);
    this.memory.write(info, new Uint8Array(bytes.buffer), 0);
    return array;
  }

  /** Everything up to a module that is ready. */
  bringUp(): this {
    this.must(TDH.SYS_INIT);
    for (const lp of this.lps) {
      this.lp = lp;
      this.must(TDH.SYS_LP_INIT);
    }
    this.must(TDH.SYS_CONFIG, { RCX: this.tdmrArray(), RDX: 1, R8: GLOBAL_KEYID });
    this.onEachPackage(() => this.must(TDH.SYS_KEY_CONFIG));
    this.lp = this.lps[0] as FakePlatform;
    // The PAMT of the memory that exists is enough here: 16 MiB, four calls of 4 MiB.
    for (let i = 0; i < 4; i++) this.must(TDH.SYS_TDMR_INIT, { RCX: 0 });
    return this;
  }
  onEachPackage(action: () => void): void {
    for (let p = 0; p < this.machine.packages; p++) {
      this.lp = this.lps.find((lp) => lp.lp.package === p) as FakePlatform;
      action();
    }
    this.lp = this.lps[0] as FakePlatform;
  }

  /** Writes TD_PARAMS to shared memory; returns its address. */
  params(params: TestTdParams = {}): number {
    const bytes = new DataView(new ArrayBuffer(TD_PARAMS.SIZE));
    bytes.setBigUint64(TD_PARAMS.ATTRIBUTES, params.attributes ?? 1n << 28n, true);
    bytes.setBigUint64(TD_PARAMS.XFAM, params.xfam ?? 3n, true);
    bytes.setUint16(TD_PARAMS.MAX_VCPUS, params.maxVcpus ?? 4, true);
    bytes.setBigUint64(TD_PARAMS.EPTP_CONTROLS, BigInt(params.eptpControls ?? EPTP_CONTROLS.LEVELS_4), true);
    bytes.setBigUint64(TD_PARAMS.CONFIG_FLAGS, params.configFlags ?? 4n, true);
    bytes.setUint16(TD_PARAMS.TSC_FREQUENCY, params.tscFrequency ?? 40, true);
    for (let i = 0; i < 48; i++) {
      bytes.setUint8(TD_PARAMS.MRCONFIGID + i, i + 1);
      bytes.setUint8(TD_PARAMS.MROWNER + i, i + 101);
      bytes.setUint8(TD_PARAMS.MROWNERCONFIG + i, i + 201);
    }
    for (const [i, value] of (params.cpuid ?? []).entries()) {
      bytes.setUint32(TD_PARAMS.CPUID_CONFIG_VALUES + i * 4, value, true);
    }
    this.memory.write(0x3000, new Uint8Array(bytes.buffer), 0);
    return 0x3000;
  }

  /** A TD that is initialised and empty. */
  createTd(params: TestTdParams = {}): TestTd {
    const tdr = this.page();
    const hkid = this.hkid();
    this.must(TDH.MNG_CREATE, { RCX: tdr, RDX: hkid });
    this.onEachPackage(() => this.must(TDH.MNG_KEY_CONFIG, { RCX: tdr }));
    const tdcx = Array.from({ length: 6 }, () => this.page());
    for (const page of tdcx) this.must(TDH.MNG_ADDCX, { RCX: page, RDX: tdr });
    this.must(TDH.MNG_INIT, { RCX: tdr, RDX: this.params(params) });
    return new TestTd(this, tdr, hkid, tdcx);
  }

  /** A TD with one vCPU and one page at GPA 0x1000, finalised. */
  runnableTd(params: TestTdParams = {}, vcpus = 1): TestTd {
    const td = this.createTd(params);
    for (let i = 0; i < vcpus; i++) td.addVcpu();
    td.addTables(0x1000);
    td.addPage(0x1000, new Uint8Array(PAGE_SIZE).fill(0x5a));
    this.must(TDH.MR_FINALIZE, { RCX: td.tdr });
    return td;
  }
}

/** One TD of a test host. */
export class TestTd {
  readonly vcpus: number[] = [];
  readonly tdvpx: number[] = [];
  readonly tables: number[] = [];
  readonly pages = new Map<number, number>();
  readonly #levels = new Set<string>();

  constructor(
    readonly host: TestHost,
    readonly tdr: number,
    readonly hkid: number,
    readonly tdcx: readonly number[],
  ) {}

  addVcpu(): number {
    const tdvpr = this.host.page();
    this.host.must(TDH.VP_CREATE, { RCX: tdvpr, RDX: this.tdr });
    for (let i = 0; i < 5; i++) {
      const page = this.host.page();
      this.host.must(TDH.VP_ADDCX, { RCX: page, RDX: tdvpr });
      this.tdvpx.push(page);
    }
    this.host.must(TDH.VP_INIT, { RCX: tdvpr, RDX: 0xcafe, R8: this.vcpus.length }, 1);
    this.vcpus.push(tdvpr);
    return tdvpr;
  }

  /** Adds the Secure EPT tables above a GPA, down to the one whose entries have the level `lowest`. */
  addTables(gpa: number, lowest = 0): void {
    for (let level = 3; level > lowest; level--) {
      const base = gpa - (gpa % 2 ** (12 + 9 * level));
      const key = `${level}:${base}`;
      if (this.#levels.has(key)) continue;
      this.#levels.add(key);
      const page = this.host.page();
      this.tables.push(page);
      this.host.must(TDH.MEM_SEPT_ADD, { RCX: base + level, RDX: this.tdr, R8: page });
    }
  }

  addPage(gpa: number, content: Uint8Array): number {
    const hpa = this.host.page();
    this.host.memory.write(0x4000, content, 0);
    this.host.must(TDH.MEM_PAGE_ADD, { RCX: gpa, RDX: this.tdr, R8: hpa, R9: 0x4000 });
    this.pages.set(gpa, hpa);
    return hpa;
  }

  augPage(gpa: number): number {
    this.addTables(gpa);
    const hpa = this.host.page();
    this.host.must(TDH.MEM_PAGE_AUG, { RCX: gpa, RDX: this.tdr, R8: hpa });
    this.pages.set(gpa, hpa);
    return hpa;
  }

  /** TDH.VP.ENTER with a guest that follows the script. */
  enter(script: readonly GuestStep[], registers: Registers = {}, vcpu = 0): SeamcallResult {
    this.host.lp.script.length = 0;
    this.host.lp.script.push(...script);
    return this.host.seamcall(TDH.VP_ENTER, {
      ...registers,
      RCX: BigInt(this.vcpus[vcpu] ?? 0) | BigInt(registers.RCX ?? 0),
    });
  }

  /** One TDCALL in the guest, and then an external interrupt; gives back the guest's registers after it. */
  tdcall(
    leaf: number | bigint,
    registers: Registers = {},
    vcpu = 0,
  ): { status: bigint; gprs: bigint[]; exit: SeamcallResult } {
    let gprs: bigint[] = [];
    const exit = this.enter(
      [
        (lp) => {
          enterLongMode(lp.guest);
          for (let register = 0; register < 16; register++) lp.guest.state.setGpr(register, 0n);
          for (const [name, value] of Object.entries(registers)) {
            lp.guest.state.setGpr(GPR[name as keyof typeof GPR], BigInt.asUintN(64, BigInt(value)));
          }
          lp.guest.state.setGpr(GPR.RAX, BigInt(leaf));
          return { reason: 77, instructionLength: 4 };
        },
        (lp) => {
          gprs = Array.from({ length: 16 }, (_, i) => lp.guest.state.gpr(i));
          return { reason: 1, interruptionInfo: 0x800000f2 };
        },
      ],
      {},
      vcpu,
    );
    return { status: gprs[0] ?? 0n, gprs, exit };
  }
}

/** Puts a guest into 64-bit mode at CPL 0. */
export function enterLongMode(guest: FakeGuest): void {
  const { state } = guest;
  state.set(REG.EFER, state.get(REG.EFER) | 0x400n);
  state.setSegment(SEGMENT.CS, { selector: 0x10, base: 0n, limit: 0xffffffff, rights: 0xa09b });
}
