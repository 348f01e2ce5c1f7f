import { APIC_BASE, MSR } from "../../arch/msr.js";
import {
  EXIT_FLAG,
  EXIT_REASON,
  INTERRUPTIBILITY,
  INTERRUPTION,
  SMI_QUALIFICATION_MSMI,
  VIRTUAL_APIC,
} from "../../arch/vmx.js";
import { REG } from "../../cpu/layout.js";
import type { VmExit } from "../../cpu/vm-exit.js";
import { TDVPS, TDVPS_PAGE } from "../structures/tdvps.js";
import { OUTCOME, type Outcome, type Run } from "./run.js";

/**
 * Single-step filter (smi-mca facts 1.8): an interruption that comes right after entry is held back for 1 to 32 guest
 * instructions, chosen by an LFSR, so that a host cannot step the guest. An MSMI is never held.
 */

/** Bytes that RIP may have moved, and TSC ticks that may have passed, for an exit to be suspicious. */
const RIP_DISTANCE = 32n;
const TSC_DISTANCE = 4096;
const MAX_STEPS = 32;
/** Task priority that holds off every virtual interrupt. */
const TPR_ALL = 0xf0;
/** Taps of a maximal 32-bit LFSR. */
const LFSR_TAPS = 0x8020_0003;

/** "pass": the exit is handled as usual. Otherwise what to do about it. */
export function filterExit(run: Run, exit: VmExit): Outcome | "pass" {
  if (run.steps > 0) return stepping(run, exit);
  if (!run.call.options.filter || !isInterruption(exit) || !isSuspicious(run)) return "pass";
  if ((run.call.context.readMsr(MSR.IA32_APIC_BASE) & APIC_BASE.ENABLE) === 0n) {
    return run.leave(exit, "td-dead", run.call.statuses.WRONG_APIC_MODE);
  }
  run.steps = drawSteps(run);
  run.heldNmi = false;
  run.heldInit = false;
  const tpr = taskPriority(run);
  run.savedTaskPriority = tpr;
  setTaskPriority(run, TPR_ALL);
  run.cpu.controls.monitorTrapFlag = true;
  hold(run, exit);
  return step(run);
}

/** Ends stepping, because the guest leaves for another reason or the steps are done. */
export function endStepping(run: Run): void {
  run.steps = 0;
  run.cpu.controls.monitorTrapFlag = false;
  if (taskPriority(run) === TPR_ALL) setTaskPriority(run, run.savedTaskPriority);
  const { context } = run.call;
  if (run.heldNmi) context.selfIpi("nmi", 0);
  if (run.heldInit) context.selfIpi("init", 0);
  run.heldNmi = false;
  run.heldInit = false;
}

function stepping(run: Run, exit: VmExit): Outcome | "pass" {
  const interruption = isInterruption(exit) || basicReason(exit) === EXIT_REASON.MONITOR_TRAP_FLAG;
  if (!interruption) {
    endStepping(run);
    return "pass";
  }
  if (--run.steps > 0) {
    hold(run, exit);
    return step(run);
  }
  hold(run, exit);
  endStepping(run);
  // What is pending comes at once; it passes, because the entry is long ago now.
  run.entryTsc = Number.NEGATIVE_INFINITY;
  return OUTCOME.STAY;
}

/** One more guest instruction: what is pending waits as after MOV SS. */
function step(run: Run): Outcome {
  const { state } = run.cpu;
  const blocking = state.get32(REG.INTERRUPTIBILITY);
  if (!(blocking & INTERRUPTIBILITY.STI)) state.set32(REG.INTERRUPTIBILITY, blocking | INTERRUPTIBILITY.MOV_SS);
  return OUTCOME.STAY;
}

/** Keeps an interruption that the VM exit has consumed: an SMI stays pending by itself. */
function hold(run: Run, exit: VmExit): void {
  switch (basicReason(exit)) {
    case EXIT_REASON.EXTERNAL_INTERRUPT:
      run.call.context.selfIpi("fixed", exit.interruptionInfo & INTERRUPTION.VECTOR_MASK);
      break;
    case EXIT_REASON.EXCEPTION_NMI:
      run.heldNmi = true;
      break;
    case EXIT_REASON.INIT_SIGNAL:
      run.heldInit = true;
      break;
  }
}

const basicReason = (exit: VmExit): number => exit.reason & EXIT_FLAG.BASIC_MASK;

function isInterruption(exit: VmExit): boolean {
  switch (basicReason(exit)) {
    case EXIT_REASON.EXTERNAL_INTERRUPT:
    case EXIT_REASON.INIT_SIGNAL:
      return true;
    case EXIT_REASON.OTHER_SMI:
      return (Number(exit.qualification & 0xffn) & SMI_QUALIFICATION_MSMI) === 0;
    case EXIT_REASON.EXCEPTION_NMI:
      return (exit.interruptionInfo & INTERRUPTION.TYPE_MASK) === INTERRUPTION.TYPE_NMI;
    default:
      return false;
  }
}

function isSuspicious(run: Run): boolean {
  const moved = BigInt.asIntN(64, run.cpu.state.rip - run.entryRip);
  if (moved > RIP_DISTANCE || moved < -RIP_DISTANCE) return false;
  return Number(run.call.context.tsc()) - run.entryTsc <= TSC_DISTANCE;
}

function drawSteps(run: Run): number {
  const { tdvps } = run.call.vcpu;
  let lfsr = tdvps.get(TDVPS.LFSR);
  for (let i = 0; i < 5; i++) lfsr = ((lfsr >>> 1) ^ (lfsr & 1 ? LFSR_TAPS : 0)) >>> 0;
  tdvps.set(TDVPS.LFSR, lfsr);
  return (lfsr % MAX_STEPS) + 1;
}

const taskPriorityAddress = (run: Run): number =>
  (run.call.vcpu.tdvps.pages[TDVPS_PAGE.VAPIC] as number) + VIRTUAL_APIC.TPR;
const taskPriority = (run: Run): number => run.call.memory.read32(taskPriorityAddress(run), run.call.td.hkid);
const setTaskPriority = (run: Run, value: number): void =>
  run.call.memory.write32(taskPriorityAddress(run), value, run.call.td.hkid);
