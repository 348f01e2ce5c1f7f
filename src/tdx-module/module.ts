import { LEAF_VERSION_SHIFT, SYS_STATE, TDH } from "../arch/tdx-abi.js";
import { TDX_STATUS } from "../arch/tdx-status.js";
import { GPR, type Gprs, type SeamContext, type SeamModule } from "../platform/seam.js";
import { Call, type ModuleOptions, type ModuleShared } from "./call.js";
import { fail, LeafFailure } from "./failure.js";
import { SEAMCALL_LEAVES, type SeamcallRow } from "./leaves.js";
import { initialState, type ModuleState } from "./state.js";
import { VpEnter } from "./vp-enter.js";

const TABLE: (SeamcallRow | undefined)[] = [];
for (const row of SEAMCALL_LEAVES) TABLE[row.leaf] = row;

/** Leaf and version number of RAX; the rest must be zero. */

/** What one SEAMCALL works with. */
interface Frame {
  readonly call: Call;
  readonly vpEnter: VpEnter;
}

/**
 * The TDX module. Its control structures live in physical memory, as those of the real one; what it knows beyond is
 * `state`. A module belongs to one platform.
 */
export class TdxModule implements SeamModule {
  readonly options: ModuleOptions;
  readonly #shared: ModuleShared = { state: initialState(), loaded: new WeakMap() };
  readonly #frames: Frame[] = [];
  /** SEAMCALLs under way: more than one while other processors call during a guest's stay. */
  #depth = 0;

  constructor(options: Partial<ModuleOptions> = {}) {
    this.options = { moduleProfile: "1.5", filter: true, ...options };
  }

  /** All that the module keeps outside physical memory: plain data. */
  get state(): ModuleState {
    return this.#shared.state;
  }

  /** Goes on from a copy of `state`; physical memory must be the one of that time. */
  restore(state: ModuleState): void {
    this.#shared.state = state;
    this.#shared.loaded = new WeakMap();
    this.#frames.length = 0;
  }

  /** One SEAMCALL. It throws SeamShutdown when the module or the processor must stop for good, and nothing else. */
  seamcall(context: SeamContext, gprs: Gprs): void {
    const frame = this.#frames[this.#depth] ?? this.#newFrame();
    const { call } = frame;
    this.#depth++;
    call.begin(context);
    call.out.attach(gprs);
    for (let register = 0; register < 16; register++) call.in.copyFrom(call.out, register);
    if (context.wants("seamcall")) report("seamcall", call, gprs);
    let status: bigint;
    try {
      status = this.#dispatch(frame);
    } catch (error) {
      if (!(error instanceof LeafFailure)) throw error;
      status = error.status;
    } finally {
      this.#depth--;
    }
    gprs[GPR.RAX] = status;
    if (context.wants("seamret")) report("seamret", call, gprs);
  }

  #newFrame(): Frame {
    const call = new Call(this.options, this.#shared);
    const frame = { call, vpEnter: new VpEnter(call) };
    this.#frames.push(frame);
    return frame;
  }

  /** The rules of tdx-module facts 2.1, in their order. */
  #dispatch({ call, vpEnter }: Frame): bigint {
    const low = call.in.low(GPR.RAX);
    const leaf = low & 0xffff;
    const version = (low >>> LEAF_VERSION_SHIFT) & 0xff;
    if (call.in.high(GPR.RAX) !== 0 || low >>> 24 !== 0) invalidLeaf();
    const row = TABLE[leaf];
    if (version > (row?.maxVersion ?? 0)) invalidLeaf();
    const { sysState } = call.state;
    if (sysState === SYS_STATE.SHUTDOWN && leaf !== TDH.SYS_LP_SHUTDOWN) fail(TDX_STATUS.SYS_SHUTDOWN);
    if (sysState !== SYS_STATE.READY && !row?.early) fail(TDX_STATUS.SYS_NOT_READY);
    if (!row) invalidLeaf();
    call.version = version;
    if (row.handler === null) return vpEnter.enter();
    const status = row.handler(call);
    if (leaf === TDH.VP_WR || leaf === TDH.VP_FLUSH) this.#shared.loaded = new WeakMap();
    return status;
  }
}

function report(event: "seamcall" | "seamret", call: Call, gprs: Gprs): void {
  const leaf = call.in.low(GPR.RAX) & 0xffff;
  const name = TABLE[leaf]?.name ?? `0x${leaf.toString(16)}`;
  const [rax = 0n, rcx = 0n, rdx = 0n] = gprs;
  call.context.emit(event, null, { leaf: name, rax, rcx, rdx, r8: gprs[GPR.R8] ?? 0n });
}

function invalidLeaf(): never {
  fail(TDX_STATUS.OPERAND_INVALID, BigInt(GPR.RAX));
}
