import { CR0 } from "../../../arch/x86.js";
import { CpuException, VECTOR } from "../../faults.js";
import { FLAG } from "../../fpu/format.js";
import { STATUS } from "../../fpu/x87-control.js";
import { REG } from "../../layout.js";
import type { CpuState } from "../../state.js";
import type { CpuEnvironment } from "../environment.js";
import { type Bits, DEFAULT_NAN, type Rounded } from "./extended.js";

/** The register stack and the way of an instruction through it, outside the executor (there: `isa/x87-stack.ts`). */

const TOP_SHIFT = 11;
const TOP_MASK = 7 << TOP_SHIFT;
const EMPTY = 3;
/** Exceptions that are found before computing: the destination is not written if one of them is unmasked. */
const BEFORE = FLAG.INVALID | FLAG.DENORMAL | FLAG.ZERO_DIVIDE;
const EXCEPTIONS = 0x3f;

/** #NM if x87 is switched off. */
export function requireDevice({ state }: CpuEnvironment): void {
  if (state.get32(REG.CR0) & (CR0.EM | CR0.TS)) throw new CpuException(VECTOR.NM);
}

/** What comes before every instruction that is not a no-wait control instruction: #NM, then a pending #MF. */
export function begin(environment: CpuEnvironment): void {
  requireDevice(environment);
  if (environment.state.get16(REG.FSW) & 0x80) throw new CpuException(VECTOR.MF);
}

/** Commits to the instruction: no memory access can fault any more. */
export function start({ state }: CpuEnvironment): void {
  state.set(REG.FIP, state.rip);
  changeStatus(state, STATUS.C1, 0);
}

export function changeStatus(state: CpuState, clear: number, set: number): void {
  state.set16(REG.FSW, (state.get16(REG.FSW) & ~clear) | set);
}

const physical = (state: CpuState, i: number): number => ((state.get16(REG.FSW) >> TOP_SHIFT) + i) & 7;

export function isEmpty(state: CpuState, i: number): boolean {
  return ((state.get16(REG.FTW) >> (2 * physical(state, i))) & EMPTY) === EMPTY;
}

export function readStack(state: CpuState, i: number): Bits {
  const at = REG.FPR + physical(state, i) * 16;
  return { high: state.get16(at + 8), significand: state.get(at) };
}

function setTag(state: CpuState, i: number, tag: 0 | 3): void {
  const shift = 2 * physical(state, i);
  state.set16(REG.FTW, (state.get16(REG.FTW) & ~(EMPTY << shift)) | (tag << shift));
}

export function writeStack(state: CpuState, i: number, { high, significand }: Bits): void {
  const at = REG.FPR + physical(state, i) * 16;
  state.set(at, significand);
  state.set(at + 8, BigInt(high));
  setTag(state, i, 0);
}

function moveTop(state: CpuState, by: 1 | -1): void {
  const top = (state.get16(REG.FSW) + (by << TOP_SHIFT)) & TOP_MASK;
  changeStatus(state, TOP_MASK, top);
}

export function pop(state: CpuState): void {
  setTag(state, 0, EMPTY);
  moveTop(state, 1);
}

export function push(state: CpuState, bits: Bits): void {
  moveTop(state, -1);
  writeStack(state, 0, bits);
}

/** ES and B follow from the exception flags and masks. */
export function withSummary(fsw: number, fcw: number): number {
  return fsw & ~fcw & EXCEPTIONS ? fsw | STATUS.SUMMARY : fsw & ~STATUS.SUMMARY;
}

/** Enters exception flags into the status word. True if the result may be stored. */
export function finish(state: CpuState, flags: number, roundedUp: boolean, toMemory = false): boolean {
  const unmasked = flags & ~state.get16(REG.FCW) & EXCEPTIONS;
  const entered = unmasked & BEFORE ? flags & (BEFORE | STATUS.STACK_FAULT) : flags;
  const c1 = entered & FLAG.PRECISION && roundedUp ? STATUS.C1 : 0;
  changeStatus(state, 0, entered | c1 | (unmasked ? STATUS.SUMMARY : 0));
  return (unmasked & (toMemory ? BEFORE | FLAG.OVERFLOW | FLAG.UNDERFLOW : BEFORE)) === 0;
}

/** The result of an instruction that finds a register empty, or full in the case of a push. */
export const STACK_FAULT: Rounded = {
  ...DEFAULT_NAN,
  flags: FLAG.INVALID | STATUS.STACK_FAULT,
  roundedUp: false,
};
