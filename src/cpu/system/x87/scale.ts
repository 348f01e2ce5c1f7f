import { FLAG } from "../../fpu/format.js";
import {
  denormalFlag,
  type Extended,
  infinity,
  invalid,
  isNan,
  propagate,
  type Rounded,
  type RoundingControl,
  round,
  withFlags,
  zero,
} from "./extended.js";

/** FSCALE and FXTRACT: work on the exponent alone. */

/** No scale beyond this makes a difference: twice the range of the exponents. */
const MOST = 0x1_0000;

/** The scale of FSCALE: chopped to an integer. */
function integerPart({ exponent, sign, significand }: Extended): number {
  if (exponent < 0) return 0;
  const magnitude = exponent > 16 ? MOST : Math.min(MOST, Number(significand >> BigInt(63 - exponent)));
  return sign ? -magnitude : magnitude;
}

/** a * 2^(b, chopped) (SDM 2A, FSCALE). */
export function scale(a: Extended, b: Extended, control: RoundingControl): Rounded {
  if (isNan(a) || isNan(b)) return propagate(a, b);
  const flags = denormalFlag(a, b);
  if (b.kind === "infinity") {
    if (a.kind === "infinity") return b.sign ? invalid() : infinity(a.sign);
    if (a.kind === "zero") return b.sign ? zero(a.sign) : invalid();
    return b.sign ? zero(a.sign, flags) : infinity(a.sign, flags);
  }
  if (a.kind === "infinity") return infinity(a.sign, flags);
  if (a.kind === "zero") return zero(a.sign, flags);
  const by = b.kind === "zero" ? 0 : integerPart(b);
  return withFlags(round(a.sign, a.significand, a.exponent - 63 + by, control), flags);
}

/** Exponent and significand of a number, each as a number (SDM 2A, FXTRACT). */
export function extract(a: Extended, control: RoundingControl): { exponent: Rounded; significand: Rounded } {
  if (isNan(a)) {
    const result = propagate(a);
    return { exponent: result, significand: result };
  }
  if (a.kind === "infinity") return { exponent: infinity(0), significand: infinity(a.sign) };
  if (a.kind === "zero") return { exponent: infinity(1, FLAG.ZERO_DIVIDE), significand: zero(a.sign) };
  const flags = denormalFlag(a);
  const { exponent } = a;
  return {
    exponent:
      exponent === 0
        ? zero(0, flags)
        : withFlags(round(exponent < 0 ? 1 : 0, BigInt(Math.abs(exponent)), 0, control), flags),
    significand: round(a.sign, a.significand, -63, control),
  };
}
