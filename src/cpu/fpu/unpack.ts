import { type I32, type I64, i32, i64 } from "../../wasm/expression.js";
import type { FunctionBuilder, FunctionReference } from "../../wasm/function.js";
import type { ModuleBuilder } from "../../wasm/module.js";
import { FPU_CLASS, FPU_CONTROL } from "../layout.js";
import { control, Operand } from "./operand.js";
import type { FpuRuntime } from "./runtime.js";

const INTEGER_BIT = 1n << 63n;
const QUIET_BIT = 1n << 62n;

/** Sets class and significand of a NaN whose fraction stands below bit 63. */
function setNan(f: FunctionBuilder, operand: Operand, significand: I64): void {
  const quiet = significand.and(QUIET_BIT).ne(0n);
  operand.set(f, { significand, class: quiet.select(i32(FPU_CLASS.QUIET), i32(FPU_CLASS.SIGNALING)) });
}

/** Normalises a non-zero fraction that stands for fraction * 2^(exponent - 63). */
function setDenormal(f: FunctionBuilder, operand: Operand, fraction: I64, exponent: I32): void {
  const shift = f.tmp(fraction.clz());
  operand.set(f, {
    significand: fraction.shl(shift),
    exponent: exponent.sub(shift.toI32()),
    class: FPU_CLASS.FINITE,
    denormal: 1,
  });
}

/** Single and double: fraction bits, exponent bits. */
function defineInterchange(
  module: ModuleBuilder,
  target: FunctionReference<readonly ["i32", "i64"], null>,
  fractionBits: number,
  exponentBits: number,
): void {
  const bias = 2 ** (exponentBits - 1) - 1;
  const most = 2 ** exponentBits - 1;
  const up = BigInt(63 - fractionBits);
  module.define(target, (f) => {
    const operand = new Operand(f.parameter(0, "i32").get);
    const bits = f.parameter(1, "i64").get;
    const fraction = f.tmp(bits.and((1n << BigInt(fractionBits)) - 1n).shl(up));
    const exponent = f.tmp(bits.shrU(BigInt(fractionBits)).toI32().and(most));
    operand.set(f, {
      sign: bits
        .shrU(BigInt(fractionBits + exponentBits))
        .toI32()
        .and(1),
      denormal: 0,
    });
    f.if(exponent.eq(most), () => {
      f.if(
        fraction.eqz(),
        () => operand.set(f, { significand: i64(INTEGER_BIT), class: FPU_CLASS.INFINITY }),
        () => setNan(f, operand, fraction.or(INTEGER_BIT)),
      );
      f.return();
    });
    f.if(exponent, () => {
      operand.set(f, { significand: fraction.or(INTEGER_BIT), exponent: exponent.sub(bias), class: FPU_CLASS.FINITE });
      f.return();
    });
    f.if(fraction.eqz().or(control().and(FPU_CONTROL.DENORMALS_ARE_ZERO)), () => {
      operand.set(f, { significand: i64(0n), class: FPU_CLASS.ZERO });
      f.return();
    });
    setDenormal(f, operand, fraction, i32(1 - bias));
  });
}

/** Double-extended. Unnormals, pseudo-infinities and pseudo-NaNs are not supported: they act like a signaling NaN. */
function defineExtended(module: ModuleBuilder, target: FunctionReference<readonly ["i32", "i64", "i32"], null>): void {
  module.define(target, (f) => {
    const operand = new Operand(f.parameter(0, "i32").get);
    const significand = f.parameter(1, "i64").get;
    const signExponent = f.parameter(2, "i32").get;
    const exponent = f.tmp(signExponent.and(0x7fff));
    operand.set(f, { sign: signExponent.shrU(15).and(1), denormal: 0 });
    f.if(exponent.eqz(), () => {
      f.if(
        significand.eqz(),
        () => operand.set(f, { significand: i64(0n), class: FPU_CLASS.ZERO }),
        // A pseudo-denormal has the integer bit set: shift 0, and the exponent of the smallest normal number.
        () => setDenormal(f, operand, significand, i32(-16382)),
      );
      f.return();
    });
    f.if(significand.geS(0n), () => {
      operand.set(f, { significand: i64(UNSUPPORTED), class: FPU_CLASS.SIGNALING });
      f.return();
    });
    f.if(exponent.eq(0x7fff), () => {
      f.if(
        significand.eq(INTEGER_BIT),
        () => operand.set(f, { significand, class: FPU_CLASS.INFINITY }),
        () => setNan(f, operand, significand),
      );
      f.return();
    });
    operand.set(f, { significand, exponent: exponent.sub(16383), class: FPU_CLASS.FINITE });
  });
}

/** Significand that marks an operand in a format that is not supported: bit 63 clear. */
export const UNSUPPORTED = 1n;

function defineInteger(module: ModuleBuilder, target: FunctionReference<readonly ["i32", "i64"], null>): void {
  module.define(target, (f) => {
    const operand = new Operand(f.parameter(0, "i32").get);
    const value = f.parameter(1, "i64").get;
    f.if(value.eqz(), () => {
      operand.set(f, { significand: i64(0n), sign: i32(0), class: FPU_CLASS.ZERO, denormal: 0 });
      f.return();
    });
    const sign = f.tmp(value.shrS(63n));
    const magnitude = f.tmp(value.xor(sign).sub(sign));
    const shift = f.tmp(magnitude.clz());
    operand.set(f, {
      significand: magnitude.shl(shift),
      exponent: i32(63).sub(shift.toI32()),
      sign: sign.toI32().and(1),
      class: FPU_CLASS.FINITE,
      denormal: 0,
    });
  });
}

export function defineUnpack(module: ModuleBuilder, runtime: FpuRuntime): void {
  defineInterchange(module, runtime.fpUnpack32, 23, 8);
  defineInterchange(module, runtime.fpUnpack64, 52, 11);
  defineExtended(module, runtime.fpUnpack80);
  defineInteger(module, runtime.fpUnpackInteger);
}
