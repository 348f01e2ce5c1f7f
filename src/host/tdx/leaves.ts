import { TDH } from "../../arch/tdx-abi.js";
import { GPR } from "../../platform/seam.js";
import type { Seamcaller } from "./seamcaller.js";

/** What a SEPT leaf tells beside its status (RCX, RDX). */
export interface SeptDetails {
  readonly entry: bigint;
  readonly levelState: bigint;
}

/**
 * The SEAMCALL leaves that Linux uses, by its names for them (tdh_mng_create …): typed inputs in, status out, 0n for success
 * (kvm-tdx-host 0.2). Addresses are HPAs and GPAs in bytes. Handing a page to the module needs no CLFLUSH here: memory is coherent.
 */
export class TdxLeaves {
  constructor(private readonly seam: Seamcaller) {}

  /** RCX and RDX after a failed leaf that walked the Secure EPT. */
  get septDetails(): SeptDetails {
    return { entry: this.seam.getWide(GPR.RCX), levelState: this.seam.getWide(GPR.RDX) };
  }
  /** R8 after a read of metadata. */
  get value(): bigint {
    return this.seam.getWide(GPR.R8);
  }
  /** RCX and RDX as numbers, where a leaf gives addresses. */
  get rcx(): number {
    return this.seam.get(GPR.RCX);
  }
  get rdx(): number {
    return this.seam.get(GPR.RDX);
  }
  get rcxWide(): bigint {
    return this.seam.getWide(GPR.RCX);
  }

  // The module
  sysInit(): bigint {
    return this.seam.begin().call(TDH.SYS_INIT);
  }
  sysLpInit(): bigint {
    return this.seam.begin().call(TDH.SYS_LP_INIT);
  }
  /** The value is in `value`. */
  sysRd(field: bigint): bigint {
    return this.seam.begin().setWide(GPR.RDX, field).call(TDH.SYS_RD);
  }
  sysConfig(tdmrArray: number, count: number, globalKeyId: number): bigint {
    return this.seam.begin().set(GPR.RCX, tdmrArray).set(GPR.RDX, count).set(GPR.R8, globalKeyId).call(TDH.SYS_CONFIG);
  }
  sysKeyConfig(): bigint {
    return this.seam.begin().call(TDH.SYS_KEY_CONFIG);
  }
  /** `rdx` is then the next address to be initialised. */
  sysTdmrInit(base: number): bigint {
    return this.seam.begin().set(GPR.RCX, base).call(TDH.SYS_TDMR_INIT);
  }

  // A TD
  mngCreate(tdr: number, hkid: number): bigint {
    return this.#two(TDH.MNG_CREATE, tdr, hkid);
  }
  mngKeyConfig(tdr: number): bigint {
    return this.#one(TDH.MNG_KEY_CONFIG, tdr);
  }
  mngAddcx(tdcs: number, tdr: number): bigint {
    return this.#two(TDH.MNG_ADDCX, tdcs, tdr);
  }
  mngInit(tdr: number, tdParams: number): bigint {
    return this.#two(TDH.MNG_INIT, tdr, tdParams);
  }
  mngRd(tdr: number, field: bigint): bigint {
    return this.seam.begin().set(GPR.RCX, tdr).setWide(GPR.RDX, field).call(TDH.MNG_RD);
  }
  mngVpflushdone(tdr: number): bigint {
    return this.#one(TDH.MNG_VPFLUSHDONE, tdr);
  }
  mngKeyFreeid(tdr: number): bigint {
    return this.#one(TDH.MNG_KEY_FREEID, tdr);
  }
  mrExtend(gpa: number, tdr: number): bigint {
    return this.#two(TDH.MR_EXTEND, gpa, tdr);
  }
  mrFinalize(tdr: number): bigint {
    return this.#one(TDH.MR_FINALIZE, tdr);
  }

  // A vCPU
  vpCreate(tdvpr: number, tdr: number): bigint {
    return this.#two(TDH.VP_CREATE, tdvpr, tdr);
  }
  vpAddcx(tdcx: number, tdvpr: number): bigint {
    return this.#two(TDH.VP_ADDCX, tdcx, tdvpr);
  }
  vpInit(tdvpr: number, initialRcx: bigint, x2apicId: number): bigint {
    return this.seam
      .begin()
      .set(GPR.RCX, tdvpr)
      .setWide(GPR.RDX, initialRcx)
      .set(GPR.R8, x2apicId)
      .call(TDH.VP_INIT, 1);
  }
  vpFlush(tdvpr: number): bigint {
    return this.#one(TDH.VP_FLUSH, tdvpr);
  }
  vpRd(tdvpr: number, field: bigint): bigint {
    return this.seam.begin().set(GPR.RCX, tdvpr).setWide(GPR.RDX, field).call(TDH.VP_RD);
  }
  vpWr(tdvpr: number, field: bigint, value: bigint, mask: bigint): bigint {
    return this.seam
      .begin()
      .set(GPR.RCX, tdvpr)
      .setWide(GPR.RDX, field)
      .setWide(GPR.R8, value)
      .setWide(GPR.R9, mask)
      .call(TDH.VP_WR);
  }

  // Private memory; levels are SEPT_LEVEL's
  memSeptAdd(tdr: number, gpa: number, level: number, page: number): bigint {
    return this.#three(TDH.MEM_SEPT_ADD, gpa + level, tdr, page);
  }
  memPageAdd(tdr: number, gpa: number, page: number, source: number): bigint {
    return this.seam
      .begin()
      .set(GPR.RCX, gpa)
      .set(GPR.RDX, tdr)
      .set(GPR.R8, page)
      .set(GPR.R9, source)
      .call(TDH.MEM_PAGE_ADD);
  }
  memPageAug(tdr: number, gpa: number, level: number, page: number): bigint {
    return this.#three(TDH.MEM_PAGE_AUG, gpa + level, tdr, page);
  }
  memRangeBlock(tdr: number, gpa: number, level: number): bigint {
    return this.#two(TDH.MEM_RANGE_BLOCK, gpa + level, tdr);
  }
  memTrack(tdr: number): bigint {
    return this.#one(TDH.MEM_TRACK, tdr);
  }
  memPageRemove(tdr: number, gpa: number, level: number): bigint {
    return this.#two(TDH.MEM_PAGE_REMOVE, gpa + level, tdr);
  }

  // Physical memory
  phymemPageReclaim(page: number): bigint {
    return this.#one(TDH.PHYMEM_PAGE_RECLAIM, page);
  }
  phymemCacheWb(resume: boolean): bigint {
    return this.#one(TDH.PHYMEM_CACHE_WB, resume ? 1 : 0);
  }
  /** `page` with the KeyID in its upper bits. */
  phymemPageWbinvd(page: number): bigint {
    return this.#one(TDH.PHYMEM_PAGE_WBINVD, page);
  }
  /** The page's type is then in `rcxWide`. */
  phymemPageRdmd(page: number): bigint {
    return this.#one(TDH.PHYMEM_PAGE_RDMD, page);
  }

  #one(leaf: number, rcx: number): bigint {
    return this.seam.begin().set(GPR.RCX, rcx).call(leaf);
  }
  #two(leaf: number, rcx: number, rdx: number): bigint {
    return this.seam.begin().set(GPR.RCX, rcx).set(GPR.RDX, rdx).call(leaf);
  }
  #three(leaf: number, rcx: number, rdx: number, r8: number): bigint {
    return this.seam.begin().set(GPR.RCX, rcx).set(GPR.RDX, rdx).set(GPR.R8, r8).call(leaf);
  }
}
