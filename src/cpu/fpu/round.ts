import { type I32, type I64, i32, i64, store } from "../../wasm/expression.js";
import type { FunctionBuilder, Local } from "../../wasm/function.js";
import type { ModuleBuilder } from "../../wasm/module.js";
import { FPU, FPU_CLASS, FPU_CONTROL } from "../layout.js";
import { EXTENDED_FROM, FLAG, FORMAT, FORMATS, type Format } from "./format.js";
import { control, raise } from "./operand.js";
import type { FpuRuntime } from "./runtime.js";

const RC = { NEAREST: 0, DOWN: 1, UP: 2, ZERO: 3 } as const;
const HALF = 1n << 63n;
const WRAP = 24576;

/** A number by format, chosen at run time. */
function byFormat(format: I32, value: (format: Format) => number): I32 {
  return FORMATS.slice(1).reduce(
    (chosen, one) => format.eq(one.number).select(i32(value(one)), chosen),
    i32(value(FORMATS[0] as Format)),
  );
}

/** 1 if what is cut off makes the kept part one larger. `rest` has the first bit cut off at bit 63, `sticky` the rest. */
export function roundsUp(f: FunctionBuilder, rounding: I32, sign: I32, odd: I32, rest: I64, sticky: I32): I32 {
  const result = f.temporary("i32");
  const inexact = f.tmp(rest.ne(0n).or(sticky));
  f.if(
    rounding.eq(RC.NEAREST),
    () =>
      f.set(
        result,
        rest
          .gtU(HALF)
          .or(rest.eq(HALF).and(sticky.or(odd)))
          .and(1),
      ),
    () => f.set(result, rounding.eq(RC.DOWN).and(sign).or(rounding.eq(RC.UP).and(sign.eqz())).and(inexact)),
  );
  return result.get;
}

/** Puts sign, biased exponent and significand together; double-extended goes to FPU.RESULT. */
function pack(f: FunctionBuilder, format: I32, sign: I32, exponent: I32, significand: I64): void {
  f.if(format.eq(FORMAT.SINGLE.number), () => {
    const fraction = significand.shrU(40n).and((1n << 23n) - 1n);
    f.return(sign.toI64U().shl(31n).or(exponent.toI64U().shl(23n)).or(fraction));
  });
  f.if(format.eq(FORMAT.DOUBLE.number), () => {
    const fraction = significand.shrU(11n).and((1n << 52n) - 1n);
    f.return(sign.toI64U().shl(63n).or(exponent.toI64U().shl(52n)).or(fraction));
  });
  f.emit(store.i64(i32(FPU.RESULT), significand));
  f.emit(store.i32(i32(FPU.RESULT_EXPONENT), sign.shl(15).or(exponent)));
  f.return(significand);
}

function defineRounding(module: ModuleBuilder, runtime: FpuRuntime): void {
  module.define(runtime.fpRound, (f) => {
    const sign = f.parameter(0, "i32").get;
    const exponent = f.parameter(1, "i32");
    const high = f.parameter(2, "i64");
    const low = f.parameter(3, "i64");
    const format = f.parameter(4, "i32").get;
    const precision = f.tmp(byFormat(format, ({ precision: bits }) => bits).toI64U());
    const minimum = f.tmp(byFormat(format, ({ minimum: least }) => least));
    const maximum = f.tmp(byFormat(format, ({ maximum: most }) => most));
    const rounding = f.tmp(control().and(FPU_CONTROL.ROUNDING));
    const cut = f.tmp(i64(64n).sub(precision));
    const tiny = f.local("i32");
    const rest = f.local("i64");
    const sticky = f.local("i32");
    const kept = f.local("i64");
    const up = f.local("i32");
    const unboundedInexact = f.local("i32");
    /** Splits into what is kept and what is cut off. With 64 bits of precision the low half is what is cut off. */
    const split = (): void => {
      f.if(
        cut.eqz(),
        () => {
          f.set(kept, high.get);
          f.set(rest, low.get);
          f.set(sticky, i32(0));
        },
        () => {
          f.set(kept, high.get.shrU(cut));
          f.set(rest, high.get.shl(precision));
          f.set(sticky, low.get.ne(0n));
        },
      );
      f.set(up, roundsUp(f, rounding, sign, kept.get.toI32().and(1), rest.get, sticky.get));
    };
    split();
    const extended = f.tmp(format.geU(EXTENDED_FROM));
    const unmasked = (bit: number): I32 => control().and(bit).ne(0).and(extended);
    // Tininess is found after rounding: just below the smallest normal number, rounding up to it is not tiny.
    const carries = f.tmp(
      kept.get
        .add(up.get.toI64U())
        .shrU(precision.sub(1n))
        .gtU(1n)
        .or(cut.eqz().and(kept.get.add(up.get.toI64U()).eqz())),
    );
    const reaches = f.tmp(exponent.get.eq(minimum.sub(1)).and(carries));
    // With the exception unmasked a register gets the exponent wrapped by 3 * 2^13, so that a handler can go on.
    const trapped = unmasked(FPU_CONTROL.UNDERFLOW_UNMASKED).and(reaches.eqz());
    f.if(exponent.get.ltS(minimum).and(trapped), () => {
      raise(f, FLAG.UNDERFLOW);
      f.set(exponent, exponent.get.add(WRAP));
    });
    f.if(exponent.get.ltS(minimum), () => {
      f.set(tiny, reaches.eqz());
      f.if(tiny.get.and(control().shrU(3)).and(1), () => {
        raise(f, FLAG.UNDERFLOW | FLAG.PRECISION);
        f.emit(store.i32(i32(FPU.ROUNDED_UP), i32(0)));
        f.return(f.call(runtime.fpSpecial, sign, i32(FPU_CLASS.ZERO), i64(0n), format));
      });
      f.set(unboundedInexact, rest.get.ne(0n).or(sticky.get));
      const shift = f.tmp(minimum.sub(exponent.get));
      shiftRight(f, high, low, shift);
      f.set(exponent, minimum);
      split();
    });
    const inexact = f.tmp(rest.get.ne(0n).or(sticky.get));
    f.emit(store.i32(i32(FPU.ROUNDED_UP), up.get));
    f.set(kept, kept.get.add(up.get.toI64U()));
    // A carry out of the top: the significand becomes 1.0 and the exponent one more.
    const carried = cut
      .eqz()
      .select(kept.get.eqz().and(up.get), kept.get.shrU(precision.and(63n)).ne(0n).and(cut.ne(0n)));
    f.if(carried, () => {
      f.set(kept, i64(1n).shl(precision.sub(1n)));
      f.set(exponent, exponent.get.add(1));
    });
    f.if(exponent.get.gtS(maximum).and(unmasked(FPU_CONTROL.OVERFLOW_UNMASKED)), () => {
      raise(f, FLAG.OVERFLOW);
      f.set(exponent, exponent.get.sub(WRAP));
    });
    f.if(exponent.get.gtS(maximum), () => {
      raise(f, FLAG.OVERFLOW);
      f.if(inexact.or(control().and(FPU_CONTROL.OVERFLOW_UNMASKED).eqz()), () => raise(f, FLAG.PRECISION));
      const toInfinity = rounding
        .eq(RC.NEAREST)
        .or(rounding.eq(RC.UP).and(sign.eqz()))
        .or(rounding.eq(RC.DOWN).and(sign));
      f.emit(store.i32(i32(FPU.ROUNDED_UP), toInfinity));
      f.if(toInfinity, () => f.return(f.call(runtime.fpSpecial, sign, i32(FPU_CLASS.INFINITY), i64(HALF), format)));
      const most = f.tmp(i64(-1n).shl(cut));
      pack(f, format, sign, maximum.shl(1), most);
    });
    // With underflow unmasked, PE is that of a result whose exponent has no bounds.
    const trapping = f.tmp(tiny.get.and(control().and(FPU_CONTROL.UNDERFLOW_UNMASKED).ne(0)));
    f.if(trapping.select(unboundedInexact.get, inexact), () => raise(f, FLAG.PRECISION));
    f.if(trapping.or(tiny.get.and(inexact)), () => raise(f, FLAG.UNDERFLOW));
    const significand = f.tmp(kept.get.shl(cut));
    // The bias is the largest exponent; a number without its leading one is denormal.
    const biased = significand.ltS(0n).select(exponent.get.add(maximum), i32(0));
    pack(f, format, sign, f.tmp(biased), significand);
    f.unreachable();
  });
}

/** Shifts a 128-bit significand right; bits that fall out stay as a sticky lowest bit. */
export function shiftRight(f: FunctionBuilder, h: Local<"i64">, l: Local<"i64">, shift: I32): void {
  const count = f.tmp(shift.toI64U());
  f.if(count.eqz().eqz(), () => {
    f.if(
      count.geU(128n),
      () => {
        f.set(l, h.get.or(l.get).ne(0n).toI64U());
        f.set(h, i64(0n));
      },
      () => {
        f.if(
          count.geU(64n),
          () => {
            const lost = f.tmp(
              l.get
                .ne(0n)
                .or(h.get.shl(i64(127n).sub(count)).shl(1n).ne(0n))
                .toI64U(),
            );
            f.set(l, h.get.shrU(count.sub(64n)).or(lost));
            f.set(h, i64(0n));
          },
          () => {
            const lost = f.tmp(l.get.shl(i64(64n).sub(count)).ne(0n).toI64U());
            f.set(
              l,
              l.get
                .shrU(count)
                .or(h.get.shl(i64(64n).sub(count)))
                .or(lost),
            );
            f.set(h, h.get.shrU(count));
          },
        );
      },
    );
  });
}

function defineSpecial(module: ModuleBuilder, runtime: FpuRuntime): void {
  module.define(runtime.fpSpecial, (f) => {
    const sign = f.parameter(0, "i32").get;
    const kind = f.parameter(1, "i32").get;
    const significand = f.parameter(2, "i64").get;
    const format = f.parameter(3, "i32").get;
    const most = f.tmp(byFormat(format, ({ maximum }) => 2 * maximum + 1));
    f.if(kind.eqz(), () => pack(f, format, sign, i32(0), i64(0n)));
    pack(f, format, sign, most, kind.eq(FPU_CLASS.INFINITY).select(i64(HALF), significand.or(3n << 62n)));
    f.unreachable();
  });

  module.define(runtime.fpInvalid, (f) => {
    raise(f, FLAG.INVALID);
    f.return(f.call(runtime.fpSpecial, i32(1), i32(FPU_CLASS.QUIET), i64(3n << 62n), f.parameter(0, "i32").get));
  });
}

export function defineRound(module: ModuleBuilder, runtime: FpuRuntime): void {
  defineRounding(module, runtime);
  defineSpecial(module, runtime);
}
