import { VE_INFO } from "../../arch/vmx.js";
import type { CpuEnvironment } from "../system/environment.js";
import type { VmExit } from "../vm-exit.js";

/**
 * Turns a convertible EPT violation into #VE as the processor itself does: fills the information area and says true. With the area in
 * use, or during event delivery, it stays a VM exit.
 */
export function raiseVirtualizationException(environment: CpuEnvironment, exit: VmExit): boolean {
  const { controls, physical } = environment;
  if (!controls || exit.idtVectoringInfo) return false;
  const area = controls.veInfo;
  if (physical.getUint32(area + VE_INFO.VALID, true) !== 0) return false;
  physical.setUint32(area + VE_INFO.EXIT_REASON, exit.reason, true);
  physical.setUint32(area + VE_INFO.VALID, VE_INFO.VALID_VALUE, true);
  physical.setBigUint64(area + VE_INFO.QUALIFICATION, exit.qualification, true);
  physical.setBigUint64(area + VE_INFO.GLA, exit.guestLinearAddress, true);
  physical.setBigUint64(area + VE_INFO.GPA, BigInt(exit.guestPhysicalAddress), true);
  physical.setUint16(area + VE_INFO.EPTP_INDEX, 0, true);
  return true;
}
