import { LINUX_TDX_STATUS } from "../../arch/linux-tdx-errno.js";
import { PAGE_SIZE } from "../../arch/page.js";
import { TDX_FEATURES0 } from "../../arch/tdx-abi.js";
import type { Hardware, HardwareLp } from "../hardware.js";
import type { PageAllocator } from "../mm/page-allocator.js";
import { TdxBringUpError } from "./bring-up-error.js";
import { HkidPool } from "./hkid-pool.js";
import { TdxLeaves } from "./leaves.js";
import { Seamcaller } from "./seamcaller.js";
import { readSysInfo, type TdxSysInfo } from "./sys-info.js";
import { constructTdmrs, encodeTdmrInfo, type Range, type Tdmr } from "./tdmrs.js";

/** Beside the global KeyID the host needs at least one for a TD. */
const MIN_PRIVATE_KEYIDS = 2;
const TDMR_INFO_STRIDE = 512;

/** TDX as the host kernel has it after bring-up (arch/x86/virt/vmx/tdx/tdx.c). */
export class TdxHost {
  readonly leaves: TdxLeaves;
  readonly info: TdxSysInfo;
  readonly tdmrs: readonly Tdmr[];
  /** KeyID of the module's own memory: the first private one. */
  readonly globalKeyId: number;
  readonly hkids: HkidPool;
  readonly #seam: Seamcaller;
  readonly #keyIdUnit: number;

  /**
   * Brings TDX up in the order of Linux: SYS.INIT, LP.INIT on every processor, metadata, SYS.CONFIG, KEY.CONFIG on one
   * processor of each package, TDMR.INIT until every region is done. Throws TdxBringUpError.
   */
  constructor(
    private readonly hardware: Hardware,
    pages: PageAllocator,
    memory: readonly Range[],
  ) {
    const { lps, topology } = hardware;
    const [boot] = lps;
    if (boot === undefined) throw new TdxBringUpError("no logical processor", null);
    const keyIds = topology.keyIdCount - topology.firstPrivateKeyId;
    if (keyIds < MIN_PRIVATE_KEYIDS) throw new TdxBringUpError(`too few private KeyIDs: ${keyIds}`, null);
    this.#keyIdUnit = 2 ** topology.keyIdShift;
    this.#seam = new Seamcaller(boot);
    this.leaves = new TdxLeaves(this.#seam);
    this.globalKeyId = topology.firstPrivateKeyId;
    this.hkids = new HkidPool(this.globalKeyId + 1, topology.keyIdCount - 1);

    must("TDH.SYS.INIT", this.leaves.sysInit());
    for (const lp of lps)
      must(
        "TDH.SYS.LP.INIT",
        this.#on(lp, () => this.leaves.sysLpInit()),
      );
    this.info = readSysInfo(this.leaves);
    if ((this.info.features0 & TDX_FEATURES0.NO_RBP_MOD) === 0n) {
      throw new TdxBringUpError("the module cannot preserve RBP (TDX_FEATURES0.NO_RBP_MOD is clear)", null);
    }
    const tdmrs = constructTdmrs(memory, this.info, (count) => pages.allocContiguous(count));
    if (tdmrs === null) throw new TdxBringUpError("no memory for the PAMTs", null);
    this.tdmrs = tdmrs;
    this.#configure(pages);
    for (const lp of this.onePerPackage())
      must(
        "TDH.SYS.KEY.CONFIG",
        this.#on(lp, () => this.leaves.sysKeyConfig()),
      );
    for (const tdmr of tdmrs) this.#initTdmr(tdmr);
  }

  /** The processor on which host code runs now. */
  get lp(): HardwareLp {
    return this.#seam.lp;
  }
  set lp(lp: HardwareLp) {
    this.#seam.lp = lp;
  }

  /** The first processor of every package. */
  onePerPackage(): HardwareLp[] {
    const first = new Map<number, HardwareLp>();
    for (const lp of this.hardware.lps) if (!first.has(lp.package)) first.set(lp.package, lp);
    return [...first.values()];
  }

  /** Runs host code on another processor (smp_call_function_single). */
  on<T>(lp: HardwareLp, action: () => T): T {
    return this.#on(lp, action);
  }

  /** A physical address with a KeyID in its upper bits. */
  withKeyId(hpa: number, keyId: number): number {
    return hpa + keyId * this.#keyIdUnit;
  }

  /** Takes the KeyID out of an address. */
  withoutKeyId(address: number): number {
    return address % this.#keyIdUnit;
  }

  #on<T>(lp: HardwareLp, action: () => T): T {
    const here = this.#seam.lp;
    this.#seam.lp = lp;
    try {
      return action();
    } finally {
      this.#seam.lp = here;
    }
  }

  #configure(pages: PageAllocator): void {
    const { host } = this.hardware.memory;
    const infoPages = Math.ceil((this.tdmrs.length * TDMR_INFO_STRIDE) / PAGE_SIZE);
    const array = pages.allocPage();
    const infos = pages.allocContiguous(infoPages);
    if (array === null || infos === null) throw new TdxBringUpError("no memory for TDMR_INFO", null);
    host.fill(infos, infoPages * PAGE_SIZE, 0);
    host.fill(array, PAGE_SIZE, 0);
    this.tdmrs.forEach((tdmr, i) => {
      host.write(infos + i * TDMR_INFO_STRIDE, encodeTdmrInfo(tdmr));
      host.write64(array + 8 * i, BigInt(infos + i * TDMR_INFO_STRIDE));
    });
    must("TDH.SYS.CONFIG", this.leaves.sysConfig(array, this.tdmrs.length, this.globalKeyId));
    pages.freePage(array, this.lp.id);
    for (let i = 0; i < infoPages; i++) pages.freePage(infos + i * PAGE_SIZE, this.lp.id);
  }

  #initTdmr(tdmr: Tdmr): void {
    const end = tdmr.base + tdmr.size;
    for (let next = tdmr.base; next < end; next = this.leaves.rdx) {
      must("TDH.SYS.TDMR.INIT", this.leaves.sysTdmrInit(tdmr.base));
    }
  }
}

function must(step: string, status: bigint): void {
  if (status !== LINUX_TDX_STATUS.SUCCESS) throw new TdxBringUpError(step, status);
}
