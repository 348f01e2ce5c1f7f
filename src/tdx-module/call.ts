import type { GuestControls } from "../cpu/guest-cpu.js";
import type { SeamContext, SeamMemory } from "../platform/seam.js";
import { Pamt } from "./memory/pamt.js";
import { SeptWalk } from "./memory/sept.js";
import type { ModuleProfile, ProfileStatuses } from "./profile.js";
import { PROFILE_STATUSES } from "./profile.js";
import { RegisterFile } from "./registers.js";
import type { ModuleState } from "./state.js";
import { Td } from "./structures/td.js";
import { Vcpu } from "./structures/vcpu.js";

/** What a machine chooses of the module. */
export interface ModuleOptions {
  readonly moduleProfile: ModuleProfile;
  /** The anti-single-step filter (tdx-module facts 4.5). */
  readonly filter: boolean;
}

/** What all SEAMCALLs of a module share. */
export interface ModuleShared {
  /** Replaced as a whole when a snapshot is restored. */
  state: ModuleState;
  /**
   * vCPU whose controls and translations each core holds, by the core's controls (logical processors may share a core);
   * forgotten when they may be stale.
   */
  loaded: WeakMap<GuestControls, { readonly vcpu: number }>;
}

/**
 * One SEAMCALL under way, with all that its leaf needs. Objects are used again and again; there are several only because
 * other processors may call the module while a guest runs.
 */
export class Call {
  /** Registers at the SEAMCALL, and those that SEAMRET gives back. A leaf reads the former and writes the latter. */
  readonly in = new RegisterFile();
  readonly out = new RegisterFile();
  readonly pamt: Pamt;
  readonly td = new Td();
  readonly vcpu = new Vcpu();
  readonly walk = new SeptWalk();
  readonly statuses: ProfileStatuses;
  context!: SeamContext;
  memory!: SeamMemory;
  version = 0;
  /** Operand of the memory leaves: guest physical address and level. */
  gpa = 0;
  level = 0;

  constructor(
    readonly options: ModuleOptions,
    readonly shared: ModuleShared,
  ) {
    this.pamt = new Pamt(() => this.state);
    this.statuses = PROFILE_STATUSES[options.moduleProfile];
  }

  get state(): ModuleState {
    return this.shared.state;
  }

  begin(context: SeamContext): void {
    this.context = context;
    this.memory = context.memory;
    this.pamt.memory = context.memory;
  }
}

/** Carries out one SEAMCALL leaf: returns its completion status, or throws LeafFailure. */
export type SeamcallHandler = (call: Call) => bigint;
