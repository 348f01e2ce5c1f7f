import { type I32, i32, i64, load, store } from "../../wasm/expression.js";
import { FLAG } from "../fpu/format.js";
import { STATUS } from "../fpu/x87-control.js";
import { FPU, RECORD, REG } from "../layout.js";
import type { Meaning } from "./meaning.js";

/** The x87 register stack: where ST(i) is, tags, push and pop, and the way of an instruction through it. */

const fsw = (): I32 => load.i32_16U(i32(REG.FSW));
const ftw = (): I32 => load.i32_16U(i32(REG.FTW));
const setFsw = (m: Meaning, value: I32): void => m.f.emit(store.i32_16(i32(REG.FSW), value));
const TOP_SHIFT = 11;
const EMPTY = 3;

/** Physical register number of ST at a distance of 16 bytes a register. */
function physical(distance: I32 | number): I32 {
  return fsw()
    .shrU(TOP_SHIFT)
    .add(typeof distance === "number" ? i32(distance >> 4) : distance.shrU(4))
    .and(7);
}

/** WebAssembly address of ST(i); the distance is i * 16. */
export function stackRegister(m: Meaning, distance: I32 | number = 0): I32 {
  return m.f.tmp(physical(distance).shl(4).add(REG.FPR));
}

export function isEmpty(m: Meaning, distance: I32 | number = 0): I32 {
  return m.f.tmp(ftw().shrU(physical(distance).shl(1)).and(EMPTY).eq(EMPTY));
}

export function setTag(m: Meaning, distance: I32 | number, tag: 0 | 3): void {
  const shift = m.f.tmp(physical(distance).shl(1));
  m.f.emit(store.i32_16(i32(REG.FTW), ftw().and(i32(EMPTY).shl(shift).xor(-1)).or(i32(tag).shl(shift))));
}

export function moveTop(m: Meaning, by: 1 | -1): void {
  setFsw(m, fsw().and(~0x3800).or(fsw().shrU(TOP_SHIFT).add(by).and(7).shl(TOP_SHIFT)));
}

export function pop(m: Meaning): void {
  setTag(m, 0, 3);
  moveTop(m, 1);
}

export function clearCodes(m: Meaning, bits: number): void {
  setFsw(m, fsw().and(~bits));
}
export function setCodes(m: Meaning, bits: I32): void {
  setFsw(m, fsw().or(bits));
}

/** Every instruction that is not a control instruction: checks, pointers, C1 := 0, soft-float control. */
export function begin(m: Meaning): void {
  m.requireX87();
}

/** Commits to the instruction: called when no memory access can fault any more. */
export function start(m: Meaning): void {
  m.f.emit(store.i64(i32(REG.FIP), m.nextRip().sub(load.i64_8U(m.record(), RECORD.LENGTH))));
  clearCodes(m, STATUS.C1);
  m.f.callStatement(m.runtime.fpBeginX87);
}

/** IE and SF; C1 says whether it was an overflow. The result is the indefinite NaN. */
export function stackFault(m: Meaning, overflow: boolean): void {
  const { f } = m;
  if (overflow) setCodes(m, i32(STATUS.C1));
  f.emit(store.i32(i32(FPU.FLAGS), i32(FLAG.INVALID | STATUS.STACK_FAULT)));
  f.emit(store.i64(i32(FPU.RESULT), i64(3n << 62n)));
  f.emit(store.i32(i32(FPU.RESULT_EXPONENT), i32(0xffff)));
}

/** Unpacks a register into a soft-float operand. */
export function unpackRegister(m: Meaning, operand: number, register: I32): void {
  m.f.callStatement(m.runtime.fpUnpack80, i32(operand), load.i64(register), load.i32_16U(register, 8));
}

/** A register into FPU.RESULT, as it is. */
export function takeRegister(m: Meaning, register: I32): void {
  m.f.emit(store.i64(i32(FPU.RESULT), load.i64(register)));
  m.f.emit(store.i32(i32(FPU.RESULT_EXPONENT), load.i32_16U(register, 8)));
}

/** FPU.RESULT into ST at a distance. */
export function storeResult(m: Meaning, distance: I32 | number): void {
  const register = stackRegister(m, distance);
  m.f.emit(store.i64(register, load.i64(i32(FPU.RESULT))));
  m.f.emit(store.i64(register, load.i64_32U(i32(FPU.RESULT_EXPONENT)), 8));
  setTag(m, distance, 0);
}

/** True (in the module) if flags, entered into the status word, let the result be stored. */
export function mayStore(m: Meaning, toMemory = false): I32 {
  return m.f.tmp(m.f.call(m.runtime.fpEndX87, i32(toMemory ? 1 : 0)).eqz());
}

/** Pushes FPU.RESULT, or the indefinite if the stack is full. */
export function pushResult(m: Meaning): void {
  const { f } = m;
  f.if(isEmpty(m, 7 * 16).eqz(), () => stackFault(m, true));
  pushAnyway(m);
}

/** Pushes FPU.RESULT over whatever is there. Only an invalid operation keeps it off: a denormal arrives, unmasked or not. */
export function pushAnyway(m: Meaning): void {
  const { f } = m;
  mayStore(m);
  const unmasked = load.i32(i32(FPU.FLAGS)).and(load.i32_16U(i32(REG.FCW)).xor(-1));
  f.if(unmasked.and(FLAG.INVALID).eqz(), () => {
    moveTop(m, -1);
    storeResult(m, 0);
  });
}

/** Format number of arithmetic results by precision control. */
export function precisionFormat(m: Meaning): I32 {
  const control = load.i32_16U(i32(REG.FCW)).shrU(8).and(3);
  return m.f.tmp(control.eqz().select(i32(4), control.eq(2).select(i32(3), i32(2))));
}
