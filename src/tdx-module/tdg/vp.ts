import { TDX_STATUS } from "../../arch/tdx-status.js";
import type { VmExit } from "../../cpu/vm-exit.js";
import { GPR } from "../../platform/seam.js";
import { advance } from "../exits/advance.js";
import type { Run } from "../exits/run.js";
import { fail } from "../failure.js";
import { TDCS } from "../structures/tdcs.js";
import { TDVPS, VE } from "../structures/tdvps.js";

/** Registers that TDG.VP.VMCALL cannot expose. */
const NEVER_EXPOSED = (1 << GPR.RAX) | (1 << GPR.RCX) | (1 << GPR.RSP);

/** TDG.VP.VMCALL: leaves to the host with the registers that the mask in RCX exposes. RIP is past the TDCALL already. */
export function vpVmcall(run: Run, exit: VmExit): bigint | null {
  const mask = run.guest.low(GPR.RCX);
  const forbidden = NEVER_EXPOSED | (run.call.td.keepsRbp ? 1 << GPR.RBP : 0);
  if (run.guest.high(GPR.RCX) !== 0 || mask & forbidden) fail(TDX_STATUS.OPERAND_INVALID, BigInt(GPR.RCX));
  run.call.vcpu.tdvps.set(TDVPS.VMCALL_MASK, mask);
  advance(run, exit.instructionLength);
  run.leave(exit);
  return null;
}

/** TDG.VP.INFO: what a TD must know of itself. */
export function vpInfo(run: Run): bigint {
  const { guest, call } = run;
  const { tdcs } = call.td;
  guest.setNumber(GPR.RCX, call.td.gpaw);
  guest.set64(GPR.RDX, tdcs.get64(TDCS.ATTRIBUTES));
  guest.setHalves(GPR.R8, tdcs.get(TDCS.NUM_VCPUS), tdcs.get(TDCS.MAX_VCPUS));
  guest.setNumber(GPR.R9, call.vcpu.tdvps.get(TDVPS.VCPU_INDEX));
  // Bit 0: TDG.SYS.RD exists.
  guest.setNumber(GPR.R10, 1);
  guest.clear(GPR.R11);
  return TDX_STATUS.SUCCESS;
}

/** TDG.VP.VEINFO.GET: why the last #VE came; makes room for the next. */
export function vpVeinfoGet(run: Run): bigint {
  const { guest } = run;
  const { tdvps } = run.call.vcpu;
  if (tdvps.get(VE.VALID) === 0) {
    for (const register of [GPR.RCX, GPR.RDX, GPR.R8, GPR.R9, GPR.R10]) guest.clear(register);
    fail(TDX_STATUS.NO_VALID_VE_INFO);
  }
  guest.setNumber(GPR.RCX, tdvps.get(VE.EXIT_REASON));
  guest.set64(GPR.RDX, tdvps.get64(VE.QUALIFICATION));
  guest.set64(GPR.R8, tdvps.get64(VE.GLA));
  guest.set64(GPR.R9, tdvps.get64(VE.GPA));
  guest.setHalves(GPR.R10, tdvps.get(VE.INSTRUCTION_LENGTH), tdvps.get(VE.INSTRUCTION_INFO));
  tdvps.set(VE.VALID, 0);
  // An NMI of the host that waited for this can come now.
  if (tdvps.get(TDVPS.PEND_NMI) !== 0) run.cpu.controls.nmiWindowExiting = true;
  return TDX_STATUS.SUCCESS;
}

/** TDG.VP.CPUIDVE.SET: makes every CPUID at a privilege level cause #VE. */
export function vpCpuidveSet(run: Run): bigint {
  const flags = run.guest.number(GPR.RCX);
  if (flags > 3) fail(TDX_STATUS.OPERAND_INVALID, BigInt(GPR.RCX));
  const { tdvps } = run.call.vcpu;
  tdvps.set(TDVPS.CPUID_SUPERVISOR_VE, flags & 1);
  tdvps.set(TDVPS.CPUID_USER_VE, flags >> 1);
  return TDX_STATUS.SUCCESS;
}
