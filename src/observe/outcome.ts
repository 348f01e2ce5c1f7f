import type { HostProfile } from "../host/mm/host-profile.js";
import type { ModuleProfile } from "../tdx-module/index.js";
import type { EndOutcome, FinalExit } from "../vmm/end.js";
import type { InjectionRecord } from "./injection/scheduler.js";

/** How a run ended. */
export type OutcomeName = EndOutcome | "limit" | "stopped";

/** A trouble in words, with a code for scripts and what to do about it. */
export interface Trouble {
  readonly code: string;
  readonly message: string;
  readonly hint: string;
}

/** The TD's 4 KiB guest pages at teardown; addresses are host physical. */
export interface PageReport {
  readonly private: number;
  readonly returned: number;
  readonly withheld: readonly number[];
  readonly leaked: number;
  readonly poisoned: readonly number[];
}

export interface VcpuReport {
  readonly index: number;
  readonly state: "READY" | "ACTIVE" | "DISABLED";
  readonly retired: number;
  readonly rip: bigint;
}

/** What the run was asked to be. */
export interface RunConfig {
  /** Bytes. */
  readonly memory: number;
  readonly vcpus: number;
  readonly append: string;
  readonly seed: bigint;
  readonly profiles: { readonly module: ModuleProfile; readonly host: HostProfile };
  readonly emca: boolean;
  readonly filter: boolean;
}

export interface GuestReport {
  readonly name: string | null;
  /** File name, without its folder. */
  readonly kernel: string;
  readonly sha256: string;
}

/** All that the outcome document is made from. */
export interface Outcome {
  readonly outcome: OutcomeName;
  readonly error: Trouble | null;
  readonly guest: GuestReport | null;
  readonly config: RunConfig;
  readonly kvmExit: FinalExit | null;
  readonly signal: string | null;
  readonly instructions: number;
  /** Machine clock in ns. */
  readonly clock: number;
  /** Wall time from the first guest instruction. */
  readonly seconds: number;
  /** Wall time from the start of the process to the first guest instruction. */
  readonly startupSeconds: number;
  readonly exits: Readonly<Record<string, number>>;
  readonly smmEntries: number;
  readonly machineChecks: number;
  readonly pages: PageReport;
  readonly injections: readonly InjectionRecord[];
  readonly vcpus: readonly VcpuReport[];
}

type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** The outcome as a JSON document, schema 1: counts are numbers; addresses, registers and statuses are hex strings. */
export function outcomeDocument(run: Outcome): { readonly [key: string]: Json } {
  const { config, kvmExit, pages } = run;
  return {
    schema: 1,
    outcome: run.outcome,
    error: run.error && { code: run.error.code, message: run.error.message, hint: run.error.hint },
    guest: run.guest && { name: run.guest.name, kernel: run.guest.kernel, sha256: run.guest.sha256 },
    config: {
      memory: config.memory,
      vcpus: config.vcpus,
      append: config.append,
      seed: decimal(config.seed),
      profiles: { module: config.profiles.module, host: config.profiles.host },
      emca: config.emca,
      filter: config.filter,
    },
    kvmExit: kvmExit && {
      name: kvmExit.name,
      reason: kvmExit.reason,
      ...(kvmExit.suberror === undefined ? {} : { suberror: kvmExit.suberror }),
      ...(kvmExit.data === undefined ? {} : { data: kvmExit.data.map(hex) }),
    },
    signal: run.signal,
    instructions: run.instructions,
    clock: run.clock,
    seconds: rounded(run.seconds, 3),
    startupSeconds: rounded(run.startupSeconds, 3),
    mips: run.seconds > 0 ? rounded(run.instructions / run.seconds / 1e6, 1) : 0,
    exits: { ...run.exits },
    smm: { entries: run.smmEntries },
    machineChecks: run.machineChecks,
    pages: {
      private: pages.private,
      returned: pages.returned,
      withheld: pages.withheld.map(hex),
      leaked: pages.leaked,
      poisoned: pages.poisoned.map(hex),
    },
    injections: run.injections.map(({ spec, fired, taken }) => ({
      event: spec.event,
      when: spec.whenText,
      fired,
      taken: taken.map(({ retired, vcpu, gpa, hpa }) => ({
        retired,
        vcpu,
        gpa: gpa === null ? null : hex(gpa),
        hpa: hpa === null ? null : hex(hpa),
      })),
    })),
    vcpus: run.vcpus.map(({ index, state, retired, rip }) => ({ index, state, retired, rip: hex(rip) })),
  };
}

/** A hexadecimal number as the kernel prints it. */
export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

/** A number where it is exact, else its decimal digits. */
function decimal(value: bigint): number | string {
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value.toString();
}

function rounded(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
