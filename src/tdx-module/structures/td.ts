import { ATTRIBUTES, CONFIG_FLAGS, PAMT_PAGE_SIZE } from "../../arch/tdx-abi.js";
import type { SeamMemory } from "../../platform/seam.js";
import { TDCS } from "./tdcs.js";
import { MAX_TDCX, TDR } from "./tdr.js";
import { StructureView } from "./view.js";

/** One TD's control structures. The object is reused: `open` points it at another TD. */
export class Td {
  /** The TDR page, accessed with the global KeyID. */
  readonly tdr = new StructureView(1);
  /** The TDCX pages, accessed with the TD's KeyID. */
  readonly tdcs = new StructureView(MAX_TDCX);
  /** Host physical address of the TDR page: the TD's name. */
  pa = 0;
  hkid = 0;

  open(memory: SeamMemory, globalKeyId: number, pa: number): void {
    this.pa = pa;
    this.tdr.memory = memory;
    this.tdr.keyId = globalKeyId;
    this.tdr.pages[0] = pa;
    this.hkid = this.tdr.get(TDR.HKID);
    this.tdcs.memory = memory;
    this.tdcs.keyId = this.hkid;
    for (let i = 0; i < MAX_TDCX; i++) this.tdcs.pages[i] = -1;
  }

  /** Finds the TDCX pages; to be called before `tdcs` is used. */
  openTdcs(): void {
    for (let i = 0; i < 4; i++) this.page(i);
  }

  /** Host physical address of a TDCX page. */
  page(index: number): number {
    const known = this.tdcs.pages[index] as number;
    if (known >= 0) return known;
    const pa = this.tdr.get(TDR.TDCX_PA, index);
    this.tdcs.pages[index] = pa;
    return pa;
  }

  get fatal(): boolean {
    return this.tdr.get(TDR.FATAL) !== 0;
  }
  get debug(): boolean {
    return (this.tdcs.get64(TDCS.ATTRIBUTES) & ATTRIBUTES.DEBUG) !== 0n;
  }

  /** True if the TD keeps RBP out of TDCALLs and TD exits. */
  get keepsRbp(): boolean {
    const flags = this.tdcs.memory.read8(this.tdcs.address(TDCS.CONFIG_FLAGS), this.hkid);
    return (flags & Number(CONFIG_FLAGS.NO_RBP_MOD)) !== 0;
  }

  /** Level of the entries in the Secure EPT root: 3 for a four-level walk. EPTP_CONTROLS 5:3 counts levels less one. */
  get topLevel(): number {
    return (this.tdcs.memory.read8(this.tdcs.address(TDCS.EPTP_CONTROLS), this.hkid) >>> 3) & 7;
  }
  /** 48 or 52. */
  get gpaw(): number {
    return this.tdcs.get(TDCS.GPAW);
  }

  /** Counts pages in (or out) of the TD: a page of `size` is 512^size small ones. */
  addChildren(count: number, size: number = PAMT_PAGE_SIZE.P4K): void {
    this.tdr.set(TDR.CHLDCNT, this.tdr.get(TDR.CHLDCNT) + count * 512 ** size);
  }
}
