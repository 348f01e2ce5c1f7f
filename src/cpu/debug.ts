import { LOCAL, REG } from "./layout.js";
import type { CpuState } from "./state.js";

/** Debug registers: breakpoints of DR0 to DR3 by DR7, what DR6 reports (SDM 3B 17.2). */

const DR6 = REG.DR + 32;
const DR7 = REG.DR + 40;
const BREAKPOINTS = 4;
const ENABLED = 0xff;
const KIND = { EXECUTE: 0, WRITE: 1, IO: 2, ACCESS: 3 } as const;
/** Bytes that LEN stands for. */
const LENGTH: readonly number[] = [1, 2, 8, 4];
const DR6_HITS = 0xfn;
const DR7_GD = 1n << 13n;
/** Pending debug exceptions (and DR6): single step. */
export const SINGLE_STEP = 1 << 14;
/** Entries that `LOCAL.ACCESS_LOG` has room for. */
export const ACCESS_LOG_ENTRIES = 32;
const ENTRY_BYTES = 16;

interface Breakpoint {
  readonly kind: number;
  readonly bytes: number;
}

function breakpoint(state: CpuState, n: number): Breakpoint | null {
  const control = state.get32(DR7);
  if (((control >>> (n * 2)) & 3) === 0) return null;
  const what = (control >>> (16 + n * 4)) & 15;
  return { kind: what & 3, bytes: LENGTH[what >> 2] as number };
}

/** True if DR7 enables any breakpoint. */
export const breakpointsEnabled = (state: CpuState): boolean => (state.get32(DR7) & ENABLED) !== 0;

/** True if DR7 enables a breakpoint on data. */
export function watchesData(state: CpuState): boolean {
  for (let n = 0; n < BREAKPOINTS; n++) {
    const kind = breakpoint(state, n)?.kind;
    if (kind === KIND.WRITE || kind === KIND.ACCESS) return true;
  }
  return false;
}

/** Bits B0 to B3 of the instruction breakpoints at a linear address. */
export function instructionHits(state: CpuState, linear: bigint): number {
  let hits = 0;
  for (let n = 0; n < BREAKPOINTS; n++) {
    const found = breakpoint(state, n);
    if (found?.kind === KIND.EXECUTE && state.get(REG.DR + n * 8) === linear) hits |= 1 << n;
  }
  return hits;
}

/** Starts a log of the accesses of one instruction. */
export function clearAccessLog(state: CpuState): void {
  state.set32(LOCAL.ACCESS_COUNT, 0);
}

/** Bits B0 to B3 of the data breakpoints that the logged accesses touch. */
export function dataHits(state: CpuState): number {
  const count = Math.min(state.get32(LOCAL.ACCESS_COUNT), ACCESS_LOG_ENTRIES);
  let hits = 0;
  for (let n = 0; n < BREAKPOINTS; n++) {
    const found = breakpoint(state, n);
    if (found?.kind !== KIND.WRITE && found?.kind !== KIND.ACCESS) continue;
    // The bits of the address that the length covers do not count.
    const from = state.get(REG.DR + n * 8) & ~BigInt(found.bytes - 1);
    for (let m = 0; m < count; m++) {
      const at = LOCAL.ACCESS_LOG + m * ENTRY_BYTES;
      const linear = state.get(at);
      const written = state.get32(at + 12) !== 0;
      const overlaps = linear < from + BigInt(found.bytes) && linear + BigInt(state.get32(at + 8)) > from;
      if (overlaps && (written || found.kind === KIND.ACCESS)) hits |= 1 << n;
    }
  }
  return hits;
}

/** Notes an access made outside the executor. */
export function logAccess(state: CpuState, linear: bigint, bytes: number, written: boolean): void {
  const n = state.get32(LOCAL.ACCESS_COUNT);
  if (n >= ACCESS_LOG_ENTRIES) return;
  const at = LOCAL.ACCESS_LOG + n * ENTRY_BYTES;
  state.set(at, linear);
  state.set32(at + 8, bytes);
  state.set32(at + 12, written ? 1 : 0);
  state.set32(LOCAL.ACCESS_COUNT, n + 1);
}

/** Records the causes of a debug exception: the processor itself never clears any but B0 to B3. */
export function reportDebug(state: CpuState, causes: number): void {
  state.set(DR6, (state.get(DR6) & ~DR6_HITS) | BigInt(causes));
}

/** A debug exception gives its handler access to the debug registers. */
export function releaseDebugRegisters(state: CpuState): void {
  state.set(DR7, state.get(DR7) & ~DR7_GD);
}
