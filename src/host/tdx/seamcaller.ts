import {
  LINUX_TDX_STATUS,
  RDRAND_RETRY_LOOPS,
  TDX_SEAMCALL_GP,
  TDX_SEAMCALL_UD,
  TDX_SEAMCALL_VMFAILINVALID,
} from "../../arch/linux-tdx-errno.js";
import { LEAF_VERSION_SHIFT } from "../../arch/tdx-abi.js";
import { GPR } from "../../platform/seam.js";
import type { HardwareLp, SeamcallOutcome } from "../hardware.js";

const STATUS_OF_FAILED_INSTRUCTION: Readonly<Record<Exclude<SeamcallOutcome, "ok">, bigint>> = {
  vmfailinvalid: TDX_SEAMCALL_VMFAILINVALID,
  gp: TDX_SEAMCALL_GP,
  ud: TDX_SEAMCALL_UD,
};

/** The status that Linux's stub makes when the instruction itself failed (kvm-tdx-host 0.1). */
export const failedInstructionStatus = (outcome: Exclude<SeamcallOutcome, "ok">): bigint =>
  STATUS_OF_FAILED_INSTRUCTION[outcome];

const TWO_32 = 0x1_0000_0000;
const RND_NO_ENTROPY_HIGH = Number(LINUX_TDX_STATUS.RND_NO_ENTROPY >> 32n);

/**
 * One register file in which the host makes its SEAMCALLs, TDH.VP.ENTER excepted. Numbers go in and out by 32-bit halves, so
 * that the calls that are made once per page need no bigint.
 *
 * Use: `begin()`, `set…`, `call(leaf)`; outputs stay readable until the next `begin`.
 */
export class Seamcaller {
  readonly #gprs = new BigUint64Array(16);
  readonly #halves = new Uint32Array(this.#gprs.buffer);
  readonly #inputs = new BigUint64Array(16);
  /** The processor that executes the host's code now. */
  lp: HardwareLp;

  constructor(lp: HardwareLp) {
    this.lp = lp;
  }

  /** Clears all inputs. */
  begin(): this {
    this.#gprs.fill(0n);
    return this;
  }

  /** Loads a register with an address or a small number. */
  set(register: number, value: number): this {
    this.#halves[2 * register] = value % TWO_32;
    this.#halves[2 * register + 1] = value / TWO_32;
    return this;
  }

  setWide(register: number, value: bigint): this {
    this.#gprs[register] = value;
    return this;
  }

  /**
   * Makes the call; the status is the result, 0n for success. A call that found no entropy is repeated as Linux does
   * (sc_retry), with the same inputs.
   */
  call(leaf: number, version = 0): bigint {
    const rax = (version << LEAF_VERSION_SHIFT) | leaf;
    this.set(GPR.RAX, rax);
    this.#inputs.set(this.#gprs);
    for (let tries = 1; ; tries++) {
      const outcome = this.lp.seamcall(this.#gprs);
      if (outcome !== "ok") return failedInstructionStatus(outcome);
      const low = this.#halves[0];
      const high = this.#halves[1];
      if (low === 0 && high === 0) return 0n;
      if (tries === RDRAND_RETRY_LOOPS || high !== RND_NO_ENTROPY_HIGH || low !== 0) return this.#gprs[GPR.RAX] ?? 0n;
      this.#gprs.set(this.#inputs);
    }
  }

  /** An output register. */
  get(register: number): number {
    return (this.#halves[2 * register + 1] ?? 0) * TWO_32 + (this.#halves[2 * register] ?? 0);
  }

  getWide(register: number): bigint {
    return this.#gprs[register] ?? 0n;
  }
}
