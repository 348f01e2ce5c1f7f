import { VCPU_STATE } from "../arch/tdx-abi.js";
import { REG, STATE_BASE } from "../cpu/layout.js";
import type { Platform } from "../platform/platform.js";
import { TDVPS, TDVPS_PAGE } from "../tdx-module/structures/tdvps.js";
import type { VcpuReport } from "./outcome.js";

/** Where a vCPU is. */
export interface Position {
  readonly rip: bigint;
  readonly cpl: number;
}

const STATE_NAMES = new Map<number, VcpuReport["state"]>([
  [VCPU_STATE.READY, "READY"],
  [VCPU_STATE.ACTIVE, "ACTIVE"],
  [VCPU_STATE.DISABLED, "DISABLED"],
]);

/**
 * What only an observer outside the architecture can see of vCPUs: where each one is, out of the processor while it runs, out of
 * its TDVPS otherwise. A TD that dies by a machine check leaves no state behind; then the place of the machine check counts.
 */
export class VcpuView {
  #struck: Position | undefined;

  /** @param tdvprs host physical address of each vCPU's TDVPR page, by index */
  constructor(
    private readonly platform: Platform,
    private readonly tdvprs: readonly number[],
  ) {
    platform.events.on("mca-logged", () => {
      if (this.#running) this.#struck = this.#live();
    });
  }

  position(index: number): Position {
    if (this.#running) return this.#live();
    if (this.#struck !== undefined && this.state(index) === "ACTIVE") return this.#struck;
    const { view } = this.platform.memory;
    const saved = this.#page(index, TDVPS_PAGE.STATE) - STATE_BASE;
    return { rip: view.getBigUint64(saved + REG.RIP, true), cpl: view.getUint32(saved + REG.CPL, true) };
  }

  state(index: number): VcpuReport["state"] {
    const { view } = this.platform.memory;
    return STATE_NAMES.get(view.getUint8((this.tdvprs[index] as number) + TDVPS.STATE.offset)) ?? "READY";
  }

  get #running(): boolean {
    return this.platform.current.mode === "seam-non-root";
  }

  #live(): Position {
    const { state } = this.platform.core;
    return { rip: state.rip, cpl: state.cpl };
  }

  #page(index: number, page: number): number {
    const { offset, size } = TDVPS.TDVPX_PA;
    return Number(this.platform.memory.view.getBigUint64((this.tdvprs[index] as number) + offset + page * size, true));
  }
}
