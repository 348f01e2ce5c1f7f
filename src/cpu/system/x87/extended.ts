import { FLAG } from "../../fpu/format.js";

/** The double-extended format on big integers: unpacking, rounding and NaNs, as the generated soft-float does it. */

/** A register: sign and biased exponent, significand with its explicit leading bit. */
export interface Bits {
  readonly high: number;
  readonly significand: bigint;
}

export type Kind = "zero" | "finite" | "infinity" | "quiet" | "signaling" | "unsupported";

/** An unpacked register. A finite value is significand * 2^(exponent - 63), with bit 63 of the significand set. */
export interface Extended {
  readonly kind: Kind;
  readonly sign: 0 | 1;
  readonly exponent: number;
  readonly significand: bigint;
  readonly denormal: boolean;
}

/** What an operation gives: bits, exception flags, and whether the last rounding went away from zero. */
export interface Rounded extends Bits {
  readonly flags: number;
  readonly roundedUp: boolean;
}

/** What governs rounding, from the control word. */
export interface RoundingControl {
  /** RC: nearest even, down, up, toward zero. */
  readonly mode: 0 | 1 | 2 | 3;
  readonly underflowUnmasked: boolean;
  readonly overflowUnmasked: boolean;
}

const RC = { NEAREST: 0, DOWN: 1, UP: 2, ZERO: 3 } as const;
const BIAS = 16383;
const MINIMUM = -16382;
const MAXIMUM = 16383;
const EXPONENT_MASK = 0x7fff;
const INTEGER_BIT = 1n << 63n;
const QUIET_BIT = 1n << 62n;
const PRECISION = 64;
const LARGEST = (1n << 64n) - 1n;
/** By how much an unmasked overflow or underflow changes the exponent (SDM 1 8.5.4): 3 * 2^13. */
const WRAP = 24576;

export const DEFAULT_NAN: Bits = { high: 0xffff, significand: 3n << 62n };

export const roundingControl = (fcw: number): RoundingControl => ({
  mode: ((fcw >> 10) & 3) as 0 | 1 | 2 | 3,
  underflowUnmasked: (fcw & FLAG.UNDERFLOW) === 0,
  overflowUnmasked: (fcw & FLAG.OVERFLOW) === 0,
});

/** Number of bits of a positive integer. */
export function bitLength(value: bigint): number {
  const digits = value.toString(16);
  return digits.length * 4 - (Math.clz32(Number.parseInt(digits[0] as string, 16)) - 28);
}

export function unpack({ high, significand }: Bits): Extended {
  const sign = (high >> 15) as 0 | 1;
  const biased = high & EXPONENT_MASK;
  const plain = { sign, exponent: biased - BIAS, significand, denormal: false };
  if (biased === 0) {
    if (significand === 0n) return { ...plain, kind: "zero" };
    const shift = PRECISION - bitLength(significand);
    return {
      kind: "finite",
      sign,
      exponent: MINIMUM - shift,
      significand: significand << BigInt(shift),
      denormal: true,
    };
  }
  if (!(significand & INTEGER_BIT)) return { ...plain, kind: "unsupported" };
  if (biased !== EXPONENT_MASK) return { ...plain, kind: "finite" };
  if (significand === INTEGER_BIT) return { ...plain, kind: "infinity" };
  return { ...plain, kind: significand & QUIET_BIT ? "quiet" : "signaling" };
}

export const isNan = ({ kind }: Extended): boolean =>
  kind === "quiet" || kind === "signaling" || kind === "unsupported";

const plain = (high: number, significand: bigint, flags = 0): Rounded => ({
  high,
  significand,
  flags,
  roundedUp: false,
});

export const zero = (sign: number, flags = 0): Rounded => plain(sign << 15, 0n, flags);
export const infinity = (sign: number, flags = 0): Rounded => plain((sign << 15) | EXPONENT_MASK, INTEGER_BIT, flags);
export const one = (sign = 0): Rounded => plain((sign << 15) | BIAS, INTEGER_BIT);
export const invalid = (): Rounded => plain(DEFAULT_NAN.high, DEFAULT_NAN.significand, FLAG.INVALID);
export const withFlags = (result: Rounded, flags: number): Rounded => ({ ...result, flags: result.flags | flags });
/** DE if one of the operands is denormal. */
export const denormalFlag = (...operands: readonly Extended[]): number =>
  operands.some(({ denormal }) => denormal) ? FLAG.DENORMAL : 0;

/**
 * The NaN that an operation with a NaN among its operands gives (SDM 1 table 4-7): a quiet one before a signaling one, then
 * the larger significand, then the positive one.
 */
export function propagate(...operands: readonly Extended[]): Rounded {
  if (operands.some(({ kind }) => kind === "unsupported")) return invalid();
  const flags = operands.some(({ kind }) => kind === "signaling") ? FLAG.INVALID : 0;
  const chosen = operands.filter(isNan).reduce((a, b) => {
    if (a.kind !== b.kind) return a.kind === "quiet" ? a : b;
    if (a.significand !== b.significand) return a.significand > b.significand ? a : b;
    return a.sign <= b.sign ? a : b;
  });
  return plain((chosen.sign << 15) | EXPONENT_MASK, chosen.significand | QUIET_BIT, flags);
}

interface Cut {
  readonly kept: bigint;
  readonly up: boolean;
  readonly inexact: boolean;
}

/** Drops the lowest bits and says whether what is kept must become one larger. */
export function cutOff(magnitude: bigint, bits: number, sign: number, mode: number): Cut {
  if (bits <= 0) return { kept: magnitude << BigInt(-bits), up: false, inexact: false };
  const kept = magnitude >> BigInt(bits);
  const rest = magnitude - (kept << BigInt(bits));
  const inexact = rest !== 0n;
  const half = 1n << BigInt(bits - 1);
  const up =
    mode === RC.NEAREST
      ? rest > half || (rest === half && (kept & 1n) === 1n)
      : inexact && mode === (sign ? RC.DOWN : RC.UP);
  return { kept, up, inexact };
}

/** Rounds magnitude * 2^exponent, magnitude > 0, to a register. */
export function round(sign: number, magnitude: bigint, exponent: number, control: RoundingControl): Rounded {
  const { mode } = control;
  const excess = bitLength(magnitude) - PRECISION;
  let top = excess + PRECISION - 1 + exponent;
  let flags = 0;
  let cut = cutOff(magnitude, excess, sign, mode);
  // Tininess is found after rounding, as if the exponent had no bounds.
  const carries = cut.up && cut.kept === LARGEST;
  const tiny = top < MINIMUM && !(top === MINIMUM - 1 && carries);
  if (tiny && control.underflowUnmasked) {
    flags |= FLAG.UNDERFLOW;
    top += WRAP;
    // Massive underflow, of FSCALE only.
    if (top < MINIMUM) return zero(sign, flags | FLAG.PRECISION);
  } else if (top < MINIMUM) {
    cut = cutOff(magnitude, excess + (MINIMUM - top), sign, mode);
    top = MINIMUM;
    if (tiny && cut.inexact) flags |= FLAG.UNDERFLOW;
  }
  let significand = cut.kept + (cut.up ? 1n : 0n);
  if (significand > LARGEST) {
    significand = INTEGER_BIT;
    top++;
  }
  if (cut.inexact) flags |= FLAG.PRECISION;
  if (top > MAXIMUM) {
    flags |= FLAG.OVERFLOW;
    if (!control.overflowUnmasked) return overflow(sign, mode, flags);
    top -= WRAP;
    // Massive overflow, of FSCALE only.
    if (top > MAXIMUM) return { ...infinity(sign, flags | FLAG.PRECISION), roundedUp: true };
  }
  const biased = significand & INTEGER_BIT ? top + BIAS : 0;
  return { high: (sign << 15) | biased, significand, flags, roundedUp: cut.up };
}

function overflow(sign: number, mode: number, flags: number): Rounded {
  const away = mode === RC.NEAREST || mode === (sign ? RC.DOWN : RC.UP);
  const all = flags | FLAG.PRECISION;
  if (away) return { ...infinity(sign, all), roundedUp: true };
  return plain((sign << 15) | (EXPONENT_MASK - 1), LARGEST, all);
}
