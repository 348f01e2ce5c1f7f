import type { LogicalProcessor } from "./logical-processor.js";
import type { EventKind, Mode } from "./modes.js";
import type { Platform } from "./platform.js";

/** A machine-check bank that holds an error. */
export interface BankView {
  readonly bank: number;
  readonly status: bigint;
  readonly addr: bigint;
  readonly misc: bigint;
}

/** A logical processor from outside. */
export interface ProcessorView {
  readonly id: number;
  readonly package: number;
  readonly mode: Mode;
  readonly pending: readonly EventKind[];
  readonly msmi: boolean;
  readonly interruptFlag: boolean;
  readonly smbase: number;
  readonly smiCount: number;
  readonly smiLatched: number;
  readonly smiMerged: number;
  readonly mcgStatus: bigint;
  readonly banks: readonly BankView[];
}

/** The platform from outside: plain values, for people and for tools. */
export interface PlatformView {
  readonly clockNs: number;
  readonly retired: number;
  readonly nextTimerNs: number;
  readonly seamLoaded: boolean;
  readonly processors: readonly ProcessorView[];
  readonly poisonedLines: readonly number[];
}

function inspectProcessor(lp: LogicalProcessor): ProcessorView {
  const unit = lp.machineCheckUnit;
  const banks = unit.banks.flatMap(({ valid, status, addr, misc }, bank) =>
    valid ? [{ bank, status, addr, misc }] : [],
  );
  return {
    id: lp.id,
    package: lp.package,
    mode: lp.mode,
    pending: lp.latches.pending(),
    msmi: lp.latches.msmi,
    interruptFlag: lp.hostInterruptFlag,
    smbase: lp.smbase,
    smiCount: lp.smiCount,
    smiLatched: lp.smiLatched,
    smiMerged: lp.latches.merged,
    mcgStatus: unit.status,
    banks,
  };
}

/** What the platform is doing right now. Changes nothing. */
export function inspectPlatform(platform: Platform): PlatformView {
  return {
    clockNs: platform.clock.now,
    retired: platform.core.retired,
    nextTimerNs: platform.clock.nextDeadline(),
    seamLoaded: platform.seamModule !== null,
    processors: platform.lps.map(inspectProcessor),
    poisonedLines: platform.memory.poisonedLines(),
  };
}
