import { MISC_ENABLE, MSR, X2APIC_MSR } from "../../arch/msr.js";
import { MSR_BITMAP_RANGE_SIZE, MSR_BITMAP_RANGES, msrPolicy } from "../../arch/tdx-msr.js";
import { REG } from "../../cpu/layout.js";
import type { VmExit } from "../../cpu/vm-exit.js";
import { GPR } from "../../platform/seam.js";
import { resolvePolicy } from "../features.js";
import { TDCS } from "../structures/tdcs.js";
import { apicId, hasTopology } from "./cpuid.js";
import { injectGp, injectVe } from "./inject.js";
import { OUTCOME, type Outcome, type Run } from "./run.js";

const EFER_SCE = 1n;
/** Components that IA32_XSS may hold: PT, PASID, CET, HDC, UINTR, LBR, HWP. */
const XSS_COMPONENTS = 0x1fd00n;
const DEBUGCTL = {
  LEGAL: 0xffc7n,
  TR: 1n << 6n,
  BTS: 1n << 7n,
  /** Reads 0, is ignored on a write. */
  UNCORE_PMI: 1n << 13n,
} as const;

const inBitmap = (msr: number): boolean =>
  MSR_BITMAP_RANGES.some((base) => msr >= base && msr < base + MSR_BITMAP_RANGE_SIZE);

/** RDMSR in a TD that is not native (tdx-module facts 7.6). */
export function exitRdmsr(run: Run, exit: VmExit): Outcome {
  const msr = run.guest.low(GPR.RCX);
  const action = inBitmap(msr) ? resolvePolicy(run.call.td, msrPolicy(msr, false)) : "ve";
  if (action === "gp") return injectGp(run);
  const value = action === "module" ? readModuleMsr(run, msr) : null;
  if (value === null) return injectVe(run, exit);
  run.guest.setHalves(GPR.RAX, Number(value & 0xffff_ffffn), 0);
  run.guest.setHalves(GPR.RDX, Number((value >> 32n) & 0xffff_ffffn), 0);
  return OUTCOME.ADVANCE;
}

/** Value of an MSR that the module computes, null for #VE. */
function readModuleMsr(run: Run, msr: number): bigint | null {
  switch (msr) {
    case MSR.IA32_XAPIC_DISABLE_STATUS:
      return 1n;
    case MSR.IA32_ARCH_CAPABILITIES:
      return run.call.td.tdcs.get64(TDCS.IA32_ARCH_CAPABILITIES);
    case MSR.IA32_MISC_ENABLE: {
      const native = run.call.context.readMsr(MSR.IA32_MISC_ENABLE);
      return (native & ~MISC_ENABLE.PERFMON_AVAILABLE) | MISC_ENABLE.PEBS_UNAVAILABLE;
    }
    case MSR.IA32_PERF_CAPABILITIES:
      return 0n;
    case MSR.IA32_DEBUGCTL:
      return run.cpu.state.get(REG.DEBUGCTL) & ~DEBUGCTL.UNCORE_PMI;
    case X2APIC_MSR.ID:
      return hasTopology(run) ? BigInt(apicId(run)) : null;
    default:
      // The VMX capability registers of a processor that shows no VMX.
      return run.call.context.readMsr(msr);
  }
}

/** WRMSR in a TD that is not native. */
export function exitWrmsr(run: Run, exit: VmExit): Outcome {
  const msr = run.guest.low(GPR.RCX);
  const action = inBitmap(msr) ? resolvePolicy(run.call.td, msrPolicy(msr, true)) : "ve";
  if (action === "gp") return injectGp(run);
  if (action !== "module") return injectVe(run, exit);
  const value = (BigInt(run.guest.low(GPR.RDX)) << 32n) | BigInt(run.guest.low(GPR.RAX));
  switch (msr) {
    case MSR.IA32_EFER:
      return writeEfer(run, exit, value);
    case MSR.IA32_XSS:
      return writeXss(run, value);
    default:
      return writeDebugctl(run, exit, value);
  }
}

/** Only SCE may change. */
function writeEfer(run: Run, exit: VmExit, value: bigint): Outcome {
  const { state } = run.cpu;
  const old = state.get(REG.EFER);
  if (((value ^ old) & ~EFER_SCE) !== 0n) return injectVe(run, exit);
  state.set(REG.EFER, value);
  return OUTCOME.ADVANCE;
}

function writeXss(run: Run, value: bigint): Outcome {
  const xfam = BigInt(run.call.td.tdcs.get(TDCS.XFAM));
  if ((value & ~(xfam & XSS_COMPONENTS)) !== 0n) return injectGp(run);
  run.cpu.state.set(REG.XSS, value);
  return OUTCOME.ADVANCE;
}

function writeDebugctl(run: Run, exit: VmExit, value: bigint): Outcome {
  if ((value & ~DEBUGCTL.LEGAL) !== 0n) return injectGp(run);
  if ((value & (DEBUGCTL.TR | DEBUGCTL.BTS)) === DEBUGCTL.TR) return injectVe(run, exit);
  run.cpu.state.set(REG.DEBUGCTL, value & ~DEBUGCTL.UNCORE_PMI);
  return OUTCOME.ADVANCE;
}
