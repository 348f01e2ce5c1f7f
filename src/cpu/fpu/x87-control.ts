import { type I32, i32, load, store } from "../../wasm/expression.js";
import type { ModuleBuilder } from "../../wasm/module.js";
import type { CoreRuntime } from "../interpreter/runtime.js";
import { FPU, FPU_CONTROL, REG } from "../layout.js";
import { FLAG } from "./format.js";

/** Status word: flags 5:0, SF 6, ES 7, C0 8, C1 9, C2 10, TOP 13:11, C3 14, B 15. */
export const STATUS = {
  STACK_FAULT: 0x40,
  SUMMARY: 0x8080,
  C0: 0x100,
  C1: 0x200,
  C2: 0x400,
  C3: 0x4000,
  CODES: 0x4700,
} as const;
/** Control word: masks 5:0, PC 9:8, RC 11:10. */
const ROUNDING_SHIFT = 10;

/** How an x87 instruction begins and ends with soft-float. */
export function defineX87Control(module: ModuleBuilder, runtime: CoreRuntime): void {
  const fcw = load.i32_16U(i32(REG.FCW));
  const fsw = load.i32_16U(i32(REG.FSW));
  module.define(runtime.fpBeginX87, (f) => {
    const unmasked = (flag: number, bit: number): I32 => fcw.and(flag).eqz().mul(bit);
    const value = fcw
      .shrU(ROUNDING_SHIFT)
      .and(FPU_CONTROL.ROUNDING)
      .or(unmasked(FLAG.UNDERFLOW, FPU_CONTROL.UNDERFLOW_UNMASKED))
      .or(unmasked(FLAG.OVERFLOW, FPU_CONTROL.OVERFLOW_UNMASKED));
    f.emit(store.i32(i32(FPU.CONTROL), value));
    f.emit(store.i32(i32(FPU.FLAGS), i32(0)));
    f.emit(store.i32(i32(FPU.ROUNDED_UP), i32(0)));
  });

  module.define(runtime.fpEndX87, (f) => {
    const toMemory = f.parameter(0, "i32").get;
    const flags = f.local("i32");
    f.set(flags, load.i32(i32(FPU.FLAGS)));
    const unmasked = f.tmp(flags.get.and(fcw.xor(-1)).and(0x3f));
    const before = FLAG.INVALID | FLAG.DENORMAL | FLAG.ZERO_DIVIDE;
    f.if(unmasked.and(before), () => f.set(flags, flags.get.and(before | STATUS.STACK_FAULT)));
    // Nothing is stored in memory when overflow or underflow is unmasked: then there is nothing inexact either.
    f.if(toMemory.and(unmasked.and(FLAG.OVERFLOW | FLAG.UNDERFLOW).ne(0)), () =>
      f.set(flags, flags.get.and(~FLAG.PRECISION)),
    );
    // C1 tells the direction of rounding; a stack overflow has said 1 itself.
    const up = flags.get
      .and(FLAG.PRECISION)
      .ne(0)
      .and(load.i32(i32(FPU.ROUNDED_UP)))
      .mul(STATUS.C1);
    const summary = unmasked.ne(0).mul(STATUS.SUMMARY);
    f.emit(store.i32_16(i32(REG.FSW), fsw.or(flags.get).or(up).or(summary)));
    const memory = before | FLAG.OVERFLOW | FLAG.UNDERFLOW;
    f.return(unmasked.and(toMemory.select(i32(memory), i32(before))).ne(0));
  });
}
