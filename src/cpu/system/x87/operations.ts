import { STATUS } from "../../fpu/x87-control.js";
import { REG } from "../../layout.js";
import type { CpuState } from "../../state.js";
import type { SystemOperation } from "../environment.js";
import { x87DecimalOperations } from "./decimal.js";
import {
  type Bits,
  type Extended,
  one,
  type Rounded,
  type RoundingControl,
  roundingControl,
  unpack,
} from "./extended.js";
import {
  arctangent,
  type Binary,
  cosine,
  power,
  sine,
  tangent,
  type Unary,
  yLog2x,
  yLog2xPlusOne,
} from "./functions.js";
import { x87ImageOperations } from "./image.js";
import { computed, remainder } from "./remainder.js";
import { extract, scale } from "./scale.js";
import { begin, changeStatus, finish, isEmpty, pop, push, readStack, STACK_FAULT, start, writeStack } from "./stack.js";
import { OUT_OF_RANGE } from "./trigonometric.js";

/** x87 instructions that are carried out outside the executor, by their way through the register stack. */

interface Operands {
  readonly state: CpuState;
  readonly control: RoundingControl;
  /** ST(i). */
  readonly st: (i: number) => Extended;
}

/** #NM and #MF, then the instruction's own work. */
const operation =
  (work: (operands: Operands) => void): SystemOperation =>
  (environment) => {
    begin(environment);
    start(environment);
    const { state } = environment;
    work({
      state,
      control: roundingControl(state.get16(REG.FCW)),
      st: (i) => unpack(readStack(state, i)),
    });
    return "next";
  };

/** Finishes with a result that replaces ST(0). */
function replace(state: CpuState, result: Rounded): void {
  if (finish(state, result.flags, result.roundedUp)) writeStack(state, 0, result);
}

/** Finishes with a result that replaces ST(0), and a second one that is pushed. */
function replaceAndPush(state: CpuState, first: Rounded, second: Rounded): void {
  if (!finish(state, first.flags | second.flags, second.roundedUp)) return;
  writeStack(state, 0, first);
  push(state, second);
}

/** A full register above the stack is a fault with C1, after an empty ST(0), which is one without. */
function faultOfPush(state: CpuState): boolean {
  const empty = isEmpty(state, 0);
  if (!empty && isEmpty(state, 7)) return false;
  if (!empty) changeStatus(state, 0, STATUS.C1);
  replaceAndPush(state, STACK_FAULT, STACK_FAULT);
  return true;
}

const isOutOfRange = ({ kind, exponent }: Extended): boolean => kind === "finite" && exponent >= OUT_OF_RANGE;

const unary = (compute: Unary): SystemOperation =>
  operation(({ state, control, st }) => replace(state, isEmpty(state, 0) ? STACK_FAULT : compute(st(0), control)));

/** FSIN and FCOS: C2 says that the argument is out of range and nothing has been done. */
const trigonometric = (compute: Unary): SystemOperation =>
  operation(({ state, control, st }) => {
    changeStatus(state, STATUS.C2, 0);
    if (isEmpty(state, 0)) replace(state, STACK_FAULT);
    else if (isOutOfRange(st(0))) changeStatus(state, 0, STATUS.C2);
    else replace(state, compute(st(0), control));
  });

/** FPTAN and FSINCOS. */
const trigonometricPair = (
  first: Unary,
  second: (x: Extended, control: RoundingControl, first: Rounded) => Rounded,
): SystemOperation =>
  operation(({ state, control, st }) => {
    changeStatus(state, STATUS.C2, 0);
    if (faultOfPush(state)) return;
    const x = st(0);
    if (isOutOfRange(x)) changeStatus(state, 0, STATUS.C2);
    else {
      const result = first(x, control);
      replaceAndPush(state, result, second(x, control, result));
    }
  });

/** ST(1) := something of ST(1) and ST(0), then pop. */
const binary = (compute: Binary): SystemOperation =>
  operation(({ state, control, st }) => {
    const empty = isEmpty(state, 0) || isEmpty(state, 1);
    const result = empty ? STACK_FAULT : compute(st(1), st(0), control);
    if (!finish(state, result.flags, result.roundedUp)) return;
    pop(state);
    writeStack(state, 0, result);
  });

const remainderOperation = (nearest: boolean): SystemOperation =>
  operation(({ state, control, st }) => {
    changeStatus(state, STATUS.C2, 0);
    if (isEmpty(state, 0) || isEmpty(state, 1)) return replace(state, STACK_FAULT);
    const found = remainder(st(0), st(1), nearest, control);
    if (computed(found)) changeStatus(state, STATUS.CODES, found.codes);
    replace(state, found.result);
  });

const isFiniteNumber = ({ high }: Bits): boolean => (high & 0x7fff) !== 0x7fff;

export const x87Operations: Readonly<Record<string, SystemOperation>> = {
  ...x87ImageOperations,
  ...x87DecimalOperations,
  fprem: remainderOperation(false),
  fprem1: remainderOperation(true),
  fscale: operation(({ state, control, st }) =>
    replace(state, isEmpty(state, 0) || isEmpty(state, 1) ? STACK_FAULT : scale(st(0), st(1), control)),
  ),
  fxtract: operation(({ state, control, st }) => {
    if (faultOfPush(state)) return;
    const { exponent, significand } = extract(st(0), control);
    replaceAndPush(state, exponent, significand);
  }),
  f2xm1: unary(power),
  fyl2x: binary(yLog2x),
  fyl2xp1: binary(yLog2xPlusOne),
  fpatan: binary(arctangent),
  fsin: trigonometric(sine),
  fcos: trigonometric(cosine),
  // For a NaN there is no 1 behind the tangent, but the NaN once more.
  fptan: trigonometricPair(tangent, (_, __, result) => (isFiniteNumber(result) ? one() : result)),
  fsincos: trigonometricPair(sine, cosine),
};
