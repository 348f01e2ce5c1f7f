import type { GuestControls, GuestCpu } from "../cpu/guest-cpu.js";
import { REG } from "../cpu/layout.js";
import type { CpuState } from "../cpu/state.js";
import type { EntryEvent, VmExit } from "../cpu/vm-exit.js";
import { nativeCpuid } from "./cpuid.js";
import type { EventFields } from "./event-bus.js";
import type { GuestCore } from "./guest-core.js";
import { GuestExecution } from "./guest-execution.js";
import type { LogicalProcessor } from "./logical-processor.js";
import type { PhysicalMemory } from "./memory/physical-memory.js";
import type { Platform } from "./platform.js";
import { pendingInterrupts } from "./processor-msrs.js";
import type { SeamContext, SeamMemory } from "./seam.js";

/** Register values that SEAM root leaves behind for the host (tdx-module facts 4.2). */
const CLEARED: readonly (readonly [number, bigint])[] = [
  [REG.DR + 32, 0xffff_0ff0n],
  [REG.DR + 40, 0x400n],
  [REG.FMASK, 0x20200n],
];
const CLEARED_FCW = 0x37f;
const CLEARED_FTW = 0xffff;
const CLEARED_MXCSR = 0x1f80;

/** The core as the module drives it: the one register block, saved to and loaded from pages of the vCPU. */
class SeamGuest implements GuestCpu {
  readonly state: CpuState;
  readonly controls: GuestControls;
  readonly entryEvent: EntryEvent;
  #cleared: Uint8Array | undefined;

  constructor(
    private readonly core: GuestCore,
    private readonly memory: PhysicalMemory,
  ) {
    this.state = core.state;
    this.controls = core.controls;
    this.entryEvent = core.entryEvent;
  }

  save(hpa: number, keyId: number): void {
    this.memory.store(hpa, this.state.block(), keyId);
  }
  load(hpa: number, keyId: number): void {
    this.memory.loadInto(this.state.block(), hpa, keyId, "seam");
  }
  clear(): void {
    const { state } = this;
    // The TD's XCR0 and XSS stay: the host restores its own.
    const xcr0 = state.get(REG.XCR0);
    const xss = state.get(REG.XSS);
    this.#cleared ??= this.#clearedBlock();
    state.block().set(this.#cleared);
    state.set(REG.XCR0, xcr0);
    state.set(REG.XSS, xss);
  }

  /** The register block without a value of the TD's. */
  #clearedBlock(): Uint8Array {
    const { state } = this;
    state.block().fill(0);
    state.rflags = 2n;
    for (const [register, value] of CLEARED) state.set(register, value);
    state.set16(REG.FCW, CLEARED_FCW);
    state.set16(REG.FTW, CLEARED_FTW);
    state.set32(REG.MXCSR, CLEARED_MXCSR);
    return state.block().slice();
  }

  flushTlb(): void {
    this.core.flushAll();
  }
}

/** A logical processor in SEAM root, as the module sees it. */
export class SeamProcessor implements SeamContext {
  readonly lp: SeamContext["lp"];
  readonly platform: SeamContext["platform"];
  readonly memory: SeamMemory;
  readonly guest: GuestCpu;
  readonly #platform: Platform;
  readonly #lp: LogicalProcessor;
  readonly #execution: GuestExecution;

  constructor(platform: Platform, lp: LogicalProcessor) {
    this.#platform = platform;
    this.#lp = lp;
    this.lp = { id: lp.id, package: lp.package, x2apicId: lp.id };
    this.platform = platform.topology;
    this.memory = platform.memory.seam;
    this.guest = new SeamGuest(platform.core, platform.memory);
    this.#execution = new GuestExecution(platform, lp);
  }

  get callerInterruptFlag(): boolean {
    return this.#lp.hostInterruptFlag;
  }
  readMsr(index: number): bigint {
    return this.#lp.readMsr(index);
  }
  writeMsr(index: number, value: bigint): void {
    this.#lp.writeMsr(index, value);
  }
  cpuid(leaf: number, subleaf: number): readonly [number, number, number, number] {
    const { packages, logicalProcessors } = this.platform;
    return nativeCpuid(leaf, subleaf, { x2apicId: this.lp.x2apicId, logicalProcessors, packages });
  }
  random64(): bigint {
    return this.#platform.random.next64();
  }
  tsc(): bigint {
    return BigInt(Math.floor(this.#platform.clock.now));
  }
  pendingInterrupts(): number {
    return pendingInterrupts(this.#lp.latches);
  }
  enterGuest(): VmExit {
    this.#lp.setSeamMode("seam-non-root");
    const exit = this.#execution.run();
    this.#lp.setSeamMode("seam-root");
    return exit;
  }
  selfIpi(kind: "fixed" | "nmi" | "init", vector: number): void {
    if (kind === "fixed") this.#lp.selfIpi(vector);
    else this.#lp.raise(kind);
  }
  emit(event: string, vcpu: number | null, fields: EventFields): void {
    this.#platform.events.emit("module", event, this.lp.id, vcpu, fields);
  }
  wants(event: string): boolean {
    return this.#platform.events.wants(event);
  }
}
