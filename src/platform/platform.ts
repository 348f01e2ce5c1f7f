import { LOCAL, PAGE_META } from "../cpu/layout.js";
import { Boundaries } from "./boundaries.js";
import { Clock } from "./clock.js";
import {
  type KeyIdLayout,
  keyIdLayout,
  MAX_PHYSICAL_ADDRESS_BITS,
  type MemoryMap,
  memoryMap,
  type PlatformConfig,
  type ResolvedConfig,
  resolveConfig,
} from "./config.js";
import { EventBus } from "./event-bus.js";
import { HostMachineCheck, ProcessorShutdown } from "./faults.js";
import type { GuestCore } from "./guest-core.js";
import { LogicalProcessor } from "./logical-processor.js";
import { packageBanks } from "./mca/machine-check-unit.js";
import { PAGE_SIZE, type PoisonCause } from "./memory/lines.js";
import { type Accessor, PhysicalMemory } from "./memory/physical-memory.js";
import { consumePoison, correctedError, logPoison } from "./poison.js";
import { RandomStream } from "./random.js";
import { type SeamContext, type SeamModule, SeamShutdown } from "./seam.js";
import { SmiController } from "./smi-controller.js";

/** Makes the core over the machine's memory. */
export type CoreFactory = (memory: WebAssembly.Memory) => GuestCore;

/** What a watch is told: the TD is about to load or fetch from a private page. It may poison the line first. */
export type WatchCallback = (gpa: number, hpa: number, kind: "load" | "fetch") => void;

/** Values of LOCAL.WATCH_LOAD. */
const WATCH = { off: 0, load: 1, fetch: 2 } as const;

/** Hardware and what firmware has made of it before an operating system starts. */
export class Platform {
  readonly config: ResolvedConfig;
  readonly keyIds: KeyIdLayout;
  readonly memoryMap: MemoryMap;
  /** What CPUID and MSRs tell of the machine; the module's `SeamContext.platform`. */
  readonly topology: SeamContext["platform"];
  readonly memory: PhysicalMemory;
  readonly clock = new Clock();
  readonly boundaries = new Boundaries();
  readonly events: EventBus;
  readonly core: GuestCore;
  readonly lps: readonly LogicalProcessor[];
  readonly smi: SmiController;
  /** Random draws of the module. */
  readonly random: RandomStream;
  /** The logical processor that executes: machine checks of host and module belong to it. */
  current: LogicalProcessor;
  #module: SeamModule | null = null;
  #seamUnloaded = false;
  #watch: WatchCallback | null = null;

  constructor(config: PlatformConfig, makeCore: CoreFactory) {
    this.config = resolveConfig(config);
    this.keyIds = keyIdLayout(this.config);
    this.memoryMap = memoryMap(this.config);
    const { hostMemoryBytes, packages, logicalProcessors, sharedMemory, seed } = this.config;
    this.topology = {
      packages,
      logicalProcessors,
      ...this.keyIds,
      maxPhysicalAddressBits: MAX_PHYSICAL_ADDRESS_BITS,
      cmrs: this.memoryMap.cmrs,
    };
    this.memory = new PhysicalMemory(
      { size: hostMemoryBytes, firstPrivateKeyId: this.keyIds.firstPrivateKeyId, shared: sharedMemory },
      {
        ownerChanged: (hpa) => this.#ownerChanged(hpa),
        codeWritten: (hpa) => this.core.invalidateCode(hpa, PAGE_SIZE),
        poisonMade: (hpa, keyId, cause) => logPoison(this, this.current, hpa, keyId, cause),
        poisonConsumed: (hpa, keyId, cause, accessor) => this.#poisonConsumed(hpa, keyId, cause, accessor),
      },
    );
    const { smram } = this.memoryMap;
    this.memory.reserveSmram(smram.base, smram.size);
    this.random = new RandomStream(seed, "seam");
    this.core = makeCore(this.memory.wasm);
    this.#seedCore(seed);
    const { core, clock } = this;
    this.events = new EventBus({
      get insn() {
        return core.retired;
      },
      get clock() {
        return clock.now;
      },
    });
    this.smi = new SmiController(this);
    const uncore = Array.from({ length: packages }, packageBanks);
    const perPackage = logicalProcessors / packages;
    this.lps = Array.from({ length: logicalProcessors }, (_, id) => {
      const packageId = Math.floor(id / perPackage);
      return new LogicalProcessor(this, id, packageId, uncore[packageId] ?? []);
    });
    this.current = this.lps[0] as LogicalProcessor;
  }

  /** Puts the TDX module in place: from now on SEAMCALL reaches it. */
  loadModule(module: SeamModule): void {
    if (!this.#seamUnloaded) this.#module = module;
  }

  /** The module that SEAMCALL reaches; null: VMfailInvalid. */
  get seamModule(): SeamModule | null {
    return this.#module;
  }

  /** A processor shut down in SEAM: module and loader are gone until RESET. */
  unloadSeam(): void {
    this.#module = null;
    this.#seamUnloaded = true;
  }

  /** INVEPT of all contexts. */
  invept(): void {
    this.core.flushAll();
  }

  /**
   * Waits for the next data load (or fetch) of the TD from a private page. The callback is called once, before the access
   * completes; poison that it plants there is consumed by this access. Returns the way to take it back.
   */
  watchLoad(callback: WatchCallback, kind: "load" | "fetch" = "load"): () => void {
    this.#watch = callback;
    this.#setWatch(kind);
    return () => {
      if (this.#watch === callback) this.takeWatch();
    };
  }

  /** Ends the watch and gives its callback. */
  takeWatch(): WatchCallback | null {
    const callback = this.#watch;
    this.#watch = null;
    this.#setWatch("off");
    return callback;
  }

  #setWatch(kind: keyof typeof WATCH): void {
    this.core.state.set32(LOCAL.WATCH_LOAD, WATCH[kind]);
    // Accesses that hit the TLB would pass unseen.
    if (kind !== "off") this.core.flushAll();
  }

  /** An error in the memory of this line that ECC corrects: CSMI, or CMCI. */
  correctedError(hpa: number, lp: LogicalProcessor = this.current): void {
    correctedError(this, lp, hpa);
  }

  /** SMM entries of all processors. */
  get smmEntries(): number {
    return this.lps.reduce((sum, lp) => sum + lp.smiCount, 0);
  }
  /** Machine checks of all processors, whatever their shape. */
  get machineChecks(): number {
    return this.lps.reduce((sum, lp) => sum + lp.machineChecks, 0);
  }

  /** Another processor than the executing one may shut down without taking this one along. */
  contain(action: () => void): void {
    try {
      action();
    } catch (error) {
      if (!(error instanceof ProcessorShutdown)) throw error;
    }
  }

  #ownerChanged(hpa: number): void {
    this.core.pageChanged(hpa);
    const meta = this.memory.meta[hpa >>> 12] as number;
    if (meta & PAGE_META.CODE) this.core.invalidateCode(hpa, PAGE_SIZE);
  }

  #poisonConsumed(hpa: number, keyId: number, cause: PoisonCause, accessor: Accessor): never {
    const access = { hpa, keyId, cause, access: "load" } as const;
    if (accessor === "seam") throw new SeamShutdown(`poison consumed in SEAM root at 0x${hpa.toString(16)}`);
    consumePoison(this, this.current, access);
    throw new HostMachineCheck(hpa);
  }

  #seedCore(seed: bigint): void {
    const stream = new RandomStream(seed, "rdrand");
    this.core.state.set(LOCAL.RANDOM, stream.next64());
    this.core.state.set(LOCAL.RANDOM + 8, stream.next64());
  }
}
