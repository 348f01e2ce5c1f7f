/** Exception flags, in the order of MXCSR and of the x87 status word. */
export const FLAG = { INVALID: 1, DENORMAL: 2, ZERO_DIVIDE: 4, OVERFLOW: 8, UNDERFLOW: 16, PRECISION: 32 } as const;

/** A format that results are rounded to. The number is what the generated functions take. */
export interface Format {
  readonly number: number;
  /** Bits of the significand, the leading one included. */
  readonly precision: number;
  /** Exponents of the smallest and the largest normal number. */
  readonly minimum: number;
  readonly maximum: number;
}

/** Single, double, and double-extended with the three settings of x87 precision control. */
export const FORMAT = {
  SINGLE: { number: 0, precision: 24, minimum: -126, maximum: 127 },
  DOUBLE: { number: 1, precision: 53, minimum: -1022, maximum: 1023 },
  EXTENDED: { number: 2, precision: 64, minimum: -16382, maximum: 16383 },
  EXTENDED_53: { number: 3, precision: 53, minimum: -16382, maximum: 16383 },
  EXTENDED_24: { number: 4, precision: 24, minimum: -16382, maximum: 16383 },
} as const satisfies Record<string, Format>;

export const FORMATS: readonly Format[] = [
  FORMAT.SINGLE,
  FORMAT.DOUBLE,
  FORMAT.EXTENDED,
  FORMAT.EXTENDED_53,
  FORMAT.EXTENDED_24,
];
/** Formats from this number on are double-extended: their results lie in FPU.RESULT. */
export const EXTENDED_FROM = 2;
