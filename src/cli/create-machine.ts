import { PAGE_SIZE } from "../arch/page.js";
import { Core } from "../cpu/core.js";
import { findSmallTd } from "../guests/small-tds.js";
import { PlatformTarget } from "../observe/injection/platform-target.js";
import type { InjectionTarget } from "../observe/injection/target.js";
import type { PageReport, VcpuReport } from "../observe/outcome.js";
import { VcpuView } from "../observe/vcpu-view.js";
import type { EventBus } from "../platform/event-bus.js";
import { directBoot } from "../vmm/boot/direct-boot.js";
import { type Step, type System, TdMachine } from "../vmm/machine.js";
import { powerOn } from "../vmm/system.js";
import type { TdImage } from "../vmm/td-image.js";
import { VmmError } from "../vmm/vmm-error.js";
import { UserError } from "./errors.js";
import { builtInterpreter } from "./interpreter-file.js";
import type { Machine, MachineConfig, Whereabouts } from "./machine.js";

/** What a guest needs of the machine around it. */
interface Guest {
  readonly image: TdImage;
  readonly memory: number;
  readonly vcpus: number;
}

/** Switches a computer on and launches the TD in it. Throws UserError for a guest that cannot be run. */
export function createMachine(config: MachineConfig): Machine {
  try {
    return new CommandMachine(config);
  } catch (error) {
    if (error instanceof VmmError) throw new UserError(error.code, error.message, error.hint);
    throw error;
  }
}

function guestOf({ payload, append, memory, vcpus }: MachineConfig): Guest {
  if (payload.kind === "small-td") {
    const td = findSmallTd(payload.name);
    if (td === undefined)
      throw new UserError("UNKNOWN_GUEST", `there is no small TD ${payload.name}`, "see `guests list`");
    return { image: td.build(), memory: td.memory, vcpus: td.vcpus };
  }
  const { kernel, initrd } = payload;
  return { image: directBoot({ kernel, initrd, cmdline: append, memory, vcpus }), memory, vcpus };
}

/** One machine of the command: a computer, the TD in it, and the view of an observer on both. */
class CommandMachine implements Machine {
  readonly events: EventBus;
  readonly injectionTarget: InjectionTarget;
  readonly #system: System;
  readonly #td: TdMachine;
  readonly #view: VcpuView;
  #lastExit = "none";

  constructor(config: MachineConfig) {
    const { image, memory, vcpus } = guestOf(config);
    const { seed, emca, filter, profiles } = config;
    const imageBytes = image.regions.reduce((sum, { bytes }) => sum + bytes.length, 0);
    this.#system = powerOn({
      guestMemory: memory,
      imageBytes,
      vcpus,
      seed,
      emca,
      filter,
      moduleProfile: profiles.module,
      hostProfile: profiles.host,
      interpreter: builtInterpreter(),
    });
    const { platform } = this.#system;
    this.events = platform.events;
    this.#td = new TdMachine(this.#system, { image, vcpus, rtc: config.rtc });
    this.#view = new VcpuView(
      platform,
      this.#td.td.vcpus.map(({ tdVcpu }) => tdVcpu.tdvpr),
    );
    this.injectionTarget = new PlatformTarget(platform, coreOf(this.#system), {
      vcpus,
      translate: (gpa) => this.#translate(gpa),
    });
    platform.events.on("kvm-exit", ({ fields }) => {
      this.#lastExit = String(fields.name);
    });
  }

  get retired(): number {
    return this.#system.platform.core.retired;
  }

  get clockNs(): number {
    return this.#system.platform.clock.now;
  }

  get wantsInput(): boolean {
    return this.#td.wantsInput;
  }

  step(instructions: number): Step {
    return this.#td.step(instructions);
  }

  pause(): void {
    this.#td.pause();
  }

  feed(byte: number): void {
    this.#td.feed(byte);
  }

  skipIdle(): void {
    this.#system.platform.clock.skipToNext();
  }

  passIdle(ns: number): void {
    const { clock } = this.#system.platform;
    clock.advance(ns);
    clock.runDue();
  }

  onConsole(listener: (bytes: Uint8Array) => void): void {
    this.#td.onConsole(listener);
  }

  whereabouts(): Whereabouts {
    return { ...this.#view.position(0), lastExit: this.#lastExit };
  }

  teardown(): PageReport {
    const report = this.#td.teardown();
    return { ...report, poisoned: this.#system.kernel.pages.poisonedPages };
  }

  vcpus(): VcpuReport[] {
    return this.#td.td.vcpus.map((_, index) => ({
      index,
      state: this.#view.state(index),
      retired: this.retired,
      rip: this.#view.position(index).rip,
    }));
  }

  #translate(gpa: number): number | undefined {
    const slot = this.#td.td.slots.find((each) => gpa >= each.gpa && gpa < each.gpa + each.size);
    if (slot === undefined) return undefined;
    const page = slot.file.lookup(Math.floor((gpa - slot.gpa) / PAGE_SIZE));
    return page === null ? undefined : page + (gpa % PAGE_SIZE);
  }
}

function coreOf({ platform }: System): Core {
  if (platform.core instanceof Core) return platform.core;
  throw new TypeError("the machine runs on another core than this command's");
}
