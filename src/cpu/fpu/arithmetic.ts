import { type I32, type I64, i32, i64, load, store } from "../../wasm/expression.js";
import type { FunctionBuilder } from "../../wasm/function.js";
import type { ModuleBuilder } from "../../wasm/module.js";
import type { CoreRuntime } from "../interpreter/runtime.js";
import { FPU, FPU_CLASS, FPU_CONTROL, LOCAL } from "../layout.js";
import { EXTENDED_FROM, FLAG } from "./format.js";
import { A, B, control, type Operand, raise } from "./operand.js";
import { roundsUp, shiftRight } from "./round.js";

const DOWN = 1;
const TOP = 1n << 63n;

const special = (f: FunctionBuilder, runtime: CoreRuntime, sign: I32, kind: keyof typeof FPU_CLASS, format: I32): I64 =>
  f.call(runtime.fpSpecial, sign, i32(FPU_CLASS[kind]), i64(TOP), format);

/** DE, once it is clear that no NaN and no invalid operation has precedence. */
const raiseDenormal = (f: FunctionBuilder, ...operands: Operand[]): void => {
  const any = operands.map((operand) => operand.denormal).reduce((sum, one) => sum.or(one));
  f.if(any, () => raise(f, FLAG.DENORMAL));
};

function defineNan(module: ModuleBuilder, runtime: CoreRuntime): void {
  module.define(runtime.fpNan, (f) => {
    const format = f.parameter(0, "i32").get;
    f.if(A.is("SIGNALING").or(B.is("SIGNALING")), () => raise(f, FLAG.INVALID));
    // An operand in an unsupported format gives the default NaN.
    const unsupported = (operand: Operand): I32 => operand.is("SIGNALING").and(operand.significand.geS(0n));
    f.if(unsupported(A).or(unsupported(B)), () => f.return(f.call(runtime.fpInvalid, format)));
    const fromA = f.temporary("i32");
    f.if(
      format.geU(EXTENDED_FROM),
      () => {
        // x87: a quiet NaN before a signaling one, then the larger significand, then the positive one.
        const larger = A.significand
          .gtU(B.significand)
          .or(A.significand.eq(B.significand).and(A.sign.ltU(B.sign).or(A.sign.eq(B.sign))));
        const both = A.class.eq(B.class).select(larger, A.is("QUIET"));
        f.set(fromA, A.isNan.eqz().select(i32(0), B.isNan.eqz().select(i32(1), both)));
      },
      () => f.set(fromA, A.isNan),
    );
    f.if(fromA.get, () => f.return(f.call(runtime.fpSpecial, A.sign, i32(FPU_CLASS.QUIET), A.significand, format)));
    f.return(f.call(runtime.fpSpecial, B.sign, i32(FPU_CLASS.QUIET), B.significand, format));
  });
}

function defineAdd(module: ModuleBuilder, runtime: CoreRuntime): void {
  module.define(runtime.fpAdd, (f) => {
    const format = f.parameter(0, "i32").get;
    f.if(A.isNan.or(B.isNan), () => f.return(f.call(runtime.fpNan, format)));
    B.set(f, { sign: B.sign.xor(f.parameter(1, "i32").get) });
    const same = f.tmp(A.sign.eq(B.sign));
    f.if(A.is("INFINITY"), () => {
      f.if(B.is("INFINITY").and(same.eqz()), () => f.return(f.call(runtime.fpInvalid, format)));
      raiseDenormal(f, B);
      f.return(special(f, runtime, A.sign, "INFINITY", format));
    });
    f.if(B.is("INFINITY"), () => {
      raiseDenormal(f, A);
      f.return(special(f, runtime, B.sign, "INFINITY", format));
    });
    raiseDenormal(f, A, B);
    const zeroSign = (): I32 => same.select(A.sign, control().and(FPU_CONTROL.ROUNDING).eq(DOWN));
    f.if(A.is("ZERO"), () => {
      f.if(B.is("ZERO"), () => f.return(special(f, runtime, zeroSign(), "ZERO", format)));
      f.return(f.call(runtime.fpRound, B.sign, B.exponent, B.significand, i64(0n), format));
    });
    f.if(B.is("ZERO"), () => f.return(f.call(runtime.fpRound, A.sign, A.exponent, A.significand, i64(0n), format)));
    // Larger magnitude first.
    const swap = f.tmp(A.exponent.ltS(B.exponent).or(A.exponent.eq(B.exponent).and(A.significand.ltU(B.significand))));
    const sign = f.tmp(swap.select(B.sign, A.sign));
    const exponent = f.tmp(swap.select(B.exponent, A.exponent));
    const large = f.tmp(swap.select(B.significand, A.significand));
    const high = f.local("i64");
    const low = f.local("i64");
    f.set(high, swap.select(A.significand, B.significand));
    f.set(low, i64(0n));
    shiftRight(f, high, low, f.tmp(exponent.sub(swap.select(A.exponent, B.exponent))));
    f.if(same, () => {
      const sum = f.tmp(large.add(high.get));
      f.if(sum.ltU(large), () => {
        const lost = low.get.and(1n);
        const newLow = sum.shl(63n).or(low.get.shrU(1n)).or(lost);
        f.return(f.call(runtime.fpRound, sign, exponent.add(1), sum.shrU(1n).or(TOP), newLow, format));
      });
      f.return(f.call(runtime.fpRound, sign, exponent, sum, low.get, format));
    });
    const differenceLow = f.tmp(i64(0n).sub(low.get));
    const difference = f.tmp(large.sub(high.get).sub(low.get.ne(0n).toI64U()));
    f.if(difference.or(differenceLow).eqz(), () => {
      f.return(special(f, runtime, control().and(FPU_CONTROL.ROUNDING).eq(DOWN), "ZERO", format));
    });
    f.return(normalised(f, runtime, sign, exponent, difference, differenceLow, format));
  });
}

/** Rounds a non-zero 128-bit significand after moving its leading one to the top. */
function normalised(
  f: FunctionBuilder,
  runtime: CoreRuntime,
  sign: I32,
  exponent: I32,
  high: I64,
  low: I64,
  format: I32,
): I64 {
  const h = f.temporary("i64");
  const l = f.temporary("i64");
  const e = f.temporary("i32");
  f.set(h, high);
  f.set(l, low);
  f.set(e, exponent);
  f.if(h.get.eqz(), () => {
    f.set(h, l.get);
    f.set(l, i64(0n));
    f.set(e, e.get.sub(64));
  });
  const shift = f.tmp(h.get.clz());
  f.if(shift.ne(0n), () => {
    f.set(h, h.get.shl(shift).or(l.get.shrU(i64(64n).sub(shift))));
    f.set(l, l.get.shl(shift));
    f.set(e, e.get.sub(shift.toI32()));
  });
  return f.call(runtime.fpRound, sign, e.get, h.get, l.get, format);
}

function defineMultiply(module: ModuleBuilder, runtime: CoreRuntime): void {
  module.define(runtime.fpMultiply, (f) => {
    const format = f.parameter(0, "i32").get;
    f.if(A.isNan.or(B.isNan), () => f.return(f.call(runtime.fpNan, format)));
    const sign = f.tmp(A.sign.xor(B.sign));
    f.if(
      A.is("INFINITY")
        .and(B.is("ZERO"))
        .or(A.is("ZERO").and(B.is("INFINITY"))),
      () => f.return(f.call(runtime.fpInvalid, format)),
    );
    raiseDenormal(f, A, B);
    f.if(A.is("INFINITY").or(B.is("INFINITY")), () => f.return(special(f, runtime, sign, "INFINITY", format)));
    f.if(A.is("ZERO").or(B.is("ZERO")), () => f.return(special(f, runtime, sign, "ZERO", format)));
    const high = f.tmp(f.call(runtime.multiplyHigh, A.significand, B.significand));
    const low = f.tmp(A.significand.mul(B.significand));
    f.return(normalised(f, runtime, sign, A.exponent.add(B.exponent).add(1), high, low, format));
  });
}

function defineDivide(module: ModuleBuilder, runtime: CoreRuntime): void {
  module.define(runtime.fpDivide, (f) => {
    const format = f.parameter(0, "i32").get;
    f.if(A.isNan.or(B.isNan), () => f.return(f.call(runtime.fpNan, format)));
    const sign = f.tmp(A.sign.xor(B.sign));
    const bothZero = A.is("ZERO").and(B.is("ZERO"));
    f.if(bothZero.or(A.is("INFINITY").and(B.is("INFINITY"))), () => f.return(f.call(runtime.fpInvalid, format)));
    f.if(B.is("ZERO").and(A.is("FINITE")), () => {
      raise(f, FLAG.ZERO_DIVIDE);
      f.return(special(f, runtime, sign, "INFINITY", format));
    });
    raiseDenormal(f, A, B);
    f.if(A.is("INFINITY"), () => f.return(special(f, runtime, sign, "INFINITY", format)));
    f.if(A.is("ZERO").or(B.is("INFINITY")), () => f.return(special(f, runtime, sign, "ZERO", format)));
    const divisor = f.tmp(B.significand);
    const exponent = f.local("i32");
    const rest = f.local("i64");
    const low = f.local("i64");
    f.set(exponent, A.exponent.sub(B.exponent));
    f.set(rest, A.significand);
    f.set(low, i64(0n));
    // The dividend must be below the divisor; then the quotient of 64 bits has its leading one at the top after one step at most.
    f.if(
      rest.get.geU(divisor),
      () => {
        f.set(low, rest.get.shl(63n));
        f.set(rest, rest.get.shrU(1n));
      },
      () => f.set(exponent, exponent.get.sub(1)),
    );
    const quotient = f.tmp(f.call(runtime.divide128, rest.get, low.get, divisor));
    f.set(rest, load.i64(i32(LOCAL.SCRATCH)));
    const more = f.tmp(f.call(runtime.divide128, rest.get, i64(0n), divisor));
    const sticky = load.i64(i32(LOCAL.SCRATCH)).ne(0n).toI64U();
    f.return(normalised(f, runtime, sign, exponent.get, quotient, more.or(sticky), format));
  });
}

function defineSquareRoot(module: ModuleBuilder, runtime: CoreRuntime): void {
  module.define(runtime.fpSquareRoot, (f) => {
    const format = f.parameter(0, "i32").get;
    f.if(A.isNan, () => {
      B.set(f, { class: FPU_CLASS.ZERO });
      f.return(f.call(runtime.fpNan, format));
    });
    f.if(A.is("ZERO"), () => f.return(special(f, runtime, A.sign, "ZERO", format)));
    f.if(A.sign, () => f.return(f.call(runtime.fpInvalid, format)));
    f.if(A.is("INFINITY"), () => f.return(special(f, runtime, i32(0), "INFINITY", format)));
    raiseDenormal(f, A);
    // Radicand of 128 bits with an even exponent: the root has its leading one at the top of 64 bits.
    const odd = f.tmp(A.exponent.and(1));
    const high = f.local("i64");
    const low = f.local("i64");
    f.set(high, odd.select(A.significand, A.significand.shrU(1n)));
    f.set(low, odd.select(i64(0n), A.significand.shl(63n)));
    const root = f.local("i64");
    const restHigh = f.local("i64");
    const restLow = f.local("i64");
    const count = f.local("i32");
    const trialLow = f.local("i64");
    const trialHigh = f.local("i64");
    f.set(count, i32(64));
    f.loop((again) => {
      f.set(restHigh, restHigh.get.shl(2n).or(restLow.get.shrU(62n)));
      f.set(restLow, restLow.get.shl(2n).or(high.get.shrU(62n)));
      f.set(high, high.get.shl(2n).or(low.get.shrU(62n)));
      f.set(low, low.get.shl(2n));
      f.set(trialHigh, root.get.shrU(62n));
      f.set(trialLow, root.get.shl(2n).or(1n));
      f.set(root, root.get.shl(1n));
      const fits = restHigh.get
        .gtU(trialHigh.get)
        .or(restHigh.get.eq(trialHigh.get).and(restLow.get.geU(trialLow.get)));
      f.if(fits, () => {
        f.set(restHigh, restHigh.get.sub(trialHigh.get).sub(restLow.get.ltU(trialLow.get).toI64U()));
        f.set(restLow, restLow.get.sub(trialLow.get));
        f.set(root, root.get.or(1n));
      });
      f.set(count, count.get.sub(1));
      f.brIf(again, count.get);
    });
    // Above one half iff the remainder exceeds the root; exactly one half cannot be.
    const above = restHigh.get.ne(0n).or(restLow.get.gtU(root.get));
    const inexact = restHigh.get.or(restLow.get).ne(0n).toI64U();
    const tail = f.tmp(above.select(i64(TOP), i64(0n)).or(inexact));
    f.return(f.call(runtime.fpRound, i32(0), A.exponent.shrS(1), root.get, tail, format));
  });
}

function defineConvert(module: ModuleBuilder, runtime: CoreRuntime): void {
  module.define(runtime.fpConvert, (f) => {
    const format = f.parameter(0, "i32").get;
    f.if(A.isNan, () => {
      B.set(f, { class: FPU_CLASS.ZERO });
      f.return(f.call(runtime.fpNan, format));
    });
    raiseDenormal(f, A);
    f.if(A.is("FINITE"), () => f.return(f.call(runtime.fpRound, A.sign, A.exponent, A.significand, i64(0n), format)));
    f.return(f.call(runtime.fpSpecial, A.sign, A.class, i64(TOP), format));
  });
}

/** |A| as an integer of up to 64 bits, rounded: the magnitude, and PE. Only for exponents below 64. */
function integerPart(f: FunctionBuilder, rounding: I32): I64 {
  const high = f.local("i64");
  const low = f.local("i64");
  f.set(high, A.significand);
  f.set(low, i64(0n));
  shiftRight(f, high, low, f.tmp(i32(63).sub(A.exponent)));
  const up = roundsUp(f, rounding, A.sign, high.get.toI32().and(1), low.get, i32(0));
  f.emit(store.i32(i32(FPU.ROUNDED_UP), up));
  f.if(low.get.ne(0n), () => raise(f, FLAG.PRECISION));
  return f.tmp(high.get.add(up.toI64U()));
}

function defineIntegers(module: ModuleBuilder, runtime: CoreRuntime): void {
  module.define(runtime.fpRoundToIntegral, (f) => {
    const format = f.parameter(0, "i32").get;
    f.if(A.isNan, () => {
      B.set(f, { class: FPU_CLASS.ZERO });
      f.return(f.call(runtime.fpNan, format));
    });
    f.if(A.is("FINITE").eqz(), () => f.return(f.call(runtime.fpSpecial, A.sign, A.class, i64(TOP), format)));
    f.if(A.exponent.geS(63), () =>
      f.return(f.call(runtime.fpRound, A.sign, A.exponent, A.significand, i64(0n), format)),
    );
    const magnitude = integerPart(f, f.parameter(1, "i32").get);
    const up = f.tmp(load.i32(i32(FPU.ROUNDED_UP)));
    const result = f.local("i64");
    f.if(
      magnitude.eqz(),
      () => f.set(result, special(f, runtime, A.sign, "ZERO", format)),
      () => f.set(result, normalised(f, runtime, A.sign, i32(63), magnitude, i64(0n), format)),
    );
    f.emit(store.i32(i32(FPU.ROUNDED_UP), up));
    f.return(result.get);
  });

  module.define(runtime.fpToInteger, (f) => {
    const bits = f.parameter(0, "i32").get.toI64U();
    const limit = f.tmp(i64(1n).shl(bits.sub(1n)));
    f.if(A.is("ZERO"), () => f.return(i64(0n)));
    f.if(A.is("FINITE").and(A.exponent.ltS(64)), () => {
      const before = f.tmp(load.i32(i32(FPU.FLAGS)));
      const magnitude = integerPart(f, f.parameter(1, "i32").get);
      const overflows = A.exponent
        .eq(63)
        .and(magnitude.eqz())
        .or(magnitude.gtU(limit.sub(A.sign.eqz().toI64U())));
      f.if(overflows.eqz(), () => f.return(A.sign.select(magnitude.neg(), magnitude)));
      f.emit(store.i32(i32(FPU.FLAGS), before));
    });
    raise(f, FLAG.INVALID);
    f.return(limit.neg());
  });
}

function defineCompare(module: ModuleBuilder, runtime: CoreRuntime): void {
  const EQUAL = 0;
  const LESS = 1;
  const GREATER = 2;
  const UNORDERED = 3;
  module.define(runtime.fpCompare, (f) => {
    f.if(A.isNan.or(B.isNan), () => {
      const signaling = A.is("SIGNALING").or(B.is("SIGNALING"));
      f.if(signaling.or(f.parameter(0, "i32").get), () => raise(f, FLAG.INVALID));
      f.return(i32(UNORDERED));
    });
    raiseDenormal(f, A, B);
    f.if(A.is("ZERO").and(B.is("ZERO")), () => f.return(i32(EQUAL)));
    // Sign of the answer if the magnitude of A is the larger one.
    const larger = f.tmp(A.sign.select(i32(LESS), i32(GREATER)));
    const smaller = f.tmp(A.sign.select(i32(GREATER), i32(LESS)));
    f.if(A.is("ZERO"), () => f.return(B.sign.select(i32(GREATER), i32(LESS))));
    f.if(B.is("ZERO").or(A.sign.ne(B.sign)), () => f.return(larger));
    f.if(A.is("INFINITY").or(B.is("INFINITY")), () => {
      f.if(A.class.eq(B.class), () => f.return(i32(EQUAL)));
      f.return(A.is("INFINITY").select(larger, smaller));
    });
    f.if(A.exponent.ne(B.exponent), () => f.return(A.exponent.gtS(B.exponent).select(larger, smaller)));
    f.if(A.significand.eq(B.significand), () => f.return(i32(EQUAL)));
    f.return(A.significand.gtU(B.significand).select(larger, smaller));
  });
}

export function defineFpuArithmetic(module: ModuleBuilder, runtime: CoreRuntime): void {
  defineNan(module, runtime);
  defineAdd(module, runtime);
  defineMultiply(module, runtime);
  defineDivide(module, runtime);
  defineSquareRoot(module, runtime);
  defineConvert(module, runtime);
  defineIntegers(module, runtime);
  defineCompare(module, runtime);
}
