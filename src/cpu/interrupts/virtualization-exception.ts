import type { CpuEnvironment } from "../system/environment.js";
import type { VmExit } from "../vm-exit.js";

/** The #VE information area (SDM 3C table 26-1). */
const AREA = { REASON: 0, VALID: 4, QUALIFICATION: 8, LINEAR: 16, PHYSICAL: 24, EPTP_INDEX: 32 } as const;

/**
 * Turns a convertible EPT violation into #VE as the processor itself does: fills the information area and says true. With the area in
 * use, or during event delivery, it stays a VM exit.
 */
export function raiseVirtualizationException(environment: CpuEnvironment, exit: VmExit): boolean {
  const { controls, physical } = environment;
  if (!controls || exit.idtVectoringInfo) return false;
  const area = controls.veInfo;
  if (physical.getUint32(area + AREA.VALID, true) !== 0) return false;
  physical.setUint32(area + AREA.REASON, exit.reason, true);
  physical.setUint32(area + AREA.VALID, 0xffff_ffff, true);
  physical.setBigUint64(area + AREA.QUALIFICATION, exit.qualification, true);
  physical.setBigUint64(area + AREA.LINEAR, exit.guestLinearAddress, true);
  physical.setBigUint64(area + AREA.PHYSICAL, BigInt(exit.guestPhysicalAddress), true);
  physical.setUint16(area + AREA.EPTP_INDEX, 0, true);
  return true;
}
