import type { SeamMemory } from "../../platform/seam.js";
import { TDVPS, TDVPS_PAGES } from "./tdvps.js";
import { StructureView } from "./view.js";

/** Value of ASSOC_LPID when no LP has the vCPU. */
export const NO_LP = 0xffff_ffff;

/** One vCPU's control structure. The object is reused: `open` points it at another vCPU. */
export class Vcpu {
  readonly tdvps = new StructureView(TDVPS_PAGES);
  /** Host physical address of the TDVPR page: the vCPU's name. */
  pa = 0;

  open(memory: SeamMemory, hkid: number, pa: number): void {
    this.pa = pa;
    this.tdvps.memory = memory;
    this.tdvps.keyId = hkid;
    this.tdvps.pages[0] = pa;
  }

  /** Finds the other TDVPS pages. False: some are missing. */
  openPages(): boolean {
    if (this.tdvps.get(TDVPS.NUM_TDVPX) !== TDVPS_PAGES) return false;
    for (let i = 1; i < TDVPS_PAGES; i++) this.tdvps.pages[i] = this.tdvps.get(TDVPS.TDVPX_PA, i);
    return true;
  }
}
