import type { Extended } from "./extended.js";
import { PLACES } from "./fixed-point.js";

/** A real number, known exactly or to many more bits than a register has. */
export interface Approximation {
  readonly sign: 0 | 1;
  /** Positive. Its value is magnitude * 2^exponent, and a little more if it is not exact. */
  readonly magnitude: bigint;
  readonly exponent: number;
}

/** Bits behind a significand that keep what lies just beside it apart from it. */
const BESIDE = 66;

export const exactly = (sign: number, magnitude: bigint, exponent: number): Approximation => ({
  sign: sign as 0 | 1,
  magnitude,
  exponent,
});

/** A number that no register can hold: one more bit makes it inexact in every rounding. */
export const about = (sign: number, magnitude: bigint, exponent: number): Approximation =>
  exactly(sign, (magnitude << 1n) | 1n, exponent - 1);

/** Just above or below a magnitude, by less than any rounding can see. */
export const beside = (sign: number, magnitude: bigint, exponent: number, direction: 1 | -1): Approximation =>
  exactly(sign, (magnitude << BigInt(BESIDE)) + BigInt(direction), exponent - BESIDE);

/** From a fixed-point number. */
export const fromFixed = (value: bigint): Approximation =>
  value < 0n ? about(1, -value, -PLACES) : about(0, value, -PLACES);

/** Smallest exponent of an argument that is computed with in fixed point. */
export const LEAST_EXPONENT = -100;

/** A finite value as a fixed-point number; its exponent must be at least LEAST_EXPONENT. */
export function toFixed({ sign, significand, exponent }: Extended): bigint {
  const magnitude = significand << BigInt(PLACES - 63 + exponent);
  return sign ? -magnitude : magnitude;
}
