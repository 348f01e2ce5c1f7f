import { EPT_VIOLATION, EXIT_REASON } from "../../arch/vmx.js";
import { SEPT, septState } from "../memory/sept-entry.js";
import { TDVPS } from "../structures/tdvps.js";
import type { Run } from "./run.js";

/**
 * Zero-step mitigation (tdx-module facts 4.5): a host that never maps a page could make the guest fault at one
 * instruction again and again. After some violations at one RIP, TDH.VP.ENTER itself looks whether the pages are there.
 */

const THRESHOLD = 6;
const LIST = TDVPS.ZERO_STEP_GPA.count;

/** Notes a private EPT violation that leaves to the host. */
export function noteViolation(run: Run, gpa: number): void {
  const { tdvps } = run.call.vcpu;
  const rip = run.cpu.state.rip;
  let length = tdvps.get(TDVPS.ZERO_STEP_LENGTH);
  let count = tdvps.get(TDVPS.ZERO_STEP_COUNT);
  if (tdvps.get64(TDVPS.ZERO_STEP_RIP) !== rip) {
    tdvps.set64(TDVPS.ZERO_STEP_RIP, rip);
    length = 0;
    count = 0;
  }
  let listed = false;
  for (let i = 0; i < length; i++) listed ||= tdvps.get(TDVPS.ZERO_STEP_GPA, i) === gpa;
  if (!listed && length < LIST) tdvps.set(TDVPS.ZERO_STEP_GPA, gpa, length++);
  tdvps.set(TDVPS.ZERO_STEP_LENGTH, length);
  tdvps.set(TDVPS.ZERO_STEP_COUNT, Math.min(count + 1, 0xff));
}

/**
 * At entry: true if a page of an armed list is still missing; `run` then has the synthetic exit. A list whose pages are
 * all there is forgotten.
 */
export function pageStillMissing(run: Run): boolean {
  const { tdvps } = run.call.vcpu;
  if (tdvps.get(TDVPS.ZERO_STEP_COUNT) <= THRESHOLD) return false;
  const { td, walk } = run.call;
  for (let i = 0; i < tdvps.get(TDVPS.ZERO_STEP_LENGTH); i++) {
    const gpa = tdvps.get(TDVPS.ZERO_STEP_GPA, i);
    walk.walk(td, gpa, 0);
    const there = septState(walk.state).accessible || walk.state === SEPT.PENDING;
    if (there) continue;
    run.leaveAtPage(EXIT_REASON.EPT_VIOLATION, EPT_VIOLATION.WRITE, gpa);
    return true;
  }
  tdvps.set(TDVPS.ZERO_STEP_COUNT, 0);
  tdvps.set(TDVPS.ZERO_STEP_LENGTH, 0);
  return false;
}
