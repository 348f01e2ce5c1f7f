import type { ModuleBuilder } from "../../wasm/module.js";
import type { VectorRuntime } from "../isa/vector-runtime.js";
import { defineAes } from "./aes.js";
import { defineCompareStrings } from "./compare-strings.js";
import { defineMultiplyCarryless } from "./multiply-carryless.js";
import { defineSha } from "./sha.js";

export function declareVector(module: ModuleBuilder): VectorRuntime {
  return {
    multiplyCarryless: module.declare(["i64", "i64"], "v128"),
    compareStrings: module.declare(["v128", "v128", "i32", "i32", "i32"], "i32"),
    aesSubstitute: module.declare(["v128"], "v128"),
    aesSubstituteInverse: module.declare(["v128"], "v128"),
    aesMixColumns: module.declare(["v128"], "v128"),
    aesMixColumnsInverse: module.declare(["v128"], "v128"),
    sha1Rounds: module.declare(["v128", "v128", "i32"], "v128"),
    sha256Rounds: module.declare(["v128", "v128", "v128"], "v128"),
  };
}

export function defineVector(module: ModuleBuilder, runtime: VectorRuntime): void {
  defineMultiplyCarryless(module, runtime);
  defineCompareStrings(module, runtime);
  defineAes(module, runtime);
  defineSha(module, runtime);
}
