import { type Approximation, beside, fromFixed, LEAST_EXPONENT, toFixed } from "./approximation.js";
import type { Extended } from "./extended.js";
import { arctangent, cosine, divide, PI, PLACES, sine } from "./fixed-point.js";

/** Sine, cosine, tangent and arctangent of finite arguments other than zero. */

/** Arguments from 2^63 on are out of range: C2. */
export const OUT_OF_RANGE = 63;
/** Half of the 66-bit pi that arguments are reduced with (SDM 1 8.3.8), in fixed point. */
const HALF_PI_66 = (0xc90fdaa22168c234cn << BigInt(PLACES - 66)) >> 1n;

/** x = quadrant * pi / 2 + rest, with |rest| at most pi / 4. */
function reduce(x: bigint): { quadrant: number; rest: bigint } {
  const magnitude = x < 0n ? -x : x;
  const turns = (2n * magnitude + HALF_PI_66) / (2n * HALF_PI_66);
  const rest = magnitude - turns * HALF_PI_66;
  return x < 0n ? { quadrant: Number(-turns & 3n), rest: -rest } : { quadrant: Number(turns & 3n), rest };
}

const isTiny = ({ exponent }: Extended): boolean => exponent < LEAST_EXPONENT;
const besideArgument = ({ sign, significand, exponent }: Extended, direction: 1 | -1): Approximation =>
  beside(sign, significand, exponent - 63, direction);

/** sin(rest + quadrant * pi / 2). */
function sineAt(quadrant: number, rest: bigint): bigint {
  const value = quadrant & 1 ? cosine(rest) : sine(rest);
  return quadrant & 2 ? -value : value;
}

export function sin(x: Extended): Approximation {
  if (isTiny(x)) return besideArgument(x, -1);
  const { quadrant, rest } = reduce(toFixed(x));
  return fromFixed(sineAt(quadrant, rest));
}

export function cos(x: Extended): Approximation {
  if (isTiny(x)) return beside(0, 1n << 63n, -63, -1);
  const { quadrant, rest } = reduce(toFixed(x));
  return fromFixed(sineAt((quadrant + 1) & 3, rest));
}

export function tan(x: Extended): Approximation {
  if (isTiny(x)) return besideArgument(x, 1);
  const { quadrant, rest } = reduce(toFixed(x));
  return fromFixed(quadrant & 1 ? -divide(cosine(rest), sine(rest)) : divide(sine(rest), cosine(rest)));
}

/** Angle of the point (x, y): what FPATAN gives for two finite numbers other than zero. */
export function atan2(y: Extended, x: Extended): Approximation {
  const distance = y.exponent - x.exponent;
  if (distance < LEAST_EXPONENT && !x.sign) {
    // The arctangent lies just below the quotient.
    const places = 3 * 64;
    return beside(y.sign, (y.significand << BigInt(places)) / x.significand, distance - places, -1);
  }
  const ratio = (a: Extended, b: Extended): bigint => {
    const places = PLACES + a.exponent - b.exponent;
    return places < 0 ? 0n : (a.significand << BigInt(places)) / b.significand;
  };
  const steep = distance > 0 || (distance === 0 && y.significand > x.significand);
  const acute = steep ? PI / 2n - arctangent(ratio(x, y)) : arctangent(ratio(y, x));
  const angle = fromFixed(x.sign ? PI - acute : acute);
  return { ...angle, sign: y.sign };
}

/** Multiples of pi / 4, for the special values of FPATAN. */
export function quarterTurns(sign: number, count: number): Approximation {
  return { ...fromFixed((PI * BigInt(count)) / 4n), sign: sign as 0 | 1 };
}
