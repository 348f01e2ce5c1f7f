import { FLAG } from "../../fpu/format.js";
import type { Approximation } from "./approximation.js";
import { log2, log2OnePlus, powerLessOne, product } from "./exponential.js";
import {
  denormalFlag,
  type Extended,
  infinity,
  invalid,
  isNan,
  one,
  propagate,
  type Rounded,
  type RoundingControl,
  round,
  withFlags,
  zero,
} from "./extended.js";
import { atan2, cos, quarterTurns, sin, tan } from "./trigonometric.js";

/** The transcendental instructions with their special values (tables of SDM 2A). */

export type Unary = (x: Extended, control: RoundingControl) => Rounded;
/** Of ST(1) and ST(0). */
export type Binary = (y: Extended, x: Extended, control: RoundingControl) => Rounded;

const rounded = (value: Approximation, control: RoundingControl, flags: number): Rounded =>
  withFlags(round(value.sign, value.magnitude, value.exponent, control), flags);

/** A function of one operand that is invalid for infinities. */
const trigonometric =
  (compute: (x: Extended) => Approximation, atZero: (x: Extended) => Rounded): Unary =>
  (x, control) => {
    if (isNan(x)) return propagate(x);
    if (x.kind === "infinity") return invalid();
    return x.kind === "zero" ? atZero(x) : rounded(compute(x), control, denormalFlag(x));
  };

export const sine = trigonometric(sin, ({ sign }) => zero(sign));
export const cosine = trigonometric(cos, () => one());
export const tangent = trigonometric(tan, ({ sign }) => zero(sign));

/** 2^x - 1. The result for |x| > 1 is undefined: here it is x. */
export const power: Unary = (x, control) => {
  if (isNan(x)) return propagate(x);
  if (x.kind === "infinity") return x.sign ? one(1) : infinity(0);
  if (x.kind === "zero") return zero(x.sign);
  const beyond = x.exponent > 0 || (x.exponent === 0 && x.significand !== 1n << 63n);
  if (beyond) return round(x.sign, x.significand, x.exponent - 63, control);
  return rounded(powerLessOne(x), control, denormalFlag(x));
};

/** y times a logarithm whose sign, or being infinite or zero, is known. */
function times(y: Extended, sign: number, kind: "zero" | "finite" | "infinity", flags: number): Rounded | null {
  const result = y.sign ^ sign;
  const opposite = (a: string, b: string): boolean => y.kind === a && kind === b;
  if (opposite("zero", "infinity") || opposite("infinity", "zero")) return invalid();
  if (y.kind === "infinity" || kind === "infinity") return infinity(result, flags);
  if (y.kind === "zero" || kind === "zero") return zero(result, flags);
  return null;
}

/** y * log2 x (SDM 2A, FYL2X). */
export const yLog2x: Binary = (y, x, control) => {
  if (isNan(y) || isNan(x)) return propagate(x, y);
  if (x.kind === "zero") {
    if (y.kind === "zero") return invalid();
    return infinity(y.sign ^ 1, y.kind === "infinity" ? 0 : FLAG.ZERO_DIVIDE);
  }
  if (x.sign) return invalid();
  const flags = denormalFlag(y, x);
  if (x.kind === "infinity") return times(y, 0, "infinity", flags) ?? infinity(y.sign, flags);
  const logarithm = log2(x);
  const special = times(y, logarithm?.sign ?? 0, logarithm ? "finite" : "zero", flags);
  return special ?? rounded(product(y, logarithm as Approximation), control, flags);
};

/** y * log2(x + 1) (SDM 2A, FYL2XP1). From -1 downwards x is out of range: invalid. */
export const yLog2xPlusOne: Binary = (y, x, control) => {
  if (isNan(y) || isNan(x)) return propagate(x, y);
  const flags = denormalFlag(y, x);
  if (x.kind === "zero") return times(y, x.sign, "zero", flags) as Rounded;
  if (x.sign && (x.kind === "infinity" || x.exponent >= 0)) return invalid();
  if (x.kind === "infinity") return times(y, 0, "infinity", flags) as Rounded;
  const logarithm = log2OnePlus(x) as Approximation;
  return times(y, x.sign, "finite", flags) ?? rounded(product(y, logarithm), control, flags);
};

/** The angle in eighths of a circle where one of the operands is zero or infinite, without its sign (SDM 2A, FPATAN). */
function eighths(y: Extended, x: Extended): number | null {
  if (y.kind === "infinity") return x.kind === "infinity" ? (x.sign ? 3 : 1) : 2;
  if (x.kind === "infinity" || y.kind === "zero") return x.sign ? 4 : 0;
  return x.kind === "zero" ? 2 : null;
}

/** Angle of the point (x, y). */
export const arctangent: Binary = (y, x, control) => {
  if (isNan(y) || isNan(x)) return propagate(x, y);
  const flags = denormalFlag(y, x);
  const count = eighths(y, x);
  if (count === 0) return zero(y.sign, flags);
  return rounded(count === null ? atan2(y, x) : quarterTurns(y.sign, count), control, flags);
};
