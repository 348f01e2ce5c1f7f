import { ERRNO } from "../../../arch/errno.js";
import { LINUX_TDX_STATUS, TDX_SEAMCALL_STATUS_MASK } from "../../../arch/linux-tdx-errno.js";
import { TD_FIELD } from "../../../arch/linux-tdx-fields.js";
import type { HostKernel } from "../../kernel.js";
import type { TdxLeaves } from "../../tdx/leaves.js";
import { seamcallErrorText } from "../../tdx/status-name.js";
import type { TdxHost } from "../../tdx/tdx-host.js";

/** enum kvm_tdx_state. */
export const TD_STATE = { UNINITIALIZED: 0, INITIALIZED: 1, RUNNABLE: 2 } as const;

/** What a TD may ask of the VM that it is part of. */
export interface TdOwner {
  /** KVM_BUG_ON was met before: what fails now is no news. */
  readonly vmBugged: boolean;
  /** KVM_BUG_ON: nothing of this VM can be trusted any more. */
  bug(): void;
  /** VP.FLUSH of every vCPU on the processor that it is associated with. */
  flushVcpus(): void;
  /** Gets every vCPU out of the guest (KVM_REQ_OUTSIDE_GUEST_MODE). */
  kickOutsideGuestMode(): void;
}

/** Class of a status: the part that KVM compares. */
export const statusClass = (status: bigint): bigint => status & TDX_SEAMCALL_STATUS_MASK;
export const isBusy = (status: bigint): boolean => statusClass(status) === LINUX_TDX_STATUS.OPERAND_BUSY;

/** One TD as KVM knows it (struct kvm_tdx): its control pages, its KeyID and how far it has come. */
export class Td {
  state: number = TD_STATE.UNINITIALIZED;
  /** HPA of the TDR page, 0 before INIT_VM. */
  tdr = 0;
  tdcsPages: number[] = [];
  /** Host KeyID; 0: none assigned. */
  hkid = 0;
  attributes = 0n;
  xfam = 0n;
  /** Width of guest physical addresses: 48 or 52. */
  gpaw: 48 | 52 = 48;
  tscOffset = 0n;
  tscMultiplier = 0n;
  /** Keeps vCPUs out of the guest while a zap waits for the Secure EPT. */
  waitForSeptZap = false;
  readonly tdx: TdxHost;
  readonly leaves: TdxLeaves;

  constructor(
    readonly kernel: HostKernel,
    tdx: TdxHost,
    readonly owner: TdOwner,
  ) {
    this.tdx = tdx;
    this.leaves = tdx.leaves;
  }

  get hkidAssigned(): boolean {
    return this.hkid > 0;
  }

  /** Value of the one SHARED bit of a GPA. */
  get sharedBit(): number {
    return this.gpaw === 52 ? 2 ** 51 : 2 ** 47;
  }

  /** A failed SEAMCALL that nobody expected: the VM is bugged, as TDX_BUG_ON does. */
  bugOn(leaf: string, status: bigint): void {
    if (!this.owner.vmBugged) this.kernel.printk(seamcallErrorText(leaf, status));
    this.owner.bug();
  }

  /** The same with the entry that the Secure EPT walk met. */
  bugOnSept(leaf: string, status: bigint): void {
    if (!this.owner.vmBugged) this.kernel.printk(seamcallErrorText(leaf, status, this.leaves.septDetails));
    this.owner.bug();
  }

  /**
   * Makes and initialises the TD: MNG.CREATE, KEY.CONFIG on one processor of each package, ADDCX, INIT with TD_PARAMS. The
   * result is 0 or an error number, negated; `hwError` gets the status of a refused INIT.
   */
  create(tdParams: Uint8Array): { error: number; hwError: bigint } {
    const { tdx, kernel } = this;
    const hkid = tdx.hkids.allocate();
    if (hkid === null) return { error: -ERRNO.ENOSPC, hwError: 0n };
    const tdr = kernel.pages.allocPage();
    const tdcs = Array.from({ length: tdx.info.tdcsPages }, () => kernel.pages.allocPage());
    if (tdr === null || tdcs.includes(null)) {
      for (const page of [tdr, ...tdcs]) if (page !== null) kernel.pages.freePage(page, tdx.lp.id);
      tdx.hkids.free(hkid);
      return { error: -ERRNO.ENOMEM, hwError: 0n };
    }
    this.tdr = tdr;
    this.hkid = hkid;
    const result = this.#build(tdcs as number[], tdParams);
    if (result.error === 0) this.state = TD_STATE.INITIALIZED;
    return result;
  }

  #build(tdcs: readonly number[], tdParams: Uint8Array): { error: number; hwError: bigint } {
    const { tdx, leaves, kernel, tdr } = this;
    const giveBack = (pages: readonly number[]): void => {
      for (const page of pages) kernel.pages.freePage(page, tdx.lp.id);
    };
    let status = leaves.mngCreate(tdr, this.hkid);
    if (status !== 0n) {
      tdx.hkids.free(this.hkid);
      this.hkid = 0;
      this.tdr = 0;
      giveBack([tdr, ...tdcs]);
      return { error: this.#creationError("TDH.MNG.CREATE", status), hwError: 0n };
    }
    for (const lp of tdx.onePerPackage()) {
      status = tdx.on(lp, () => leaves.mngKeyConfig(tdr));
      if (status !== 0n) {
        giveBack(tdcs);
        return { error: this.#creationError("TDH.MNG.KEY.CONFIG", status), hwError: 0n };
      }
    }
    for (const [i, page] of tdcs.entries()) {
      status = leaves.mngAddcx(page, tdr);
      if (status !== 0n) {
        giveBack(tdcs.slice(i));
        return { error: this.#creationError("TDH.MNG.ADDCX", status), hwError: 0n };
      }
      this.tdcsPages.push(page);
    }
    const params = kernel.pages.allocZeroedPage();
    if (params === null) return { error: -ERRNO.ENOMEM, hwError: 0n };
    kernel.hardware.memory.host.write(params, tdParams);
    status = leaves.mngInit(tdr, params);
    giveBack([params]);
    if (statusClass(status) === LINUX_TDX_STATUS.OPERAND_INVALID) return { error: -ERRNO.EINVAL, hwError: status };
    if (status !== 0n) return { error: this.#creationError("TDH.MNG.INIT", status), hwError: 0n };
    this.tscOffset = this.#read(TD_FIELD.TSC_OFFSET);
    this.tscMultiplier = this.#read(TD_FIELD.TSC_MULTIPLIER);
    return { error: 0, hwError: 0n };
  }

  /** TDH.MNG.RD; a failure bugs the VM and reads as 0. */
  #read(field: bigint): bigint {
    const status = this.leaves.mngRd(this.tdr, field);
    if (status === 0n) return this.leaves.value;
    this.bugOn(`TDH.MNG.RD[0x${field.toString(16)}]`, status);
    return 0n;
  }

  #creationError(leaf: string, status: bigint): number {
    if (statusClass(status) === LINUX_TDX_STATUS.RND_NO_ENTROPY) return -ERRNO.EAGAIN;
    this.bugOn(leaf, status);
    return -ERRNO.EIO;
  }
}
