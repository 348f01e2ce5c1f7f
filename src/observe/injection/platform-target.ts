import type { Core } from "../../cpu/core.js";
import type { EventBus } from "../../platform/event-bus.js";
import type { LogicalProcessor } from "../../platform/logical-processor.js";
import type { Platform } from "../../platform/platform.js";
import type { ConsumingAccess } from "./grammar.js";
import type { Cancel, InjectionTarget } from "./target.js";

/** What an injection needs to know of the TD. */
export interface TdView {
  /** Number of vCPUs. */
  readonly vcpus: number;
  /** Host physical address of private memory at a guest physical one; undefined if none is mapped. */
  translate(gpa: number): number | undefined;
}

/** A platform that runs one TD, as injections see it. vCPU n runs on logical processor n modulo their number. */
export class PlatformTarget implements InjectionTarget {
  readonly events: EventBus;

  constructor(
    private readonly platform: Platform,
    private readonly core: Pick<Core, "breakAt">,
    private readonly td: TdView,
  ) {
    this.events = platform.events;
  }

  get retired(): number {
    return this.platform.core.retired;
  }

  get logicalProcessors(): number {
    return this.platform.lps.length;
  }

  processorOf(vcpu: number | undefined): number {
    return vcpu === undefined ? this.platform.current.id : vcpu % this.logicalProcessors;
  }

  vcpuOn(lp: number): number | null {
    return lp < this.td.vcpus ? lp : null;
  }

  raise(lp: number, event: "smi" | "nmi"): void {
    this.#processor(lp).raise(event);
  }

  nmiPending(lp: number): boolean {
    return this.#processor(lp).latches.has("nmi");
  }

  correctedError(lp: number): void {
    // Which line it was makes no difference to anybody.
    this.platform.correctedError(0, this.#processor(lp));
  }

  at(retired: number, action: () => void): Cancel {
    return this.platform.boundaries.at(retired, action);
  }

  atRip(address: bigint, action: () => void): Cancel {
    this.core.breakAt(address, action);
    return () => this.core.breakAt(null, null);
  }

  watchAccess(kind: ConsumingAccess, action: (gpa: number, hpa: number) => void): Cancel {
    return this.platform.watchLoad((gpa, hpa) => action(gpa, hpa), kind);
  }

  translate(gpa: number): number | undefined {
    return this.td.translate(gpa);
  }

  poisonLine(hpa: number): void {
    this.platform.memory.poisonLine(hpa);
  }

  memoryAddress(mciAddr: bigint): number {
    return Number(mciAddr & ((1n << BigInt(this.platform.topology.keyIdShift)) - 1n));
  }

  #processor(lp: number): LogicalProcessor {
    const processor = this.platform.lps[lp];
    if (processor === undefined) throw new RangeError(`there is no logical processor ${lp}`);
    return processor;
  }
}
