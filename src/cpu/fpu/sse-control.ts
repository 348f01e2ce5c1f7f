import { i32, load, store } from "../../wasm/expression.js";
import type { ModuleBuilder } from "../../wasm/module.js";
import type { CoreRuntime } from "../interpreter/runtime.js";
import { FPU, FPU_CONTROL, REG } from "../layout.js";

/** MXCSR: flags 5:0, DAZ 6, masks 12:7, RC 14:13, FZ 15. */
const MXCSR = { DAZ: 6, MASKS: 7, OVERFLOW_MASK: 10, UNDERFLOW_MASK: 11, ROUNDING: 13, FLUSH: 15 } as const;
/** Exceptions found before computing: invalid, denormal, zero divide. */
const BEFORE = 7;
const OSXMMEXCPT = 0x400n;
const UD = 6;
const XM = 19;

/** How an SSE instruction begins and ends with soft-float. */
export function defineSseControl(module: ModuleBuilder, runtime: CoreRuntime): void {
  const mxcsr = load.i32(i32(REG.MXCSR));
  module.define(runtime.fpBeginSse, (f) => {
    const bit = (n: number): ReturnType<typeof mxcsr.and> => mxcsr.shrU(n).and(1);
    const masked = f.tmp(bit(MXCSR.UNDERFLOW_MASK));
    const value = mxcsr
      .shrU(MXCSR.ROUNDING)
      .and(FPU_CONTROL.ROUNDING)
      .or(bit(MXCSR.DAZ).mul(FPU_CONTROL.DENORMALS_ARE_ZERO))
      .or(bit(MXCSR.FLUSH).and(masked).mul(FPU_CONTROL.FLUSH_TO_ZERO))
      .or(masked.xor(1).mul(FPU_CONTROL.UNDERFLOW_UNMASKED))
      .or(bit(MXCSR.OVERFLOW_MASK).xor(1).mul(FPU_CONTROL.OVERFLOW_UNMASKED));
    f.emit(store.i32(i32(FPU.CONTROL), value));
    f.emit(store.i32(i32(FPU.FLAGS), i32(0)));
  });

  module.define(runtime.fpEndSse, (f) => {
    const flags = f.local("i32");
    f.set(flags, load.i32(i32(FPU.FLAGS)));
    const unmasked = f.tmp(flags.get.and(mxcsr.shrU(MXCSR.MASKS).xor(-1)).and(0x3f));
    // With an unmasked exception before computing nothing is computed, so that nothing is found after it.
    f.if(unmasked.and(BEFORE), () => f.set(flags, flags.get.and(BEFORE)));
    f.emit(store.i32(i32(REG.MXCSR), mxcsr.or(flags.get)));
    f.if(unmasked.eqz(), () => f.return(i32(0)));
    const enabled = load.i64(i32(REG.CR4)).and(OSXMMEXCPT).ne(0n);
    f.callStatement(runtime.raise, enabled.select(i32(XM), i32(UD)), i32(-1));
    f.return(i32(1));
  });
}
