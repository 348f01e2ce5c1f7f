import { LEAF_VERSION_SHIFT, TDG } from "../../arch/tdx-abi.js";
import { TDX_STATUS } from "../../arch/tdx-status.js";
import type { VmExit } from "../../cpu/vm-exit.js";
import { GPR } from "../../platform/seam.js";
import { injectGp } from "../exits/inject.js";
import { OUTCOME, type Outcome, type Run } from "../exits/run.js";
import { LeafFailure } from "../failure.js";
import { TdcallRetry } from "./guest-memory.js";
import { memPageAccept } from "./mem-page-accept.js";
import { sysRd, sysRdall, vmRd, vmWr, vpRd, vpWr } from "./metadata.js";
import { mrReport, mrRtmrExtend, mrVerifyreport } from "./mr.js";
import { vpCpuidveSet, vpInfo, vpVeinfoGet, vpVmcall } from "./vp.js";

/**
 * A TDCALL leaf: null when RAX and RIP have been dealt with (`run` has a TD exit), else the status for RAX. It may throw
 * LeafFailure, or TdcallRetry.
 */
export type TdcallLeaf = (run: Run, exit: VmExit, version: number) => bigint | null;

interface TdcallRow {
  readonly leaf: number;
  readonly maxVersion: number;
  readonly handler: TdcallLeaf;
}
const row = (leaf: number, handler: TdcallLeaf, maxVersion = 0): TdcallRow => ({ leaf, maxVersion, handler });

/** tdx-module facts 3.2; the leaves of service TDs and of partitioning are absent. */
const LEAVES: readonly TdcallRow[] = [
  row(TDG.VP_VMCALL, vpVmcall),
  row(TDG.VP_INFO, vpInfo),
  row(TDG.MR_RTMR_EXTEND, mrRtmrExtend),
  row(TDG.VP_VEINFO_GET, vpVeinfoGet),
  row(TDG.MR_REPORT, mrReport),
  row(TDG.VP_CPUIDVE_SET, vpCpuidveSet),
  row(TDG.MEM_PAGE_ACCEPT, memPageAccept),
  row(TDG.VM_RD, vmRd, 1),
  row(TDG.VM_WR, vmWr),
  row(TDG.VP_RD, vpRd),
  row(TDG.VP_WR, vpWr),
  row(TDG.SYS_RD, sysRd),
  row(TDG.SYS_RDALL, sysRdall),
  row(TDG.MR_VERIFYREPORT, mrVerifyreport),
];
const TABLE: (TdcallRow | undefined)[] = [];
for (const entry of LEAVES) TABLE[entry.leaf] = entry;

/** VM exit 77: TDCALL. */
export function dispatchTdcall(run: Run, exit: VmExit): Outcome {
  const { state } = run.cpu;
  if (!state.longMode || state.cpl !== 0) return injectGp(run);
  const low = run.guest.low(GPR.RAX);
  const version = (low >>> LEAF_VERSION_SHIFT) & 0xff;
  const entry = TABLE[low & 0xffff];
  const legal = entry && run.guest.high(GPR.RAX) === 0 && low >>> 24 === 0 && version <= entry.maxVersion;
  if (!legal) {
    run.guest.set64(GPR.RAX, TDX_STATUS.OPERAND_INVALID | BigInt(GPR.RAX));
    return OUTCOME.ADVANCE;
  }
  try {
    const status = entry.handler(run, exit, version);
    if (status === null) return OUTCOME.LEAVE;
    run.guest.set64(GPR.RAX, status);
    return OUTCOME.ADVANCE;
  } catch (error) {
    if (error instanceof TdcallRetry) return error.outcome;
    if (!(error instanceof LeafFailure)) throw error;
    run.guest.set64(GPR.RAX, error.status);
    return OUTCOME.ADVANCE;
  }
}
