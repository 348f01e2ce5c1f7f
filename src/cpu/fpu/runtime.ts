import type { FunctionReference } from "../../wasm/function.js";
import type { ModuleBuilder } from "../../wasm/module.js";

/**
 * Soft-float in the generated module: one arithmetic for SSE and x87. Operands are unpacked into FPU.A and FPU.B, an
 * operation rounds to a format (by its number in `format.ts`) and adds to FPU.FLAGS. Results of the single and double
 * formats are returned as bits; double-extended ones lie in FPU.RESULT.
 */
export interface FpuRuntime {
  /** (operand, bits). */
  readonly fpUnpack32: FunctionReference<readonly ["i32", "i64"], null>;
  readonly fpUnpack64: FunctionReference<readonly ["i32", "i64"], null>;
  /** (operand, significand, sign and exponent). */
  readonly fpUnpack80: FunctionReference<readonly ["i32", "i64", "i32"], null>;
  /** (operand, integer). */
  readonly fpUnpackInteger: FunctionReference<readonly ["i32", "i64"], null>;
  /** (sign, exponent, high and low significand, format): rounds a number whose high significand has bit 63 set. */
  readonly fpRound: FunctionReference<readonly ["i32", "i32", "i64", "i64", "i32"], "i64">;
  /** (sign, class, significand, format): zero, infinity or NaN. */
  readonly fpSpecial: FunctionReference<readonly ["i32", "i32", "i64", "i32"], "i64">;
  /** (format): the NaN that an operation on A and B with a NaN among them gives. */
  readonly fpNan: FunctionReference<readonly ["i32"], "i64">;
  /** (format): the default NaN, with IE. */
  readonly fpInvalid: FunctionReference<readonly ["i32"], "i64">;
  /** (format, 1 to negate B). */
  readonly fpAdd: FunctionReference<readonly ["i32", "i32"], "i64">;
  readonly fpMultiply: FunctionReference<readonly ["i32"], "i64">;
  readonly fpDivide: FunctionReference<readonly ["i32"], "i64">;
  /** Of A. */
  readonly fpSquareRoot: FunctionReference<readonly ["i32"], "i64">;
  /** A in another format. */
  readonly fpConvert: FunctionReference<readonly ["i32"], "i64">;
  /** (format, rounding): A as an integral number; the caller decides about PE. */
  readonly fpRoundToIntegral: FunctionReference<readonly ["i32", "i32"], "i64">;
  /** (bits of the integer, rounding): A as a signed integer, or the integer indefinite with IE. */
  readonly fpToInteger: FunctionReference<readonly ["i32", "i32"], "i64">;
  /** Clears FPU.FLAGS and takes rounding and denormal control from MXCSR. */
  readonly fpBeginSse: FunctionReference<readonly [], null>;
  /** Enters the flags into MXCSR; 1 if an unmasked exception was raised instead. */
  readonly fpEndSse: FunctionReference<readonly [], "i32">;
  /** Clears FPU.FLAGS and takes control from FCW. */
  readonly fpBeginX87: FunctionReference<readonly [], null>;
  /** (1: the destination is memory): enters flags, C1 and ES into FSW; 1 if the result must not be stored. */
  readonly fpEndX87: FunctionReference<readonly ["i32"], "i32">;
  /** (1: quiet NaNs are invalid too): 0 equal, 1 A < B, 2 A > B, 3 unordered. */
  readonly fpCompare: FunctionReference<readonly ["i32"], "i32">;
}

export function declareFpu(module: ModuleBuilder): FpuRuntime {
  return {
    fpUnpack32: module.declare(["i32", "i64"], null),
    fpUnpack64: module.declare(["i32", "i64"], null),
    fpUnpack80: module.declare(["i32", "i64", "i32"], null),
    fpUnpackInteger: module.declare(["i32", "i64"], null),
    fpRound: module.declare(["i32", "i32", "i64", "i64", "i32"], "i64"),
    fpSpecial: module.declare(["i32", "i32", "i64", "i32"], "i64"),
    fpNan: module.declare(["i32"], "i64"),
    fpInvalid: module.declare(["i32"], "i64"),
    fpAdd: module.declare(["i32", "i32"], "i64"),
    fpMultiply: module.declare(["i32"], "i64"),
    fpDivide: module.declare(["i32"], "i64"),
    fpSquareRoot: module.declare(["i32"], "i64"),
    fpConvert: module.declare(["i32"], "i64"),
    fpRoundToIntegral: module.declare(["i32", "i32"], "i64"),
    fpToInteger: module.declare(["i32", "i32"], "i64"),
    fpBeginSse: module.declare([], null),
    fpEndSse: module.declare([], "i32"),
    fpBeginX87: module.declare([], null),
    fpEndX87: module.declare(["i32"], "i32"),
    fpCompare: module.declare(["i32"], "i32"),
  };
}
