import { EXIT_REASON } from "../arch/vmx.js";
import { type GuestControls, initialControls } from "../cpu/guest-cpu.js";
import { REG } from "../cpu/layout.js";
import { CpuState } from "../cpu/state.js";
import type { EntryEvent, VmExit } from "../cpu/vm-exit.js";
import type { PlatformConfig } from "./config.js";
import type { MachineEvent } from "./event-bus.js";
import type { CoreStop, GuestCore } from "./guest-core.js";
import type { LogicalProcessor } from "./logical-processor.js";
import { Platform } from "./platform.js";
import { GPR, type Gprs, type SeamContext, type SeamModule } from "./seam.js";
import { eventExit } from "./vm-exits.js";

/** A core for unit tests: each tick retires an instruction that does nothing but what `step` makes of it. */
export class FakeCore implements GuestCore {
  readonly state: CpuState;
  readonly controls: GuestControls = initialControls();
  readonly entryEvent: EntryEvent = { interruptionInfo: 0, errorCode: 0, instructionLength: 0 };
  retired = 0;
  ticks = 0;
  clock = 0;
  applied = 0;
  flushes = 0;
  posted = 0;
  readonly invalidated: number[] = [];
  readonly changed: number[] = [];
  readonly passes: (Uint8Array | undefined)[] = [];
  readonly delivered: number[] = [];
  /** Called before each instruction; a stop means that it does not retire. */
  step: ((core: FakeCore) => CoreStop | null) | null = null;

  constructor(memory: WebAssembly.Memory) {
    this.state = new CpuState(memory);
    this.state.set(REG.CR4, 0x2040n);
  }

  applyControls(): void {
    this.applied++;
  }
  flushAll(): void {
    this.flushes++;
  }
  invalidateCode(hpa: number): void {
    this.invalidated.push(hpa);
  }
  pageChanged(hpa: number): void {
    this.changed.push(hpa);
  }
  passOddAccess(bytes: Uint8Array | undefined): void {
    this.passes.push(bytes);
  }
  syncPostedInterrupts(): void {
    this.posted++;
  }
  run(ticks: number): CoreStop {
    if (this.entryEvent.interruptionInfo) {
      this.delivered.push(this.entryEvent.interruptionInfo);
      this.entryEvent.interruptionInfo = 0;
    }
    for (let tick = 0; tick < ticks; tick++) {
      const stop = this.step?.(this) ?? null;
      if (stop) return stop;
      this.retired++;
      this.ticks++;
      this.state.set32(REG.INTERRUPTIBILITY, this.state.get32(REG.INTERRUPTIBILITY) & ~3);
    }
    return { kind: "budget" };
  }
}

/** An exit that the guest makes by an instruction. */
export const instructionExit = (reason: number = EXIT_REASON.TDCALL): CoreStop => ({
  kind: "vm-exit",
  exit: { ...eventExit.init(), reason },
});

export interface TestMachine {
  readonly platform: Platform;
  readonly core: FakeCore;
  readonly lp: LogicalProcessor;
  /** Events so far, in order. */
  readonly log: MachineEvent[];
}

/** A small platform with a fake core and a recorder. */
export function testMachine(config: Partial<PlatformConfig> = {}): TestMachine {
  let core: FakeCore | undefined;
  const platform = new Platform({ hostMemoryBytes: 0x400000, sharedMemory: false, ...config }, (memory) => {
    core = new FakeCore(memory);
    return core;
  });
  const log: MachineEvent[] = [];
  platform.events.on("*", (event) => log.push(event));
  return { platform, core: core as FakeCore, lp: platform.lps[0] as LogicalProcessor, log };
}

/** A module of one function. */
export const fakeModule = (seamcall: (context: SeamContext, gprs: Gprs) => void): SeamModule => ({ seamcall });

/** A module that enters the guest once per SEAMCALL, keeps the exits, and returns the reason as the real one does. */
export function enteringModule(exits: VmExit[]): SeamModule {
  return fakeModule((context, gprs) => {
    const exit = context.enterGuest();
    exits.push({ ...exit });
    const msmi = exit.reason === EXIT_REASON.OTHER_SMI && exit.qualification === 1n;
    gprs[GPR.RAX] = BigInt(exit.reason) | (msmi ? 0x6000_0005n << 32n : 0n);
    gprs[GPR.RCX] = exit.qualification;
  });
}
