import { FLAG } from "../../fpu/format.js";
import { STATUS } from "../../fpu/x87-control.js";
import {
  denormalFlag,
  type Extended,
  invalid,
  isNan,
  propagate,
  type Rounded,
  type RoundingControl,
  round,
  withFlags,
  zero,
} from "./extended.js";

/** FPREM and FPREM1 (SDM 2A): exact, in steps if the exponents are far apart. */

/** Below this difference of exponents one step gives the remainder. */
const COMPLETE = 64;

export interface Remainder {
  readonly result: Rounded;
  /** C2 (reduction is not complete) or the three lowest bits of the quotient in C0, C3 and C1. */
  readonly codes: number;
}

/** By how much the exponent is reduced in an incomplete step: 32 to 63, so that the difference becomes a multiple of 32. */
const reduction = (difference: number): number => (difference & 31) | 32;

const quotientCodes = (quotient: bigint): number =>
  (quotient & 1n ? STATUS.C1 : 0) | (quotient & 2n ? STATUS.C3 : 0) | (quotient & 4n ? STATUS.C0 : 0);

/** @param nearest true for FPREM1: the quotient is rounded to nearest even instead of towards zero. */
export function remainder(a: Extended, b: Extended, nearest: boolean, control: RoundingControl): Remainder {
  const special = specialCase(a, b, control);
  if (special) return { result: special, codes: 0 };
  const denormal = denormalFlag(a, b);
  const difference = a.exponent - b.exponent;
  // The operands in units of the last bit of the smaller exponent: everything is an integer then.
  const dividend = difference > 0 ? a.significand << BigInt(difference) : a.significand;
  const divisor = difference < 0 ? b.significand << BigInt(-difference) : b.significand;
  const unit = Math.min(a.exponent, b.exponent) - 63;
  if (difference >= COMPLETE) {
    const step = divisor << BigInt(difference - reduction(difference));
    return { result: signed(a.sign, dividend % step, unit, denormal, control), codes: STATUS.C2 };
  }
  let quotient = dividend / divisor;
  let rest = dividend - quotient * divisor;
  if (nearest && (2n * rest > divisor || (2n * rest === divisor && quotient & 1n))) {
    quotient++;
    rest -= divisor;
  }
  return { result: signed(a.sign, rest, unit, denormal, control), codes: quotientCodes(quotient) };
}

function signed(sign: 0 | 1, rest: bigint, unit: number, flags: number, control: RoundingControl): Rounded {
  if (rest === 0n) return zero(sign, flags);
  const result = rest < 0n ? round(sign ^ 1, -rest, unit, control) : round(sign, rest, unit, control);
  return withFlags(result, flags);
}

function specialCase(a: Extended, b: Extended, control: RoundingControl): Rounded | null {
  if (isNan(a) || isNan(b)) return propagate(a, b);
  if (a.kind === "infinity" || b.kind === "zero") return invalid();
  const flags = denormalFlag(a, b);
  if (a.kind === "zero") return zero(a.sign, flags);
  if (b.kind === "infinity") return withFlags(round(a.sign, a.significand, a.exponent - 63, control), flags);
  return null;
}

/** The condition codes are set only if a remainder has been computed. */
export const computed = ({ result }: Remainder): boolean => (result.flags & FLAG.INVALID) === 0;
