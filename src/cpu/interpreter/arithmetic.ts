import { i32, i64, store } from "../../wasm/expression.js";
import type { ModuleBuilder } from "../../wasm/module.js";
import { LOCAL } from "../layout.js";
import type { CoreRuntime } from "./runtime.js";

/** Integer arithmetic wider than WebAssembly's. */
export function defineArithmetic(module: ModuleBuilder, runtime: CoreRuntime): void {
  module.define(runtime.multiplyHigh, (f) => {
    const a = f.parameter(0, "i64").get;
    const b = f.parameter(1, "i64").get;
    const low = 0xffff_ffffn;
    const aLow = f.tmp(a.and(low));
    const aHigh = f.tmp(a.shrU(32n));
    const bLow = f.tmp(b.and(low));
    const bHigh = f.tmp(b.shrU(32n));
    const middle = f.tmp(aHigh.mul(bLow).add(aLow.mul(bLow).shrU(32n)));
    const other = f.tmp(aLow.mul(bHigh).add(middle.and(low)));
    f.return(aHigh.mul(bHigh).add(middle.shrU(32n)).add(other.shrU(32n)));
  });

  module.define(runtime.divide128, (f) => {
    const rest = f.parameter(0, "i64");
    const low = f.parameter(1, "i64");
    const divisor = f.parameter(2, "i64").get;
    const count = f.local("i32");
    const carry = f.local("i64");
    f.set(count, i32(64));
    f.loop((again) => {
      // One bit of the quotient a turn: it takes the place of the bit of the dividend that has been used.
      f.set(carry, rest.get.shrU(63n));
      f.set(rest, rest.get.shl(1n).or(low.get.shrU(63n)));
      f.set(low, low.get.shl(1n));
      f.if(carry.get.ne(0n).or(rest.get.geU(divisor)), () => {
        f.set(rest, rest.get.sub(divisor));
        f.set(low, low.get.or(1n));
      });
      f.set(count, count.get.sub(1));
      f.brIf(again, count.get);
    });
    f.emit(store.i64(i32(LOCAL.SCRATCH), rest.get));
    f.return(low.get.add(i64(0n)));
  });
}
