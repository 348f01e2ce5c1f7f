import { type I32, type I64, i32, load, store } from "../../wasm/expression.js";
import type { FunctionBuilder } from "../../wasm/function.js";
import { FPU, FPU_CLASS, FPU_OPERAND } from "../layout.js";

/** An unpacked operand at an address, as expressions. */
export class Operand {
  readonly at: I32;
  constructor(at: number | I32) {
    this.at = typeof at === "number" ? i32(at) : at;
  }
  get significand(): I64 {
    return load.i64(this.at, FPU_OPERAND.SIGNIFICAND);
  }
  get exponent(): I32 {
    return load.i32(this.at, FPU_OPERAND.EXPONENT);
  }
  get sign(): I32 {
    return load.i32(this.at, FPU_OPERAND.SIGN);
  }
  get class(): I32 {
    return load.i32(this.at, FPU_OPERAND.CLASS);
  }
  get denormal(): I32 {
    return load.i32(this.at, FPU_OPERAND.DENORMAL);
  }
  get isNan(): I32 {
    return this.class.geU(FPU_CLASS.QUIET);
  }
  is(kind: keyof typeof FPU_CLASS): I32 {
    return this.class.eq(FPU_CLASS[kind]);
  }
  set(
    f: FunctionBuilder,
    values: { significand?: I64; exponent?: I32; sign?: I32; class?: I32 | number; denormal?: I32 | number },
  ): void {
    const word = (value: I32 | number): I32 => (typeof value === "number" ? i32(value) : value);
    if (values.significand) f.emit(store.i64(this.at, values.significand, FPU_OPERAND.SIGNIFICAND));
    if (values.exponent) f.emit(store.i32(this.at, values.exponent, FPU_OPERAND.EXPONENT));
    if (values.sign) f.emit(store.i32(this.at, values.sign, FPU_OPERAND.SIGN));
    if (values.class !== undefined) f.emit(store.i32(this.at, word(values.class), FPU_OPERAND.CLASS));
    if (values.denormal !== undefined) f.emit(store.i32(this.at, word(values.denormal), FPU_OPERAND.DENORMAL));
  }
}

export const A = new Operand(FPU.A);
export const B = new Operand(FPU.B);

export const flags = (): I32 => load.i32(i32(FPU.FLAGS));
export const control = (): I32 => load.i32(i32(FPU.CONTROL));

/** Adds exception flags. */
export function raise(f: FunctionBuilder, bits: number | I32): void {
  f.emit(store.i32(i32(FPU.FLAGS), flags().or(bits)));
}
