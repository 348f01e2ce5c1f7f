import { type Approximation, about, exactly, fromFixed, LEAST_EXPONENT, toFixed } from "./approximation.js";
import { bitLength, type Extended } from "./extended.js";
import { divide, exponentialLessOne, LN2, logarithm, ONE, PLACES } from "./fixed-point.js";

/** Powers and logarithms to the base 2 of finite arguments. */

const SHIFT = BigInt(PLACES);
const INVERSE_LN2 = divide(ONE, LN2);
/** Square root of 2 to a few bits: where a logarithm takes the next power of two. */
const ROOT_2 = (ONE * 181n) / 128n;

/** x * factor, for arguments so small that the next term of the series does not matter. */
const linear = ({ sign, significand, exponent }: Extended, factor: bigint): Approximation =>
  about(sign, significand * factor, exponent - 63 - PLACES);

/** 2^x - 1 for x other than zero, |x| at most 1. */
export function powerLessOne(x: Extended): Approximation {
  if (x.exponent === 0) return x.sign ? exactly(1, 1n, -1) : exactly(0, 1n, 0);
  if (x.exponent < LEAST_EXPONENT) return linear(x, LN2);
  return fromFixed(exponentialLessOne((toFixed(x) * LN2) >> SHIFT));
}

/** log2 m * 2^power for a fixed-point m; null: the logarithm is zero. */
function log2Fixed(m: bigint, power: number): Approximation | null {
  const top = bitLength(m) - 1 - PLACES;
  const fraction = top >= 0 ? m >> BigInt(top) : m << BigInt(-top);
  const whole = BigInt(power + top);
  if (fraction === ONE) return whole === 0n ? null : exactly(whole < 0n ? 1 : 0, whole < 0n ? -whole : whole, 0);
  const near = fraction > ROOT_2;
  // A logarithm of a number near 1 must not lose bits to the addition of a whole number.
  const rest = divide(logarithm(near ? fraction / 2n : fraction), LN2);
  return fromFixed(rest + ((whole + (near ? 1n : 0n)) << SHIFT));
}

/** log2 x for positive x. */
export const log2 = ({ significand, exponent }: Extended): Approximation | null =>
  log2Fixed(significand << BigInt(PLACES - 63), exponent);

/** log2(1 + x) for x above -1 other than zero. */
export function log2OnePlus(x: Extended): Approximation | null {
  if (x.exponent < LEAST_EXPONENT) return linear(x, INVERSE_LN2);
  if (x.exponent > 128) return log2(x);
  return log2Fixed(ONE + toFixed(x), 0);
}

/** y times a logarithm. */
export function product(y: Extended, logarithmic: Approximation): Approximation {
  return exactly(
    y.sign ^ logarithmic.sign,
    y.significand * logarithmic.magnitude,
    y.exponent - 63 + logarithmic.exponent,
  );
}
