import { MSR } from "../../arch/msr.js";
import { ATTRIBUTES } from "../../arch/tdx-abi.js";
import { XFAM } from "../../arch/tdx-cpuid.js";
import { CR_ACCESS } from "../../arch/vmx.js";
import { REG } from "../../cpu/layout.js";
import type { VmExit } from "../../cpu/vm-exit.js";
import { GPR } from "../../platform/seam.js";
import { CR0, cr4Forbidden, writeCr0, writeCr4, writeLmsw } from "../control-registers.js";
import { TDCS } from "../structures/tdcs.js";
import { injectGp, injectVe } from "./inject.js";
import { OUTCOME, type Outcome, type Run } from "./run.js";

const EFER_LME = 1n << 8n;
const EFER_LMA = 1n << 10n;
const CR4_PAE = 1n << 5n;
const CR4_CET = 1n << 23n;

/** A write to CR0 or CR4 that touches a bit of the module's. */
export function exitCrAccess(run: Run, exit: VmExit): Outcome {
  const qualification = Number(exit.qualification & 0xffff_ffffn);
  const register = qualification & CR_ACCESS.REGISTER_MASK;
  const type = (qualification >>> CR_ACCESS.TYPE_SHIFT) & 3;
  const { state } = run.cpu;
  if (type === CR_ACCESS.LMSW) {
    state.set(REG.CR0, writeLmsw(BigInt(qualification >>> CR_ACCESS.LMSW_SOURCE_SHIFT), state.get(REG.CR0)));
    return OUTCOME.ADVANCE;
  }
  const value = run.guest.get64((qualification >>> CR_ACCESS.GPR_SHIFT) & 15);
  if (type === CR_ACCESS.MOV_TO_CR && register === 0) return movToCr0(run, exit, value);
  if (type === CR_ACCESS.MOV_TO_CR && register === 4) return movToCr4(run, exit, value);
  return run.call.td.debug ? run.leave(exit) : run.leave(exit, "td-dead", run.call.statuses.NON_RECOVERABLE_TD);
}

function movToCr0(run: Run, exit: VmExit, value: bigint): Outcome {
  const { state } = run.cpu;
  const old = state.get(REG.CR0);
  const cr4 = state.get(REG.CR4);
  const write = writeCr0(value, old, (cr4 & CR4_CET) !== 0n);
  if (write.kind === "gp") return injectGp(run);
  if (write.kind === "ve") return injectVe(run, exit);
  const paging = (write.value & CR0.PG) !== 0n;
  const efer = state.get(REG.EFER);
  if (paging && efer & EFER_LME && !(cr4 & CR4_PAE)) return injectGp(run);
  if (paging !== ((old & CR0.PG) !== 0n)) {
    state.set(REG.EFER, paging && efer & EFER_LME ? efer | EFER_LMA : efer & ~EFER_LMA);
  }
  state.set(REG.CR0, write.value);
  run.cpu.flushTlb();
  return OUTCOME.ADVANCE;
}

function movToCr4(run: Run, exit: VmExit, value: bigint): Outcome {
  const { state } = run.cpu;
  const { tdcs } = run.call.td;
  const xfam = tdcs.get(TDCS.XFAM);
  const forbidden = cr4Forbidden({
    pku: (xfam & XFAM.PKRU) !== 0,
    cet: (xfam & XFAM.CET) !== 0,
    uintr: (xfam & XFAM.UINTR) !== 0,
    pks: (tdcs.get64(TDCS.ATTRIBUTES) & ATTRIBUTES.PKS) !== 0n,
  });
  const fixed1 = run.call.context.readMsr(MSR.IA32_VMX_CR4_FIXED1);
  const write = writeCr4(value, fixed1, forbidden, (state.get(REG.CR0) & CR0.WP) !== 0n);
  return write.kind === "gp" ? injectGp(run) : injectVe(run, exit);
}

/** XSETBV: only XCR0, only components in XFAM, and those in legal combinations (SDM 1 13.3). */
export function exitXsetbv(run: Run, _exit: VmExit): Outcome {
  const { guest, cpu, call } = run;
  const value = guest.low(GPR.RAX);
  const avx512 = value & XFAM.AVX512;
  const amx = value & XFAM.AMX;
  const legal =
    cpu.state.cpl === 0 &&
    guest.low(GPR.RCX) === 0 &&
    guest.low(GPR.RDX) === 0 &&
    (value & ~call.td.tdcs.get(TDCS.XFAM)) === 0 &&
    (value & XFAM.X87) !== 0 &&
    ((value & XFAM.AVX) === 0 || (value & XFAM.SSE) !== 0) &&
    (avx512 === 0 || (avx512 === XFAM.AVX512 && (value & XFAM.AVX) !== 0)) &&
    (amx === 0 || amx === XFAM.AMX) &&
    (value & (XFAM.PT | XFAM.CET | XFAM.UINTR | XFAM.LBR)) === 0;
  if (!legal) return injectGp(run);
  cpu.state.set(REG.XCR0, BigInt(value));
  return OUTCOME.ADVANCE;
}
