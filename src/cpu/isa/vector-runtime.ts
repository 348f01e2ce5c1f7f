import type { FunctionReference } from "../../wasm/function.js";

/** Functions of the generated module behind vector instructions that are too long to stand in each handler. */
export interface VectorRuntime {
  /** Product of two polynomials over GF(2): 64 x 64 bits. */
  readonly multiplyCarryless: FunctionReference<readonly ["i64", "i64"], "v128">;
  /** PCMPxSTRx, (first operand, second operand, their lengths in elements, immediate): IntRes2 of the SDM. */
  readonly compareStrings: FunctionReference<readonly ["v128", "v128", "i32", "i32", "i32"], "i32">;
  /** AES: S-box of all bytes and its inverse, MixColumns and its inverse. */
  readonly aesSubstitute: FunctionReference<readonly ["v128"], "v128">;
  readonly aesSubstituteInverse: FunctionReference<readonly ["v128"], "v128">;
  readonly aesMixColumns: FunctionReference<readonly ["v128"], "v128">;
  readonly aesMixColumnsInverse: FunctionReference<readonly ["v128"], "v128">;
  /** SHA1RNDS4, (A B C D, message words, immediate). */
  readonly sha1Rounds: FunctionReference<readonly ["v128", "v128", "i32"], "v128">;
  /** SHA256RNDS2, (C D G H, A B E F, message words with their constants added). */
  readonly sha256Rounds: FunctionReference<readonly ["v128", "v128", "v128"], "v128">;
}
