import { SYS_STATE, TDH } from "../arch/tdx-abi.js";
import { TDX_STATUS } from "../arch/tdx-status.js";
import { GPR, type Gprs, type SeamContext, type SeamModule } from "../platform/seam.js";
import { Call, type ModuleOptions } from "./call.js";
import { fail, LeafFailure } from "./failure.js";
import { SEAMCALL_LEAVES, type SeamcallRow } from "./leaves.js";
import { initialState, type ModuleState } from "./state.js";
import { VpEnter } from "./vp-enter.js";

const TABLE: (SeamcallRow | undefined)[] = [];
for (const row of SEAMCALL_LEAVES) TABLE[row.leaf] = row;

/** Leaf and version number of RAX; the rest must be zero. */
const VERSION_SHIFT = 16;

/**
 * The TDX module. Its control structures live in physical memory, as those of the real one; what it knows beyond is
 * `state`. A module belongs to one platform.
 */
export class TdxModule implements SeamModule {
  readonly #call: Call;
  readonly #vpEnter: VpEnter;

  constructor(options: Partial<ModuleOptions> = {}) {
    this.#call = new Call({ moduleProfile: "1.5", filter: true, ...options }, initialState());
    this.#vpEnter = new VpEnter(this.#call);
  }

  get options(): ModuleOptions {
    return this.#call.options;
  }

  /** All that the module keeps outside physical memory: plain data. */
  get state(): ModuleState {
    return this.#call.state;
  }

  /** Goes on from a copy of `state`; physical memory must be the one of that time. */
  restore(state: ModuleState): void {
    this.#call.state = state;
    this.#call.pamt.reset();
    this.#vpEnter.forget();
  }

  /** One SEAMCALL. It throws SeamShutdown when the module or the processor must stop for good, and nothing else. */
  seamcall(context: SeamContext, gprs: Gprs): void {
    const call = this.#call;
    call.begin(context);
    call.out.attach(gprs);
    for (let register = 0; register < 16; register++) call.in.copyFrom(call.out, register);
    if (context.wants("seamcall")) this.#report("seamcall", context, gprs);
    let status: bigint;
    try {
      status = this.#dispatch();
    } catch (error) {
      if (!(error instanceof LeafFailure)) throw error;
      status = error.status;
    }
    gprs[GPR.RAX] = status;
    if (context.wants("seamret")) this.#report("seamret", context, gprs);
  }

  /** The rules of tdx-module facts 2.1, in their order. */
  #dispatch(): bigint {
    const call = this.#call;
    const low = call.in.low(GPR.RAX);
    const leaf = low & 0xffff;
    const version = (low >>> VERSION_SHIFT) & 0xff;
    if (call.in.high(GPR.RAX) !== 0 || low >>> 24 !== 0) invalidLeaf();
    const row = TABLE[leaf];
    if (version > (row?.maxVersion ?? 0)) invalidLeaf();
    const { sysState } = call.state;
    if (sysState === SYS_STATE.SHUTDOWN && leaf !== TDH.SYS_LP_SHUTDOWN) fail(TDX_STATUS.SYS_SHUTDOWN);
    if (sysState !== SYS_STATE.READY && !row?.early) fail(TDX_STATUS.SYS_NOT_READY);
    if (!row) invalidLeaf();
    call.version = version;
    if (row.handler === null) return this.#vpEnter.enter();
    const status = row.handler(call);
    if (leaf === TDH.VP_WR || leaf === TDH.VP_FLUSH) this.#vpEnter.forget();
    return status;
  }

  #report(event: "seamcall" | "seamret", context: SeamContext, gprs: Gprs): void {
    const leaf = this.#call.in.low(GPR.RAX) & 0xffff;
    const [rax = 0n, rcx = 0n, rdx = 0n] = gprs;
    context.emit(event, null, {
      leaf: TABLE[leaf]?.name ?? `0x${leaf.toString(16)}`,
      rax,
      rcx,
      rdx,
      r8: gprs[GPR.R8] ?? 0n,
    });
  }
}

function invalidLeaf(): never {
  fail(TDX_STATUS.OPERAND_INVALID, BigInt(GPR.RAX));
}
