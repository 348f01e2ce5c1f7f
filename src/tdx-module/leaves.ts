import { TDH, tdhName } from "../arch/tdx-abi.js";
import type { SeamcallHandler } from "./call.js";
import { memPageAdd, memPageAug, memPageRelocate, memPageRemove, memRd, memWr } from "./tdh/mem-page.js";
import { memRangeBlock, memRangeUnblock, memTrack } from "./tdh/mem-range.js";
import { memPageDemote, memPagePromote, memSeptAdd, memSeptRd, memSeptRemove } from "./tdh/mem-sept.js";
import { mngRd, mngWr, vpRd, vpWr } from "./tdh/metadata.js";
import { mngAddcx, mngCreate, mngKeyConfig, mngKeyFreeid, mngKeyReclaimid, mngVpflushdone } from "./tdh/mng.js";
import { mngInit } from "./tdh/mng-init.js";
import { mrExtend, mrFinalize } from "./tdh/mr.js";
import { phymemCacheWb, phymemPageRdmd, phymemPageReclaim, phymemPageWbinvd } from "./tdh/phymem.js";
import { sysConfig, sysKeyConfig, sysTdmrInit } from "./tdh/sys-config.js";
import { sysInfo, sysRd, sysRdall } from "./tdh/sys-info.js";
import { sysInit, sysLpInit, sysLpShutdown } from "./tdh/sys-init.js";
import { vpAddcx, vpCreate, vpFlush, vpInit } from "./tdh/vp.js";

/** One SEAMCALL leaf. */
export interface SeamcallRow {
  readonly leaf: number;
  /** Name as the specification writes it. */
  readonly name: string;
  readonly maxVersion: number;
  /** May run before the module is ready. */
  readonly early: boolean;
  /** null: TDH.VP.ENTER, which the module runs itself. */
  readonly handler: SeamcallHandler | null;
}

const row = (leaf: number, handler: SeamcallHandler | null, maxVersion = 0, early = false): SeamcallRow => ({
  leaf,
  name: tdhName(leaf) ?? "",
  maxVersion,
  early,
  handler,
});
const early = (leaf: number, handler: SeamcallHandler): SeamcallRow => row(leaf, handler, 0, true);

/** tdx-module facts 2.3 to 2.7. Migration, service TDs, partitioning and module update are absent. */
export const SEAMCALL_LEAVES: readonly SeamcallRow[] = [
  row(TDH.VP_ENTER, null),
  row(TDH.MNG_ADDCX, mngAddcx),
  row(TDH.MEM_PAGE_ADD, memPageAdd),
  row(TDH.MEM_SEPT_ADD, memSeptAdd, 1),
  row(TDH.VP_ADDCX, vpAddcx),
  row(TDH.MEM_PAGE_RELOCATE, memPageRelocate),
  row(TDH.MEM_PAGE_AUG, memPageAug),
  row(TDH.MEM_RANGE_BLOCK, memRangeBlock),
  row(TDH.MNG_KEY_CONFIG, mngKeyConfig),
  row(TDH.MNG_CREATE, mngCreate),
  row(TDH.VP_CREATE, vpCreate),
  row(TDH.MNG_RD, mngRd, 1),
  row(TDH.MEM_RD, memRd),
  row(TDH.MNG_WR, mngWr),
  row(TDH.MEM_WR, memWr),
  row(TDH.MEM_PAGE_DEMOTE, memPageDemote),
  row(TDH.MR_EXTEND, mrExtend),
  row(TDH.MR_FINALIZE, mrFinalize),
  row(TDH.VP_FLUSH, vpFlush),
  row(TDH.MNG_VPFLUSHDONE, mngVpflushdone),
  row(TDH.MNG_KEY_FREEID, mngKeyFreeid),
  row(TDH.MNG_INIT, mngInit),
  row(TDH.VP_INIT, vpInit, 1),
  row(TDH.MEM_PAGE_PROMOTE, memPagePromote, 1),
  row(TDH.PHYMEM_PAGE_RDMD, phymemPageRdmd),
  row(TDH.MEM_SEPT_RD, memSeptRd),
  row(TDH.VP_RD, vpRd, 1),
  row(TDH.MNG_KEY_RECLAIMID, mngKeyReclaimid),
  row(TDH.PHYMEM_PAGE_RECLAIM, phymemPageReclaim),
  row(TDH.MEM_PAGE_REMOVE, memPageRemove),
  row(TDH.MEM_SEPT_REMOVE, memSeptRemove, 1),
  early(TDH.SYS_KEY_CONFIG, sysKeyConfig),
  early(TDH.SYS_INFO, sysInfo),
  early(TDH.SYS_INIT, sysInit),
  early(TDH.SYS_RD, sysRd),
  early(TDH.SYS_LP_INIT, sysLpInit),
  row(TDH.SYS_TDMR_INIT, sysTdmrInit),
  early(TDH.SYS_RDALL, sysRdall),
  row(TDH.MEM_TRACK, memTrack),
  row(TDH.MEM_RANGE_UNBLOCK, memRangeUnblock),
  row(TDH.PHYMEM_CACHE_WB, phymemCacheWb),
  row(TDH.PHYMEM_PAGE_WBINVD, phymemPageWbinvd),
  row(TDH.VP_WR, vpWr),
  early(TDH.SYS_LP_SHUTDOWN, sysLpShutdown),
  early(TDH.SYS_CONFIG, sysConfig),
];
