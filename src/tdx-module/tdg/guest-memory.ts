import { EXTENDED_QUALIFICATION, TD_CTLS } from "../../arch/tdx-abi.js";
import { TDX_STATUS } from "../../arch/tdx-status.js";
import { EPT_VIOLATION, EXIT_REASON } from "../../arch/vmx.js";
import type { VmExit } from "../../cpu/vm-exit.js";
import { injectVe } from "../exits/inject.js";
import type { Outcome, Run } from "../exits/run.js";
import { fail } from "../failure.js";
import { levelSize } from "../memory/sept.js";
import { SEPT, septState } from "../memory/sept-entry.js";
import { TDCS } from "../structures/tdcs.js";
import { TD_VMCS } from "../structures/tdvps.js";

/** Ends a TDCALL because the guest's memory cannot be reached; RIP stays, the TDCALL is made again later. */
export class TdcallRetry {
  constructor(readonly outcome: Outcome) {}
}

/** Where a memory operand of a TDCALL lies. */
export interface GuestBuffer {
  readonly hpa: number;
  readonly keyId: number;
}

/** Which kinds of GPA an operand may be. */
export type GuestBufferKind = "private" | "any";

/** Finds the memory operand in `register`, aligned to `alignment`, which it does not cross. */
export function guestBuffer(
  run: Run,
  exit: VmExit,
  register: number,
  alignment: number,
  kind: GuestBufferKind,
  write: boolean,
): GuestBuffer {
  const gpa = run.guest.number(register);
  const sharedBit = 2 ** (run.call.td.gpaw - 1);
  const shared = gpa >= sharedBit;
  if (gpa % alignment !== 0 || gpa >= sharedBit * 2 || (shared && kind === "private")) {
    fail(TDX_STATUS.OPERAND_INVALID, BigInt(register));
  }
  return shared ? sharedPage(run, exit, gpa, gpa - sharedBit, write) : privatePage(run, exit, gpa, write);
}

/** The exit as the guest would cause it by touching the page itself. */
function violation(exit: VmExit, gpa: number, write: boolean): VmExit {
  return {
    ...exit,
    reason: EXIT_REASON.EPT_VIOLATION,
    qualification: BigInt(write ? EPT_VIOLATION.WRITE : EPT_VIOLATION.READ),
    guestPhysicalAddress: gpa,
    guestLinearAddress: 0n,
  };
}

function privatePage(run: Run, exit: VmExit, gpa: number, write: boolean): GuestBuffer {
  const { td, walk } = run.call;
  walk.walk(td, gpa - (gpa % 0x1000), 0);
  if (septState(walk.state).accessible) {
    const size = levelSize(walk.level);
    return { hpa: walk.hpa - (walk.hpa % size) + (gpa % size), keyId: td.hkid };
  }
  const qualification = write ? EPT_VIOLATION.WRITE : EPT_VIOLATION.READ;
  if (walk.state === SEPT.PENDING) {
    if ((td.tdcs.get64(TDCS.TD_CTLS) & TD_CTLS.PENDING_VE_DISABLE) === 0n) {
      throw new TdcallRetry(injectVe(run, violation(exit, gpa, write), 0n, gpa));
    }
    const type = EXTENDED_QUALIFICATION.PENDING_EPT_VIOLATION;
    throw new TdcallRetry(run.leaveAtPage(EXIT_REASON.EPT_VIOLATION, qualification, gpa, type));
  }
  throw new TdcallRetry(run.leaveAtPage(EXIT_REASON.EPT_VIOLATION, qualification, gpa));
}

const EPT_PRESENT = 7;
const EPT_LARGE = 1 << 7;
const EPT_SUPPRESS_VE = 0x8000_0000;

/** Walks the host's EPT for shared memory; `offset` is the GPA without the SHARED bit. */
function sharedPage(run: Run, exit: VmExit, gpa: number, offset: number, write: boolean): GuestBuffer {
  const { call } = run;
  const { memory } = call;
  let table = call.vcpu.tdvps.get(TD_VMCS.SHARED_EPTP);
  for (let level = call.td.topLevel; ; level--) {
    const entry = table + (Math.floor(offset / levelSize(level)) % 512) * 8;
    const low = memory.read32(entry, 0) >>> 0;
    const high = memory.read32(entry + 4, 0) >>> 0;
    const needed = write ? 3 : 1;
    if ((low & needed) !== needed) {
      const convertible = (low & EPT_PRESENT) === 0 && (high & EPT_SUPPRESS_VE) === 0;
      if (convertible) throw new TdcallRetry(injectVe(run, violation(exit, gpa, write), 0n, gpa));
      const qualification = write ? EPT_VIOLATION.WRITE : EPT_VIOLATION.READ;
      throw new TdcallRetry(run.leaveAtPage(EXIT_REASON.EPT_VIOLATION, qualification, gpa));
    }
    const next = (high & 0xf_ffff) * 0x1_0000_0000 + ((low & 0xffff_f000) >>> 0);
    if (level === 0 || (low & EPT_LARGE) !== 0) {
      const size = levelSize(level);
      return { hpa: next - (next % size) + (offset % size), keyId: 0 };
    }
    if (next >= memory.size) throw new TdcallRetry(run.leaveAtPage(EXIT_REASON.EPT_MISCONFIG, 0, gpa));
    table = next;
  }
}
