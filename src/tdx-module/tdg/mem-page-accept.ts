import { PAGE_SIZE } from "../../arch/page.js";
import { EXTENDED_QUALIFICATION } from "../../arch/tdx-abi.js";
import { TDX_STATUS } from "../../arch/tdx-status.js";
import { EPT_VIOLATION, EXIT_REASON } from "../../arch/vmx.js";
import { GPR } from "../../platform/seam.js";
import { OUTCOME, type Run } from "../exits/run.js";
import { fail } from "../failure.js";
import { levelSize } from "../memory/sept.js";
import { hpaOf, SEPT, septState } from "../memory/sept-entry.js";
import { TdcallRetry } from "./guest-memory.js";

/** A large page is cleared small page by small page; entry bits 20:12 count them. */
const COUNTER_SHIFT = 12;
const COUNTER_MASK = 0x1ff << COUNTER_SHIFT;
const LARGE_PAGES = 512;

/** TDG.MEM.PAGE.ACCEPT: takes a page that the host has added, cleared (tdx-module facts 3.4). */
export function memPageAccept(run: Run): bigint | null {
  const { guest, call } = run;
  const { td, walk } = call;
  const low = guest.low(GPR.RCX);
  const level = low & 7;
  const gpa = guest.high(GPR.RCX) * 0x1_0000_0000 + ((low & ~0xfff) >>> 0);
  if ((low & 0xff8) !== 0 || level > 1 || gpa % levelSize(level) !== 0 || gpa >= 2 ** (td.gpaw - 1)) {
    fail(TDX_STATUS.OPERAND_INVALID, BigInt(GPR.RCX));
  }
  const found = walk.walk(td, gpa, level);
  if (walk.state === SEPT.PENDING || walk.state === SEPT.PENDING_EXPORTED_DIRTY) {
    if (!found) return leaveForHost(run, gpa, level);
    if (level === 0) {
      call.memory.fill(walk.hpa, PAGE_SIZE, 0, td.hkid);
    } else {
      clearLargePage(run);
    }
    const hpa = level === 0 ? walk.hpa : walk.hpa - (walk.hpa % levelSize(level));
    walk.set(hpa, walk.state === SEPT.PENDING ? SEPT.MAPPED : SEPT.EXPORTED_DIRTY);
    return TDX_STATUS.SUCCESS;
  }
  const state = septState(walk.state);
  if (state.accessible) return TDX_STATUS.PAGE_ALREADY_ACCEPTED | BigInt(walk.level);
  if (found && walk.state === SEPT.NL_MAPPED) return TDX_STATUS.PAGE_SIZE_MISMATCH | BigInt(walk.level);
  return leaveForHost(run, gpa, level);
}

/** Leaves, so that the host adds the page; the TDCALL is then made again. */
function leaveForHost(run: Run, gpa: number, level: number): null {
  const { walk } = run.call;
  const state = septState(walk.state);
  const info = level | (walk.level << 3) | (state.public << 6) | (state.leaf ? 1 << 14 : 0);
  const qualification = EPT_VIOLATION.WRITE | ((walk.low & 7) << 3);
  run.leaveAtPage(EXIT_REASON.EPT_VIOLATION, qualification, gpa, EXTENDED_QUALIFICATION.ACCEPT, info);
  return null;
}

/** Clears a large page; stops between small pages when an interrupt waits, and goes on there the next time. */
function clearLargePage(run: Run): void {
  const { walk, td, memory, context } = run.call;
  const page = hpaOf(walk.low & ~COUNTER_MASK, walk.high);
  let done = (walk.low & COUNTER_MASK) >>> COUNTER_SHIFT;
  while (done < LARGE_PAGES) {
    memory.fill(page + done * PAGE_SIZE, PAGE_SIZE, 0, td.hkid);
    done++;
    if (done < LARGE_PAGES && context.pendingInterrupts() !== 0) {
      memory.write32(walk.address, ((walk.low & ~COUNTER_MASK) | (done << COUNTER_SHIFT)) >>> 0, td.hkid);
      throw new TdcallRetry(OUTCOME.STAY);
    }
  }
}
