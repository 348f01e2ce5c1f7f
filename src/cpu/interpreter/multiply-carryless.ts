import { i64, v128 } from "../../wasm/expression.js";
import type { ModuleBuilder } from "../../wasm/module.js";
import type { VectorRuntime } from "../isa/vector-runtime.js";

/** Adds one shifted copy of the first factor for each bit of the second. */
export function defineMultiplyCarryless(module: ModuleBuilder, runtime: VectorRuntime): void {
  module.define(runtime.multiplyCarryless, (f) => {
    const a = f.parameter(0, "i64").get;
    const b = f.parameter(1, "i64");
    const low = f.local("i64");
    const high = f.local("i64");
    f.block((done) => {
      f.loop((again) => {
        f.brIf(done, b.get.eqz());
        const n = f.tmp(b.get.ctz());
        f.set(low, low.get.xor(a.shl(n)));
        f.set(high, high.get.xor(a.shrU(1n).shrU(i64(63n).sub(n))));
        f.set(b, b.get.and(b.get.sub(1n)));
        f.br(again);
      });
    });
    f.return(v128(0n, 0n).withLane64(0, low.get).withLane64(1, high.get));
  });
}
